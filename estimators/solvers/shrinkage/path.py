"""The path of discriminants from little shrinkage to nearest class mean, by one eigendecomposition."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from frofa.estimators.solvers.shrinkage.linalg import eigh, orthonormal
from frofa.estimators.solvers.shrinkage.statistics import Statistics

DECADES = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, math.inf)
"""Logarithms to base 10 of the penalties, relative to `Path.unit`; infinity is the nearest class mean."""
USUAL = 1.4
"""Penalty that is usual, in variances of a sample, summed over the channels; 1 is the rule of Kubokawa and Srivastava
(arXiv 2402.04087)."""


class Path(NamedTuple):
    """Discriminants for all penalties, in coordinates in which the scatter is diagonal.

    The scatter is ``S = sum(w_i d_i d_i')``, d_i a sample minus the mean of its class, plus a prior scatter where there
    is one; its eigenvalues are (B, r). The metric for a penalty is ``P = penalty * (S + penalty * I)^-1``, which is the
    identity for an infinite one. `basis` (B, D, r) leads to the coordinates, with r = D or, where there are fewer
    samples, the dimension of their span, outside of which class means are zero. `samples` (B, n, r) and `means` (B, K,
    r) are coordinates; `inverse` (B, L) are inverse penalties.
    """

    statistics: Statistics
    basis: Tensor
    eigenvalues: Tensor
    samples: Tensor
    residuals: Tensor
    means: Tensor
    inverse: Tensor

    def shrinkage(self, part: slice = slice(None)) -> Tensor:
        """Return the diagonals (B, l, r) of the metrics of some penalties."""
        return 1 / (1 + self.inverse[:, part].unsqueeze(2) * self.eigenvalues.unsqueeze(1))

    def noise(self) -> Tensor:
        """Estimate ``tr(P Sigma)``, the mean square by each metric of a sample's distance to its true mean: (B, L).

        Distances are those of samples to the mean of their class without them, by the metric without them; that mean is
        uncertain, too.
        """
        known, weights = self.statistics, self.statistics.weights
        counted = torch.where(known.can_be_left_out, weights, 0)
        moved = weights / torch.where(known.can_be_left_out, known.left, 1)
        own = self.shrinkage() @ self.residuals.mT**2
        rest = (1 - (weights * (1 + moved)).unsqueeze(1) * self.inverse.unsqueeze(2) * own).clamp(min=1e-12)
        squares = ((1 + moved) ** 2 / (1 + known.uncertainty_left)).unsqueeze(1) * own / rest
        return (squares * counted.unsqueeze(1)).sum(2) / counted.sum(1, keepdim=True).clamp(min=1e-300)

    def combine(self, inner: Tensor, outer: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Add up discriminants: weights (B, K, D) and intercepts (B, K) of one that is linear again.

        Products of samples and means count `inner` times, squares of means minus half of `outer` times, (B, L) each.
        """
        diagonals = self.shrinkage()
        coef = (self.means * torch.einsum("bl,blr->br", inner, diagonals).unsqueeze(1)) @ self.basis.mT
        squares = (self.means**2 * torch.einsum("bl,blr->br", outer, diagonals).unsqueeze(1)).sum(2)
        excess = (outer * noise).sum(1, keepdim=True) * self.statistics.uncertainty
        return coef, 0.5 * (excess - squares)


def span(known: Statistics) -> Tensor | None:
    """Find an orthonormal basis (B, D, n) of what the samples span, where they are fewer than the channels."""
    if known.features.shape[1] >= known.features.shape[2]:
        return None
    return orthonormal(known.features, known.weights > 0)


def decompose(known: Statistics, basis: Tensor | None = None, prior: Tensor | None = None) -> Path:
    """Find the coordinates in which the scatter, and a prior (B, r, r) in coordinates of the basis, is diagonal."""
    x, means, width = known.features, known.means, known.features.shape[2]
    if basis is not None:
        x, means = x @ basis, means @ basis
    residuals = x - known.at_own_class(means)
    scatter = residuals.mT @ (residuals * known.weights.unsqueeze(2))
    if prior is not None:
        scatter = scatter + prior
    eigenvalues, vectors = eigh(scatter)
    eigenvalues = eigenvalues.clamp(min=0)
    x, residuals, means = (each @ vectors for each in (x, residuals, means))
    # The usual penalty is the scatter of a sample, summed over the channels, whatever their number.
    unit = USUAL * eigenvalues.sum(1) / (known.n_effective - 1).clamp(min=1)
    unit = torch.where(unit > 1e-12 * (width * torch.finfo(unit.dtype).eps), unit, 1)
    factors = torch.tensor([10.0**decade for decade in DECADES], dtype=x.dtype, device=x.device)
    inverse = 1 / (unit.unsqueeze(1) * factors)
    return Path(known, vectors if basis is None else basis @ vectors, eigenvalues, x, residuals, means, inverse)
