"""The path of ridge regressions from hardly a penalty to the mean, by one eigendecomposition for all outputs.

Tensors of S spaces stand side by side, as in `frofa.estimators.solvers.shrinkage.spaces`; members of the path are (S,
L), for L penalties of each.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from frofa.estimators.solvers.shrinkage.path import decompose, span
from frofa.estimators.solvers.shrinkage.statistics import Statistics

DECADES = (*(step / 2 for step in range(-8, 5)), math.inf)
"""Logarithms to base 10 of the penalties, in mean squared distances of samples to their mean; infinity is the mean."""
LEAST_LEFT = 1e-12
"""The least that is left of a sample, where a fit goes through all samples."""


class Path(NamedTuple):
    """Ridge regressions with an intercept that is not penalised.

    In coordinates (S, r) of the `basis` (S, D, r), the scatter of weighted samples (S, n, r) about their `centre` (S,
    r), and of what is added to it, is diagonal, with `eigenvalues` (S, r). `inverse` (S, L) are inverse penalties, and
    `weights` (n,) those of samples, of mean one.
    """

    basis: Tensor
    centre: Tensor
    eigenvalues: Tensor
    inverse: Tensor
    samples: Tensor
    weights: Tensor

    @property
    def resolvent(self) -> Tensor:
        """Inverses (S, L, r) of the penalised scatter."""
        inverse = self.inverse.unsqueeze(2)
        return inverse / (1 + inverse * self.eigenvalues.unsqueeze(1))

    @property
    def leverage(self) -> Tensor:
        """Parts (S, L, n) that samples have in their own prediction, for each unit of their weight."""
        return 1 / self.weights.sum() + self.resolvent @ self.samples.mT**2

    @property
    def left(self) -> Tensor:
        """One minus the diagonal of the hat matrix, (S, L, n): residuals by this are those of left-out samples."""
        return (1 - self.leverage * self.weights).clamp(min=LEAST_LEFT)

    def right_sides(self, targets: Tensor) -> Tensor:
        """Products (S, r, T) of weighted samples and targets (n, T)."""
        return self.samples.mT @ (targets * self.weights.unsqueeze(1))

    def coordinates(self, rows: Tensor) -> Tensor:
        """Centred coordinates (S, m, r) of rows (S, m, D)."""
        return rows @ self.basis - self.centre.unsqueeze(1)


def make_path(rows: Tensor, weights: Tensor, prior: Tensor | None = None, basis: Tensor | None = None) -> Path:
    """Decompose the scatter of rows (S, n, D), of weights (n,), and of a prior (S, r, r) in coordinates of a basis."""
    known = statistics_of(rows, weights)
    found = decompose(known, basis, prior)
    # Mean squared distance (S, 1) to the mean, which penalties are multiples of: one of 1 halves usual directions.
    unit = (known.residuals**2).sum(2) @ weights[:, None] / (known.n_effective - 1).clamp(min=1)[:, None]
    unit = torch.where(unit > 1e-12, unit, 1)
    factors = torch.tensor([10.0**decade for decade in DECADES], dtype=rows.dtype, device=rows.device)
    return Path(found.basis, found.means.squeeze(1), found.eigenvalues, 1 / (unit * factors), found.residuals, weights)


def statistics_of(rows: Tensor, weights: Tensor) -> Statistics:
    """Statistics of rows (S, n, D) of weights (n,), which are all of one class."""
    expanded = weights.expand(len(rows), -1)
    return Statistics.of(rows, torch.zeros_like(expanded, dtype=torch.int64), expanded, 1)


def span_of(rows: Tensor, weights: Tensor) -> Tensor | None:
    """Find an orthonormal basis (S, D, n) of what rows (S, n, D) span, where they are fewer than the channels."""
    return span(statistics_of(rows, weights))
