"""Ridge regression to one-hot targets for a path of penalties from one eigendecomposition (big_vision's formula)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

Array = npt.NDArray[np.float64]
BIAS = 100.0
"""Value of the constant feature: the intercept is penalised, but 10^4 times less than a weight."""
EPSILON = 1e-5
"""Added to standard deviations."""


@dataclass(frozen=True)
class RidgePath:
    """The eigendecomposition that serves every penalty.

    With standardised features Z, rows scaled by the root of their weight: ``coef(alpha) = basis @ (rhs / (eigenvalues +
    alpha))`` and ``Z @ coef(alpha) = projected @ (rhs / (eigenvalues + alpha))``. The constant feature is orthogonal to
    the centred ones, so that its weight has a closed form of its own, and its large square stays out of the
    eigendecomposition.
    """

    mean: Array
    scale: Array
    basis: Array
    projected: Array
    squares: Array
    eigenvalues: Array
    rhs: Array
    root_weights: Array
    target_sum: Array

    def solve(self, alpha: float) -> tuple[Array, Array]:
        """Weights (C, n_targets) and intercept (n_targets,) for raw features."""
        coef = (self.basis @ (self.rhs / (self.eigenvalues + alpha)[:, None])) / self.scale[:, None]
        return coef, self._constant(alpha) - self.mean @ coef

    def leave_one_out(self, targets: Array, alpha: float) -> Array:
        """Prediction (n, n_targets) of each sample without it, with the mean and deviation of all."""
        root = self.root_weights[:, None]
        fitted = self.projected @ (self.rhs / (self.eigenvalues + alpha)[:, None]) / root + self._constant(alpha)
        leverage = self.squares @ (1 / (self.eigenvalues + alpha))
        leverage += self.root_weights**2 * BIAS**2 / (BIAS**2 * (self.root_weights**2).sum() + alpha)
        predicted: Array = targets - (targets - fitted) / (1 - leverage)[:, None]
        return predicted

    def _constant(self, alpha: float) -> Array:
        total = BIAS**2 * (self.root_weights**2).sum()
        constant: Array = BIAS**2 * self.target_sum / (total + alpha)
        return constant


def decompose(features: Array, targets: Array, weights: Array) -> RidgePath:
    """Standardise, and decompose Z'Z or ZZ', whichever is smaller.

    Parameters
    ----------
    features : ndarray of shape (n, C)
    targets : ndarray of shape (n, n_targets)
    weights : ndarray of shape (n,)
        Positive; a weight of 2 counts as the sample twice.
    """
    mean = np.average(features, axis=0, weights=weights)
    centred = features - mean
    deviation = np.sqrt(np.average(centred**2, axis=0, weights=weights))
    # The mean of a constant channel is off by rounding, which a deviation of 1e-5 would blow up: its weight is zero.
    constant = deviation <= 10 * np.finfo(np.float64).eps * np.abs(mean)
    scale = np.where(constant, np.inf, deviation + EPSILON)
    root = np.sqrt(weights)
    z = centred / scale * root[:, None]
    y = targets * root[:, None]
    options: dict[str, Any] = {"overwrite_a": True, "check_finite": False, "driver": "evd"}
    if z.shape[0] >= z.shape[1]:
        eigenvalues, basis = eigh(z.T @ z, **options)
        projected = z @ basis
        rhs = projected.T @ y
        squares = projected**2
    else:
        eigenvalues, vectors = eigh(z @ z.T, **options)
        # One is zero, as samples are centred; its rounding error would swamp the rest at a small penalty.
        null = eigenvalues <= len(z) * np.finfo(np.float64).eps * eigenvalues[-1]
        eigenvalues[null], vectors[:, null] = 0, 0
        basis = z.T @ vectors
        projected = vectors * eigenvalues
        rhs = vectors.T @ y
        squares = vectors**2 * eigenvalues
    return RidgePath(mean, scale, basis, projected, squares, np.maximum(eigenvalues, 0), rhs, root, weights @ targets)
