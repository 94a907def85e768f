"""Averages of ridge regressions by the likelihood of left-out samples, each output by itself."""

import math
from functools import cache
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from frofa.estimators.solvers.outputs.path import DECADES, Path
from frofa.estimators.solvers.outputs.spaces import SPACES

USUAL, DEVIATION = -0.5, 1.0
"""Logarithm to base 10 of the penalty that is usual, and the deviation of the best from that."""
LEAST_ERROR = 1e-24
"""Mean squared error, in variances of the targets, below which members are equally good."""
NEGLIGIBLE = 1e-5
"""Weight below which a member is not worth its computation."""


class Members(NamedTuple):
    """Members of a path for T outputs.

    Right-hand sides `rhs` are (S, r, T). Members count by `weights` (S, L, T), and have variances of noise (S, L, T),
    all of them times `inflation` (T,), by which left-out samples are as far off as is said.
    """

    rhs: Tensor
    weights: Tensor
    noise: Tensor
    inflation: Tensor


class Outputs(NamedTuple):
    """Averages of the members of a path for targets, in their units.

    `left_out` (n, T) are predictions of each sample without itself by the average of the members, which count by the
    errors of the others, and `slopes` (S, T, r) the weights of the average of all for centred coordinates.
    """

    members: Members
    left_out: Tensor
    slopes: Tensor


def average(path: Path, targets: Tensor) -> Outputs:
    """Leave each sample out of every member in closed form, and average the members of each output.

    Targets (n, T) have a weighted mean of zero and a weighted variance of one, or of zero where they are constant.
    """
    share = path.weights / path.weights.sum()
    rhs, left = path.right_sides(targets), path.left
    errors = left_out_errors(path, targets, rhs)
    losses = torch.einsum("slnt,n->slt", errors**2, share)
    weights, others = weigh(losses, 1 / (share**2).sum()), weights_of_others(errors, share)
    error = (errors * others).sum((0, 1))
    # A left-out sample is off by noise and by what its members do not know: 1 / left times the noise together.
    noise = torch.einsum("slnt,sln->slt", errors**2, left * share)
    expected = (others * (noise.unsqueeze(2) / left.unsqueeze(3) + (errors - error) ** 2)).sum((0, 1))
    ratio = error**2 / torch.where(expected > 0, expected, 1)
    inflation = torch.where((expected > 0).any(0), (ratio * share.unsqueeze(1)).sum(0), 1)
    slopes = torch.einsum("slt,slr,srt->str", weights, path.resolvent, rhs)
    return Outputs(Members(rhs, weights, noise, inflation), targets - error, slopes)


def left_out_errors(path: Path, targets: Tensor, rhs: Tensor) -> Tensor:
    """Targets (n, T) minus what each member predicts without the sample, (S, L, n, T)."""
    fitted = path.samples.unsqueeze(1) @ (path.resolvent.unsqueeze(3) * rhs.unsqueeze(1))
    return (targets - fitted) / path.left.unsqueeze(3)


def weights_of_others(errors: Tensor, share: Tensor) -> Tensor:
    """Weigh members for each sample by the errors (S, L, n, T) of all others, which are of these shares (n,)."""
    squares = errors**2 * share[:, None]
    rest = (squares.sum(2, keepdim=True) - squares).clamp(min=0) / (1 - share[:, None])
    return weigh(rest, (1 / (share**2).sum() - 1).clamp(min=0))


def weigh(losses: Tensor, n_samples: Tensor) -> Tensor:
    """Weigh members (S, L, ...) of mean squared errors by prior and likelihood, of sum 1 over members."""
    prior = log_prior(losses).reshape(1, -1, *[1] * (losses.ndim - 2))
    logs = -0.5 * n_samples * torch.log(losses.clamp(min=LEAST_ERROR)) + prior
    weights = torch.softmax(logs.flatten(0, 1), 0)
    weights = torch.where(weights < NEGLIGIBLE, 0, weights)
    return (weights / weights.sum(0)).reshape(losses.shape)


def log_prior(like: Tensor) -> Tensor:
    """Logarithms (L,) of what is expected of penalties before any sample is left out, but for a constant."""
    # The mean is one step beyond the largest penalty.
    steps = [DECADES[-2] + DECADES[1] - DECADES[0] if math.isinf(each) else each for each in DECADES]
    decades = torch.tensor(steps, dtype=like.dtype, device=like.device)
    return -0.5 * ((decades - USUAL) / DEVIATION) ** 2


@cache
def member_names() -> tuple[str, ...]:
    """Name all members, space by space, penalty by penalty."""
    penalties = ("the mean" if math.isinf(each) else f"penalty {10**each:.2g}" for each in DECADES)
    return tuple(f"{space}, {penalty}" for space, penalty in product(SPACES, penalties))
