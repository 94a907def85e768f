"""Spaces in which discriminants are fitted: blocks of features, normalised so that each counts the same.

A block is a sequence of views, each (B, n, C), of B support sets of n images. Views of an image are brought to length
one and averaged, block by block; the averages, again of length one, stand side by side (B, n, D), times the roots of
the shares of their blocks (B, n_blocks), of sum 1. Stages follow, each of which subtracts, divides and brings rows to
length one; the features after each stage are a space.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from frofa.estimators.solvers.shrinkage.statistics import Statistics

Block = Sequence[Tensor]
SPACES = ("centred", "standardised")
FLOOR = 0.1
"""Share of the mean variance that is added to the variance of a channel before it is divided by its deviation."""


class Stage(NamedTuple):
    """Normalisation of rows: what is subtracted from the channels and what they are divided by, (B, D) both."""

    shift: Tensor
    scale: Tensor

    @classmethod
    def centring(cls, known: Statistics) -> "Stage":
        """Subtract the mean of the class means, which large classes do not pull."""
        present = (known.totals > 0).to(known.means.dtype).unsqueeze(2)
        shift = (known.means * present).sum(1) / present.sum(1)
        return cls(shift, torch.ones_like(shift))

    @classmethod
    def standardising(cls, known: Statistics) -> "Stage":
        """Divide channels by their deviation from their mean, raised by a share of what is usual."""
        share = (known.weights / known.weights.sum(1, keepdim=True)).unsqueeze(2)
        shift = (known.features * share).sum(1)
        variance = ((known.features - shift.unsqueeze(1)) ** 2 * share).sum(1)
        # Channels of blocks without a share vary as little as constant ones.
        floor = FLOOR * variance.sum(1, keepdim=True) / (variance > 0).sum(1, keepdim=True).clamp(min=1)
        scale = (variance + torch.where(floor > 0, floor, 1)).sqrt()
        return cls(shift, scale)

    def apply(self, rows: Tensor) -> Tensor:
        """Normalise rows (B, n, D)."""
        return unit(self._moved(rows))

    def factors(self, rows: Tensor) -> Tensor:
        """Return what small changes of rows (B, n, D) are multiplied by, (B, n, D); their lengths stay as they are."""
        return 1 / (_length(self._moved(rows)) * self.scale.unsqueeze(1))

    def _moved(self, rows: Tensor) -> Tensor:
        return (rows - self.shift.unsqueeze(1)) / self.scale.unsqueeze(1)


def fit_stages(
    blocks: Sequence[Block],
    shares: Tensor,
    codes: Tensor,
    weights: Tensor,
    n_classes: int,
    background: Sequence[Block] = (),
) -> list[Stage]:
    """Fit the stages that lead to the spaces, one after another.

    With a background, blocks (1, m, C) of images without labels, all images count the same, whatever their class.
    """
    stages: list[Stage] = []
    rows = side_by_side(blocks, shares)
    if background:
        others = side_by_side(background, shares)
        rows, weights = torch.cat([rows, others], 1), torch.cat([weights, torch.ones_like(others[..., 0])], 1)
        codes, n_classes = torch.zeros_like(weights, dtype=codes.dtype), 1
    for fit in (Stage.centring, Stage.standardising):
        stages.append(fit(Statistics.of(rows, codes, weights, n_classes)))
        rows = stages[-1].apply(rows)
    return stages


def spaces_of(blocks: Sequence[Block], shares: Tensor, stages: Sequence[Stage]) -> list[Tensor]:
    """Give the features (B, n, D) after each stage."""
    rows, found = side_by_side(blocks, shares), []
    for stage in stages:
        rows = stage.apply(rows)
        found.append(rows)
    return found


def side_by_side(blocks: Sequence[Block], shares: Tensor) -> Tensor:
    """Put averaged blocks side by side, the square of each the share (B, n_blocks) of its block: (B, n, D)."""
    roots = shares.sqrt()[:, :, None, None].unbind(1)
    return torch.cat([unit(average(block)) * root for block, root in zip(blocks, roots, strict=True)], 2)


def average(block: Block) -> Tensor:
    """Average views of length one, (B, n, C)."""
    total = unit(block[0])
    for view in block[1:]:
        total = total + unit(view)
    return total / len(block)


def view_residuals(blocks: Sequence[Block], shares: Tensor, stages: Sequence[Stage]) -> Iterator[list[Tensor]]:
    """Give, view by view, what it differs from its image by in each space, to first order: (B, n, D) each."""
    averages, lead = [average(block) for block in blocks], _first_order(blocks, shares, stages)
    for number in range(len(blocks[0])):
        yield lead([unit(block[number]) - mean for block, mean in zip(blocks, averages, strict=True)])


def copy_residuals(
    blocks: Sequence[Block], copies: Sequence[Block], shares: Tensor, stages: Sequence[Stage]
) -> Iterator[list[Tensor]]:
    """Give, copy by copy, what it differs from its view by in each space, to first order: (B, n, D) each.

    Copies (B, n, C) of each block are as many of the first view, then as many of the second, and so on.
    """
    lead, n_copies = _first_order(blocks, shares, stages), len(copies[0]) // len(blocks[0])
    for number in range(len(copies[0])):
        pairs = zip(blocks, copies, strict=True)
        yield lead([unit(copied[number]) - unit(block[number // n_copies]) for block, copied in pairs])


def _first_order(
    blocks: Sequence[Block], shares: Tensor, stages: Sequence[Stage]
) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    """Return what leads from changes (B, n, C) of averaged views, block by block, to those in each space."""
    averages = [average(block) for block in blocks]
    roots = shares.sqrt()[:, :, None, None].unbind(1)
    scales = [root / _length(each) for root, each in zip(roots, averages, strict=True)]
    rows, factors = side_by_side(blocks, shares), list[Tensor]()
    for stage in stages:
        known = stage.factors(rows)
        factors.append(known if not factors else known * factors[-1])
        rows = stage.apply(rows)

    def lead(changes: Sequence[Tensor]) -> list[Tensor]:
        residuals = torch.cat([change * scale for change, scale in zip(changes, scales, strict=True)], 2)
        return [residuals * factor for factor in factors]

    return lead


def unit(rows: Tensor) -> Tensor:
    """Scale rows to length one; those of zeros stay so."""
    return rows / _length(rows)


def _length(rows: Tensor) -> Tensor:
    """Give lengths (B, n, 1), one for rows of zeros."""
    length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return torch.where(length > 0, length, 1)
