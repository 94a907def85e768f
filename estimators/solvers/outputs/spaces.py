"""Spaces in which numbers are predicted: those of the discriminants, and one in which features keep their lengths.

Blocks, views and shares are as in `frofa.estimators.solvers.shrinkage.spaces`.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from frofa.estimators.solvers.shrinkage.spaces import Block, Stage, fit_stages, spaces_of, view_residuals

SPACES = ("centred", "standardised", "of their own length")
FLOOR = 1e-3
"""Share of the mean variance of a block that is added to that of its channels, which may be all but constant."""


class Spaces(NamedTuple):
    """Normalisations that lead to the spaces.

    The `stages` lead to the first two. For the last, averages of views are shifted and divided channel by channel, (1,
    D) both, so that each block has its share of the variance.
    """

    stages: list[Stage]
    plain: Stage

    def apply(self, blocks: Sequence[Block], shares: Tensor) -> Tensor:
        """Normalise features, blocks of views (1, n, C): (S, n, D)."""
        rows = (plain_rows(blocks) - self.plain.shift.unsqueeze(1)) / self.plain.scale.unsqueeze(1)
        return torch.cat([*spaces_of(blocks, shares, self.stages), rows])


def fit_spaces(blocks: Sequence[Block], shares: Tensor, weights: Tensor) -> Spaces:
    """Fit normalisations to samples of weights (1, n)."""
    stages = fit_stages(blocks, shares, torch.zeros_like(weights, dtype=torch.int64), weights, 1)
    rows = plain_rows(blocks)
    share = (weights / weights.sum()).unsqueeze(2)
    shift = (rows * share).sum(1)
    variance = ((rows - shift.unsqueeze(1)) ** 2 * share).sum(1)
    # The mean of a constant channel is off by rounding, which nothing is to be divided by.
    variance = torch.where(variance > (10 * torch.finfo(rows.dtype).eps * shift) ** 2, variance, 0)
    widths = [block[0].shape[2] for block in blocks]
    parts = zip(variance.split(widths, 1), shares.unbind(1), strict=True)
    return Spaces(stages, Stage(shift, torch.cat([_divisors(part, share) for part, share in parts], 1)))


def view_changes(blocks: Sequence[Block], shares: Tensor, spaces: Spaces) -> Iterator[Tensor]:
    """Give, view by view, what it differs from its image by in each space, (S, n, D) each."""
    average = plain_rows(blocks)
    for number, residuals in enumerate(view_residuals(blocks, shares, spaces.stages)):
        own = torch.cat([block[number] for block in blocks], 2) - average
        yield torch.cat([*residuals, own / spaces.plain.scale.unsqueeze(1)])


def plain_rows(blocks: Sequence[Block]) -> Tensor:
    """Put blocks side by side, views averaged as they are: (1, n, D)."""
    averages: list[Tensor] = [torch.stack(list(block)).mean(0) for block in blocks]
    return torch.cat(averages, 2)


def _divisors(variance: Tensor, share: Tensor) -> Tensor:
    """Divide channels (1, C) of a block by their deviations, and the block by what leaves it a share of one."""
    floor = FLOOR * variance.mean(1, keepdim=True)
    deviation: Tensor = torch.where(floor > 0, variance + floor, 1).sqrt()
    divisors: Tensor = deviation * (variance.shape[1] ** 0.5) / share.sqrt().clamp(min=1e-150).unsqueeze(1)
    return divisors
