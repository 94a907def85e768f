"""Features and targets to averaged ridge regressions: all that is fitted."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from frofa.compute.memory import row_chunks
from frofa.estimators.solvers.outputs.averaging import Members, Outputs, average
from frofa.estimators.solvers.outputs.path import Path, make_path, span_of
from frofa.estimators.solvers.outputs.spaces import Spaces, fit_spaces, view_changes
from frofa.estimators.solvers.shrinkage.spaces import Block

Array = npt.NDArray[np.float64]
VIEWS = 0.5
"""Part that the scatter of the views within images is added in to that of the images."""
ELEMENTS = 2**25
"""Errors of left-out samples that are held at a time: 256 MiB."""


class Problem(NamedTuple):
    """A support set: blocks of views (n, C), shares (n_blocks,) of sum 1, weights (n,), all positive, and a device."""

    blocks: Sequence[Sequence[Array]]
    shares: Array
    weights: Array
    device: torch.device


class Units(NamedTuple):
    """Means and deviations (T,) of targets; of constant ones, the deviation is one."""

    mean: Array
    scale: Array

    @classmethod
    def of(cls, targets: Array, weights: Array) -> "Units":
        """Find the units of targets (n, T), of weights (n,)."""
        mean = np.average(targets, axis=0, weights=weights)
        # Exactly the value of a constant target, which a mean may miss in its last bit.
        constant = (targets == targets[:1]).all(0)
        mean = np.where(constant, targets[0], mean)
        # By way of the largest distance, so that squares are neither too large nor too small.
        largest = np.abs(targets - mean).max(0)
        largest = np.where(largest > 0, largest, 1)
        deviation = np.sqrt(np.average(((targets - mean) / largest) ** 2, axis=0, weights=weights))
        return cls(mean, np.where(deviation > 0, largest * deviation, 1))


def fit_path(problem: Problem) -> tuple[Spaces, Path]:
    """Normalise features, and decompose their scatter in all spaces; no target enters it."""
    blocks = tensors_of(problem.blocks, problem.device)
    shares, weights = (torch.as_tensor(each, device=problem.device) for each in (problem.shares[None], problem.weights))
    weights = weights / weights.mean()
    spaces = fit_spaces(blocks, shares, weights[None])
    rows = spaces.apply(blocks, shares)
    basis = span_of(rows, weights)
    return spaces, make_path(rows, weights, _scatter(blocks, shares, spaces, weights, basis), basis)


def fit_outputs(path: Path, targets: Array) -> Outputs:
    """Average the members of a path for targets (n, T), in units of their deviation; so many outputs at a time."""
    y = torch.as_tensor(targets, device=path.samples.device)
    size = path.inverse.numel() * len(targets)
    parts = [average(path, y[:, part]) for part in row_chunks(y.shape[1], ELEMENTS, size)]
    members = Members(*(torch.cat(each, -1) for each in zip(*(part.members for part in parts), strict=True)))
    return Outputs(members, torch.cat([p.left_out for p in parts], 1), torch.cat([p.slopes for p in parts], 1))


def tensors_of(blocks: Sequence[Sequence[npt.NDArray[Any]]], device: torch.device) -> list[list[Tensor]]:
    """Make views (1, n, C) of each block tensors in float64, one problem of a batch of one."""
    return [[torch.as_tensor(np.require(v, np.float64, "W"), device=device)[None] for v in block] for block in blocks]


def _scatter(
    blocks: Sequence[Block], shares: Tensor, spaces: Spaces, weights: Tensor, basis: Tensor | None
) -> Tensor | None:
    """Sum up the scatter (S, r, r) of the views within images in each space, on the span of the samples."""
    n_views = len(blocks[0])
    if n_views == 1:
        return None
    root = (weights * (VIEWS / (n_views - 1))).sqrt()[:, None]
    total: Tensor | None = None
    for changes in view_changes(blocks, shares, spaces):
        rows = root * (changes if basis is None else changes @ basis)
        scatter = rows.mT @ rows
        total = scatter if total is None else total + scatter
    return total
