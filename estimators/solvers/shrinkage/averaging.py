"""Averages of the members of a path by the likelihood of left-out samples."""

import math
from functools import cache
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from frofa.compute.memory import row_chunks
from frofa.estimators.solvers.shrinkage.leave_one_out import combine_left_out, leave_one_out
from frofa.estimators.solvers.shrinkage.path import DECADES, Path
from frofa.estimators.solvers.shrinkage.spaces import SPACES
from frofa.estimators.solvers.shrinkage.statistics import Statistics
from frofa.estimators.solvers.shrinkage.temperature import Targets, blind_scales, calibrate, scale_of_all

BIASES = (0.0, 0.5, 1.0)
"""Parts of the squares of means that are taken off: 1 is the textbook's discriminant, 0 a plain inner product."""
BIAS_SHOTS, BIAS_DEVIATION = 3.0, 0.35
"""The bias that is usual is ``n / (n + 3)`` for n samples a class, as squares of means of few samples are mostly noise;
and the deviation of the best from that."""
DECADES_DEVIATION = 0.6
"""Deviation of the logarithm to base 10 of the best penalty from what is usual."""
PATIENCE = 4.0
"""Samples that count as one when members are weighed by their likelihood: differences of losses are noisy."""
ELEMENTS = 2**25
"""Scores of left-out samples that are held at a time: 256 MiB."""
RATED = 2**19
"""Scores of left-out samples that a member is rated by, at most: some of the samples, where there are very many."""
NEGLIGIBLE = 1e-5
"""Weight below which a member is not worth its computation."""


class Rated(NamedTuple):
    """Members of a path: inverse temperatures and losses, (B, L, G) for L penalties and G biases."""

    scales: Tensor
    losses: Tensor


class LeftOut(NamedTuple):
    """A path with what its left-out samples need: noise (B, L), and the uncertainty (B, n, K) of the class means."""

    path: Path
    noise: Tensor
    uncertainty: Tensor

    @classmethod
    def of(cls, path: Path) -> "LeftOut":
        """Find how uncertain class means are for each sample: that of its own class has lost it."""
        known = path.statistics
        uncertainty = known.uncertainty.unsqueeze(1).expand(-1, known.codes.shape[1], -1)
        own = known.uncertainty_left.unsqueeze(2)
        return cls(path, path.noise(), uncertainty.scatter(2, known.codes.unsqueeze(2), own))

    def products(self, part: slice, rows: slice) -> tuple[Tensor, Tensor]:
        """Return products of samples and means, and squares of means less what they exceed the true ones by."""
        inner, outer = leave_one_out(self.path, part, rows)
        return inner, outer - self.noise[:, part, None, None] * self.uncertainty[:, None, rows]


def log_prior(known: Statistics) -> Tensor:
    """Logarithms (B, L, G) of what is expected of the members of a path before any sample is left out."""
    like = known.totals
    # The nearest mean is one step beyond the largest penalty.
    steps = [DECADES[-2] + DECADES[1] - DECADES[0] if math.isinf(each) else each for each in DECADES]
    decades = torch.tensor(steps, dtype=like.dtype, device=like.device)
    shots = shots_of(known)[:, None, None]
    biases = torch.tensor(BIASES, dtype=like.dtype, device=like.device)
    off = (biases - shots / (shots + BIAS_SHOTS)) / BIAS_DEVIATION
    prior = -0.5 * ((decades / DECADES_DEVIATION).unsqueeze(1) ** 2 + off**2)
    return prior - prior.flatten(1).logsumexp(1)[:, None, None]


def shots_of(known: Statistics) -> Tensor:
    """Samples a class (B,), of equal weight."""
    shots: Tensor = known.n_effective / (known.totals > 0).sum(1)
    return shots


def step_of(targets: Targets) -> int:
    """Choose how far the samples that members are rated by lie apart: 1, except where there are very many scores."""
    return math.ceil(targets.offsets[0].numel() / RATED)


def rate(left: LeftOut, targets: Targets, step: int) -> Rated:
    """Calibrate the member of each penalty and bias, and rate it, by every so many samples."""
    targets, rows = targets.every(step), slice(None, None, step)
    blind = (targets.n_effective <= 0)[:, None, None]
    rated: list[Rated] = []
    # Shots are worth nothing where no sample is left out, and scales are guessed.
    lost = torch.where(blind.flatten(), 1, scale_of_all(shots_of(left.path.statistics)))
    size = targets.offsets.numel() * 2 * len(BIASES)
    for part in row_chunks(len(DECADES), ELEMENTS, size):
        inner, outer = left.products(part, rows)
        # Scores (B, l * G, n, K), calibrated member by member.
        scores = torch.stack([inner - 0.5 * bias * outer for bias in BIASES], 2).flatten(1, 2)
        scales, losses = calibrate(scores, targets)
        shape = -1, inner.shape[1], len(BIASES)
        scales = (scales * lost[:, None]).reshape(shape)
        losses = losses.reshape(shape)
        if blind.any():
            guessed = blind_scales(scores, targets).reshape(shape)
            scales, losses = torch.where(blind, guessed, scales), torch.where(blind, 0, losses)
        rated.append(Rated(scales, losses))
    return Rated(torch.cat([one.scales for one in rated], 1), torch.cat([one.losses for one in rated], 1))


def weigh(losses: Tensor, log_priors: Tensor, n_effective: Tensor) -> Tensor:
    """Weigh members (B, m) by prior and likelihood, ``prior * exp(-n (loss - least) / PATIENCE)``, of sum 1."""
    weights = torch.softmax(log_priors - n_effective.unsqueeze(1) / PATIENCE * losses, 1)
    weights = torch.where(weights < NEGLIGIBLE, 0, weights)
    return weights / weights.sum(1, keepdim=True)


def average_left_out(left: LeftOut, factors: Tensor) -> Tensor:
    """Add up the scores of left-out samples by all members, each times its factor (B, L, G): (B, n, K)."""
    inner, outer = factors_of(factors)
    noise = 0.5 * (outer * left.noise).sum(1)[:, None, None]
    return combine_left_out(left.path, inner, outer).addcmul_(left.uncertainty, noise)


def factors_of(factors: Tensor) -> tuple[Tensor, Tensor]:
    """Sum up factors (B, L, G) of members to those of inner products and of squares of means, (B, L) both."""
    return factors.sum(2), factors @ torch.tensor(BIASES, dtype=factors.dtype, device=factors.device)


@cache
def member_names() -> tuple[str, ...]:
    """Name all members, space by space, penalty by penalty, bias by bias."""
    penalties = ("nearest mean" if math.isinf(each) else f"shrinkage {10**each:.2g}" for each in DECADES)
    return tuple(f"{space}, {penalty}, bias {bias:g}" for space, penalty, bias in product(SPACES, penalties, BIASES))
