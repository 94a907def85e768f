"""A support set and a pool to an averaged discriminant: how much the pool counts is chosen by leave-one-out."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from frofa.compute.memory import row_chunks
from frofa.estimators.solvers.shrinkage.averaging import PATIENCE
from frofa.estimators.solvers.shrinkage.fitting import Problems, Solution, rate_members
from frofa.estimators.solvers.shrinkage.spaces import Block, spaces_of
from frofa.estimators.solvers.shrinkage.temperature import Targets, calibrate
from frofa.estimators.solvers.transduction.means import Means, Sample, learn
from frofa.estimators.solvers.transduction.metric import Metric, Products, sum_of

PARTS = (0.0, 0.5, 1.0, 2.0, 4.0)
"""Weights of the pool that are tried, in units of the samples with labels; 0 is the probe alone."""
MOST_FOLDS = 50
"""Groups in which samples are left out, at most; of more samples, each is left out with others of other classes."""
ELEMENTS = 2**22
"""Elements of class memberships of left-out samples that are worked on at a time: 32 MiB."""


class Learnt(NamedTuple):
    """A fitted discriminant, with what was made of each weight of the pool: losses and weights (n_parts,).

    Losses are NaN where no sample can be left out.
    """

    solution: Solution
    losses: Tensor
    weights: Tensor


def fit(problems: Problems, pool: Sequence[Block], weights: Tensor, n_steps: int) -> Learnt:
    """Fit to a single support set, whose background is the pool, and the rows of the pool, or some, to learn from.

    Blocks of the pool are views (1, m, C), and its weights are (m,).
    """
    members = rate_members(problems)
    metric = Metric.of(members)
    both = [
        [torch.cat(pair, 1) for pair in zip(*blocks, strict=True)] for blocks in zip(problems.blocks, pool, strict=True)
    ]
    rows = [each[0] for each in spaces_of(both, problems.shares, members.stages)]
    products, targets = Products.of(metric, rows), members.targets
    known = members.lefts[0].path.statistics
    shots = float(known.n_effective[0] / (known.totals > 0).sum().clamp(min=1))
    sample = Sample(problems.codes[0], known.weights[0], weights, members.log_priors[0], shots)
    whole = [learn(products, sample, sample.membership()[None], part, n_steps) for part in PARTS]
    can_be = known.can_be_left_out[0]
    left_out = _left_out(products, sample, metric.left_out, n_steps, can_be)
    scales, losses, counts = _rate(left_out, targets, can_be)
    # Averages over the weights of the pool are linear again: coef (1, K, D) by space, intercepts (1, K).
    shares = sum_of([count * means.shares[0] for count, means in zip(counts * scales, whole, strict=True)])
    coefs = [space.multiply(shares.mT @ each)[0].unsqueeze(0) for space, each in zip(metric.spaces, rows, strict=True)]
    rest = [count * products.scores(*means)[1][0] for count, means in zip(counts * scales, whole, strict=True)]
    averaged = sum_of([count * part for count, part in zip(counts * scales, left_out, strict=True)])
    averaged = torch.where(can_be.unsqueeze(1), averaged + targets.offsets[0], torch.nan)
    solution = Solution(
        members.stages,
        problems.shares,
        coefs,
        members.log_priors + sum_of(rest),
        members.scales,
        members.losses,
        metric.weights,
        averaged[None],
    )
    return Learnt(solution, losses, counts)


def _rate(left_out: list[Tensor], targets: Targets, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Calibrate what each weight of the pool made of left-out samples, and weigh it: scales, losses, weights.

    Where the average is no better than the probe alone, that is all that counts. Where no sample can be left out, all
    count the same.
    """
    n_parts = len(left_out)
    equal = targets.weights.new_ones(n_parts)
    if not known.any():
        return equal, equal * torch.nan, equal / n_parts
    scales, losses = (each[0] for each in calibrate(torch.stack(left_out)[None], targets))
    weights = torch.softmax(-targets.n_effective[0] / PATIENCE * losses, 0)
    averaged = sum_of([weight * part for weight, part in zip(weights * scales, left_out, strict=True)])
    if bool(_loss(averaged, targets) < min(float(losses[0]), _loss(left_out[0], targets))):
        return scales, losses, weights
    alone = torch.zeros_like(weights)
    alone[0] = 1
    return equal, losses, alone


def _loss(scores: Tensor, targets: Targets) -> float:
    """Mean negative log-likelihood of left-out samples, of scores (n, K)."""
    logs = torch.log_softmax(scores + targets.offsets[0], 1).gather(1, targets.codes[0].unsqueeze(1))[:, 0]
    return float(-(logs * targets.weights[0]).sum() / targets.weights[0].sum())


def _left_out(products: Products, sample: Sample, exact: Tensor, n_steps: int, known: Tensor) -> list[Tensor]:
    """Score samples (n, K) that neither class means nor the pool have seen, for each weight of the pool.

    What a pool changes is added to the exact scores without one. Groups that are left out together have samples of as
    many classes as can be: of few samples, each is a group of its own, and all is exact but the metric that the pool
    is judged by. Where none can be left out, of which `known` (n,) tells, nothing is computed.
    """
    n, n_classes = exact.shape
    if not known.any():
        return [exact for _ in PARTS]
    n_folds = min(n, MOST_FOLDS)
    folds = torch.empty_like(sample.codes)
    folds[torch.argsort(sample.codes, stable=True)] = torch.arange(n, device=folds.device) % n_folds
    found = [torch.zeros_like(exact) for _ in PARTS]
    n_rows = products.inner.shape[0]
    for chunk in row_chunks(n_folds, ELEMENTS, n_rows * n_classes):
        numbers = torch.arange(n_folds, device=folds.device)[chunk]
        # Memberships (B, n, K) without the samples of a fold.
        member = sample.membership() * (folds != numbers.unsqueeze(1)).to(exact.dtype).unsqueeze(2)
        rows = torch.nonzero(torch.isin(folds, numbers)).flatten()
        place = folds[rows] - numbers[0]
        for scores, part in zip(found, PARTS, strict=True):
            means = learn(products, sample, member, part, n_steps)
            scores[rows] = _of_rows(products, means, rows, place)
    return [exact + scores - found[0] for scores in found]


def _of_rows(products: Products, means: Means, rows: Tensor, place: Tensor) -> Tensor:
    """Score rows, each by the means of its fold, so many of them at a time that memory holds."""
    size = means.shares[0].numel()
    parts = [
        products.left_out(means.shares[place[part]], means.uncertainty[place[part]], rows[part])
        for part in row_chunks(len(rows), ELEMENTS, size)
    ]
    return torch.cat(parts)
