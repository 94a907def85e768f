"""Support sets to averaged discriminants: all that is fitted, many sets of one shape at a time."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from frofa.estimators.solvers.shrinkage.averaging import (
    PATIENCE,
    LeftOut,
    average_left_out,
    factors_of,
    log_prior,
    rate,
    step_of,
    weigh,
)
from frofa.estimators.solvers.shrinkage.path import decompose, span
from frofa.estimators.solvers.shrinkage.spaces import (
    SPACES,
    Block,
    Stage,
    copy_residuals,
    fit_stages,
    spaces_of,
    view_residuals,
)
from frofa.estimators.solvers.shrinkage.statistics import Statistics
from frofa.estimators.solvers.shrinkage.temperature import NEVER, Targets

PRIOR_SAMPLES = 20.0
"""Samples that the scatter of the views within images, and of augmented copies of them, is worth."""


class Problems(NamedTuple):
    """B support sets of one shape.

    Each block is a sequence of views (B, n, C), and has a share (B, n_blocks), of sum 1; codes and weights are (B, n),
    the latter zero for rows that only fill up the shape. Logarithms of class priors are (B, K); None are those of the
    weights, which are refitted for a sample left out. Images without labels, blocks of views (1, m, C) that all sets
    share, may be none, and so may augmented copies of the views of each block, as in `copy_residuals`.
    """

    blocks: Sequence[Block]
    shares: Tensor
    codes: Tensor
    weights: Tensor
    n_classes: int
    log_priors: Tensor | None
    background: Sequence[Block] = ()
    copies: Sequence[Block] = ()


class Solution(NamedTuple):
    """Averaged discriminants of B support sets.

    Logits are the sum over spaces of ``features @ coef'``, coef (B, K, D), plus the intercept (B, K). Members have
    inverse temperatures, losses and weights (B, spaces, L, G). `left_out` (B, n, K) are logits of samples without
    themselves, NaN where they cannot be had.
    """

    stages: list[Stage]
    shares: Tensor
    coefs: list[Tensor]
    intercept: Tensor
    scales: Tensor
    losses: Tensor
    weights: Tensor
    left_out: Tensor


class Members(NamedTuple):
    """Members of all spaces, before they are averaged.

    Each space has its left-out samples; inverse temperatures, losses and logarithms of what is expected are (B, spaces,
    L, G). Losses count as those of `n_rated` (B,) equally weighted samples.
    """

    stages: list[Stage]
    log_priors: Tensor
    targets: Targets
    lefts: list[LeftOut]
    scales: Tensor
    losses: Tensor
    expected: Tensor
    n_rated: Tensor

    @property
    def evidence(self) -> Tensor:
        """Logarithms (B,) of the likelihoods that members are weighed by, averaged over what is expected of them."""
        return torch.logsumexp(
            (self.expected - self.n_rated[:, None, None, None] / PATIENCE * self.losses).flatten(1), 1
        )


def rate_members(problems: Problems, n_spaces: int = len(SPACES)) -> Members:
    """Normalise, decompose, leave out and calibrate, in the first so many spaces."""
    problems = problems._replace(weights=_of_mean_one(problems.weights))
    codes, weights, n_classes = problems.codes, problems.weights, problems.n_classes
    stages = fit_stages(problems.blocks, problems.shares, codes, weights, n_classes, problems.background)[:n_spaces]
    # Rows that only fill up the shape are to span nothing.
    used = (weights > 0).to(weights.dtype).unsqueeze(2)
    rows = spaces_of(problems.blocks, problems.shares, stages)
    spaces = [Statistics.of(each * used, codes, weights, n_classes) for each in rows]
    log_priors, targets = _targets(problems, spaces[0])
    bases = [span(known) for known in spaces]
    scatters = _prior_scatters(problems, stages, bases)
    lefts = [LeftOut.of(decompose(*args)) for args in zip(spaces, bases, scatters, strict=True)]
    step = step_of(targets)
    rated = [rate(left, targets, step) for left in lefts]
    scales, losses = (torch.stack(part, 1) for part in zip(*rated, strict=True))
    expected = log_prior(spaces[0]).unsqueeze(1).expand_as(losses)
    return Members(stages, log_priors, targets, lefts, scales, losses, expected, targets.n_effective / step)


def fit(problems: Problems) -> Solution:
    """Average the members of all spaces, weighed together."""
    members = rate_members(problems)
    lefts, targets = members.lefts, members.targets
    weights = weigh(members.losses.flatten(1), members.expected.flatten(1), members.n_rated)
    weights = weights.reshape(members.losses.shape)
    factors = (weights * members.scales).unbind(1)
    combined = [left.path.combine(*factors_of(part), left.noise) for left, part in zip(lefts, factors, strict=True)]
    intercept = members.log_priors + torch.stack([one for _, one in combined]).sum(0)
    left_out = torch.stack([average_left_out(*each) for each in zip(lefts, factors, strict=True)]).sum(0)
    known = lefts[0].path.statistics.can_be_left_out.unsqueeze(2)
    left_out = torch.where(known, left_out + targets.offsets, torch.nan)
    coefs = [coef for coef, _ in combined]
    return Solution(
        members.stages, problems.shares, coefs, intercept, members.scales, members.losses, weights, left_out
    )


def _of_mean_one(weights: Tensor) -> Tensor:
    return weights * ((weights > 0).sum(1, keepdim=True) / weights.sum(1, keepdim=True))


def _prior_scatters(
    problems: Problems, stages: Sequence[Stage], bases: Sequence[Tensor | None]
) -> Sequence[Tensor | None]:
    """Sum up the scatter (B, r, r) of the views within images in each space, on the span of the samples.

    It is fixed from all images, as normalisations are: no label enters it. That of copies about their views is added,
    as an augmented view is off by both.
    """
    blocks, shares, n_views = problems.blocks, problems.shares, len(problems.blocks[0])
    scatters: list[Tensor | None] = [None] * len(stages)
    if n_views > 1:
        _add_scatters(scatters, view_residuals(blocks, shares, stages), n_views - 1, problems.weights, bases)
    if problems.copies:
        residuals = copy_residuals(blocks, problems.copies, shares, stages)
        _add_scatters(scatters, residuals, len(problems.copies[0]), problems.weights, bases)
    return scatters


def _add_scatters(
    scatters: list[Tensor | None],
    found: Iterable[Sequence[Tensor]],
    n_free: int,
    weights: Tensor,
    bases: Sequence[Tensor | None],
) -> None:
    """Add the scatter of residuals, of which each image has so many free ones, to that in each space."""
    root = (weights * (PRIOR_SAMPLES / (n_free * weights.sum(1, keepdim=True)))).sqrt().unsqueeze(2)
    for residuals in found:
        for number, (each, basis) in enumerate(zip(residuals, bases, strict=True)):
            rows = root * (each if basis is None else each @ basis)
            scatter, before = rows.mT @ rows, scatters[number]
            scatters[number] = scatter if before is None else before + scatter


def _targets(problems: Problems, known: Statistics) -> tuple[Tensor, Targets]:
    """Give logarithms of priors (B, K), and what left-out samples are rated by."""
    counted = torch.where(known.can_be_left_out, problems.weights, 0)
    n_effective = counted.sum(1) ** 2 / (counted**2).sum(1).clamp(min=1e-300)
    totals, n = known.totals, problems.weights.shape[1]
    if problems.log_priors is not None:
        log_priors = torch.where(totals > 0, problems.log_priors.clamp(min=NEVER), NEVER)
        offsets = log_priors.unsqueeze(1).expand(-1, n, -1)
        return log_priors, Targets(offsets, problems.codes, counted, n_effective)
    log_priors = torch.where(totals > 0, torch.log(totals / totals.sum(1, keepdim=True)), NEVER)
    # Without a sample, its class has the weight that is left; what all lose in common changes nothing.
    without = torch.log(torch.where(known.can_be_left_out, known.left / known.at_own_class(totals), 1))
    own = known.at_own_class(log_priors) + without
    offsets = log_priors.unsqueeze(1).expand(-1, n, -1).scatter(2, problems.codes.unsqueeze(2), own.unsqueeze(2))
    return log_priors, Targets(offsets, problems.codes, counted, n_effective)
