"""Ridge regression to one-hot targets for a path of penalties from one eigendecomposition (big_vision's formula)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

Array = npt.NDArray[np.float64]
BIAS = 100.0
"""Value of the constant feature, as in big_vision's ``fewshot_lsr.py``: the intercept is penalised, but 10^4 times
less than a weight."""
EPSILON = 1e-5
"""Addition to standard deviations, as in big_vision."""
NOTHING = 1e-12
"""The least that is left of a sample, where a penalty near zero lets a fit go through all samples."""


@dataclass(frozen=True)
class RidgePath:
    """The eigendecomposition that serves every penalty, of rank m = min(n, C) or less.

    With standardised features Z, rows scaled by the root of their weight: ``coef(alpha) = basis @ (rhs / (eigenvalues +
    alpha))`` and ``Z @ coef(alpha) = projected @ (rhs / (eigenvalues + alpha))``. The constant feature is orthogonal to
    the centred ones, so that its weight has a closed form of its own, and its large square stays out of the
    eigendecomposition. The hat matrix is ``projected @ (dual.T / (eigenvalues + alpha))``, plus that of the constant.

    Mean and scale, infinite for a constant channel, are (C,); the basis is (C, m); what is projected, its dual, and
    ``squares = projected * dual`` are (n, m); eigenvalues are (m,), and their right-hand sides (m, n_targets).
    """

    mean: Array
    scale: Array
    basis: Array
    projected: Array
    dual: Array
    squares: Array
    eigenvalues: Array
    rhs: Array
    root_weights: Array
    target_sum: Array

    def solve(self, alpha: float) -> tuple[Array, Array]:
        """Return weights (C, n_targets) and intercepts (n_targets,) for features that are not standardised."""
        coef = (self.basis @ (self.rhs / (self.eigenvalues + alpha)[:, None])) / self.scale[:, None]
        return coef, self._constant(alpha) - self.mean @ coef

    def leave_one_out(self, targets: Array, alpha: float, group_size: int = 1) -> Array:
        """Predict each sample (n, n_targets) without it and its copies, with the mean and deviation of all.

        Targets (n, n_targets) have one row for all copies of a sample. The `group_size` rows of a sample follow one
        another: itself, which is predicted, and its copies.
        """
        root = self.root_weights[:, None]
        fitted = self.projected @ (self.rhs / (self.eigenvalues + alpha)[:, None]) / root + self._constant(alpha)
        if group_size > 1:
            return self._leave_groups_out(targets, fitted, alpha, group_size)
        # Diagonal (n,) of the hat matrix: that of the features, and that of the constant.
        leverage = self.squares @ (1 / (self.eigenvalues + alpha))
        leverage += self.root_weights**2 * BIAS**2 / (self._total + alpha)
        predicted: Array = targets - (targets - fitted) / np.maximum(1 - leverage, np.finfo(np.float64).eps)[:, None]
        return predicted

    def _leave_groups_out(self, targets: Array, fitted: Array, alpha: float, size: int) -> Array:
        """Leave groups of rows out: their residuals r, scaled by the roots of weights, become ``(I - H)^-1 r``.

        H is the group's block of the hat matrix. It is symmetric, so that the first row of its inverse, which the first
        residual needs, is the solution of one system, however many targets there are.
        """
        root = self.root_weights.reshape(-1, size, 1)
        # Blocks (n / size, size, size) of the hat matrix: those of the features, and those of the constant.
        left = (self.projected / (self.eigenvalues + alpha)).reshape(len(root), size, -1)
        hat = left @ self.dual.reshape(left.shape).swapaxes(1, 2)
        hat += root @ root.swapaxes(1, 2) * (BIAS**2 / (self._total + alpha))
        # First rows (n / size, 1, size) of the inverses of I - H.
        rest, first = np.eye(size) - hat, np.eye(size)[None, :, :1]
        try:
            inverse_row = np.linalg.solve(rest, first).swapaxes(1, 2)
        except np.linalg.LinAlgError:  # the fit goes through all samples
            inverse_row = np.linalg.solve(rest + NOTHING * np.eye(size), first).swapaxes(1, 2)
        residuals = root * (targets[:, None] - fitted.reshape(len(root), size, -1))
        predicted: Array = targets - (inverse_row @ residuals / root[:, :1])[:, 0]
        return predicted

    @property
    def _total(self) -> float:
        """Squared norm of the constant feature."""
        return float(BIAS**2 * (self.root_weights**2).sum())

    def _constant(self, alpha: float) -> Array:
        """Return what the constant feature adds to the scores, shape (n_targets,)."""
        constant: Array = BIAS**2 * self.target_sum / (self._total + alpha)
        return constant


def decompose(features: Array, targets: Array, weights: Array) -> RidgePath:
    """Standardise features (n, C), and decompose Z'Z or ZZ', whichever is smaller.

    Targets are (n, n_targets). Weights (n,) are positive: one of 2 counts as the sample twice.
    """
    mean = np.average(features, axis=0, weights=weights)
    centred = features - mean
    deviation = np.sqrt(np.average(centred**2, axis=0, weights=weights))
    # The mean of a constant channel is off by rounding, which a deviation of 1e-5 would blow up: its weight is zero.
    constant = deviation <= 10 * np.finfo(np.float64).eps * np.abs(mean)
    scale = np.where(constant, np.inf, deviation + EPSILON)
    # Rows of features Z and targets Y, scaled by the roots of their weights.
    root = np.sqrt(weights)
    z = centred / scale * root[:, None]
    y = targets * root[:, None]
    options: dict[str, Any] = {"overwrite_a": True, "check_finite": False, "driver": "evd"}
    if z.shape[0] >= z.shape[1]:
        # Z'Z = V diag(eigenvalues) V', shape (C, C): the basis is V.
        eigenvalues, basis = eigh(z.T @ z, **options)
        projected = z @ basis
        rhs = projected.T @ y
        dual, squares = projected, projected**2
    else:
        # ZZ' = U diag(eigenvalues) U', shape (n, n): the basis is Z'U.
        eigenvalues, vectors = eigh(z @ z.T, **options)
        # One is zero, as samples are centred; its rounding error would swamp the rest at a small penalty.
        null = eigenvalues <= len(z) * np.finfo(np.float64).eps * eigenvalues[-1]
        eigenvalues[null], vectors[:, null] = 0, 0
        basis = z.T @ vectors
        projected = vectors * eigenvalues
        rhs = vectors.T @ y
        dual, squares = vectors, vectors**2 * eigenvalues
    eigenvalues, target_sum = np.maximum(eigenvalues, 0), weights @ targets
    return RidgePath(mean, scale, basis, projected, dual, squares, eigenvalues, rhs, root, target_sum)
