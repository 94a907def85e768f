"""Mahalanobis distances to class means and to the mean of all, of new samples and of known ones left out.

Rows x of length one are n samples in D channels, of K classes. S is the scatter about the class means and T that about
the mean of all samples; covariances are shrunk to a multiple of the identity, ``(S + c I) / n`` and ``(T + c I) / n``,
with ``c = n * SHRINKAGE / min(n, D)`` times the mean square of residuals and of class means about their mean.

Without a sample, n stays what it is, as it says how strongly to shrink and in what unit distances are: of fewer samples
than channels, it would make them smaller by 1 / n, and by that more new ones would seem novel. All else is without the
sample. Of residual d, in a class of m, the mean is ``d / (m - 1)`` further away and the scatter is ``S - g d
d'``, ``g = m / (m - 1)``. With c of the others, by Sherman and Morrison, the distances of all left-out samples come
from one decomposition, and are exact.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky, eigh, qr, solve_triangular

Array = npt.NDArray[Any]
SHRINKAGE = 1.0
"""Variance that is added to each direction, in units of the mean variance of those that samples span: 0.5 to 4 differ
little on training images (``docs/results/confidence.md``)."""
LEAST = 1e-9
"""Least mean square of rows of length one."""


class Distances(NamedTuple):
    """Squared distances (m,) of samples.

    Those to the nearest class mean and to the mean of class means are by the covariance within classes, those to the
    mean of all samples by the covariance about it.
    """

    nearest: Array
    central: Array
    overall: Array


class Known(NamedTuple):
    """Known samples in coordinates that span them: rows (n, r), their classes (n,), and the basis (D, r), if not all.

    `means` (K, r) and `counts` (K,) are those of classes that have samples; `n` is the number that scales distances.
    """

    rows: Array
    codes: Array
    means: Array
    counts: Array
    basis: Array | None
    n_channels: int
    n: int

    @classmethod
    def of(cls, rows: Array, codes: Array) -> "Known":
        """Turn rows (n, D) of length one to coordinates; fewer rows than channels span less."""
        basis = None
        if len(rows) < rows.shape[1]:
            basis = qr(rows.T, mode="economic")[0]
        coordinates = rows if basis is None else rows @ basis
        _, codes, counts = np.unique(codes, return_inverse=True, return_counts=True)
        # Class means (K, r), by membership (n, K).
        means = (np.eye(len(counts))[codes] / counts).T @ coordinates
        return cls(coordinates, codes, means, counts, basis, rows.shape[1], len(rows))

    @property
    def residuals(self) -> Array:
        """Rows minus the mean of their class, (n, r)."""
        found: Array = self.rows - self.means[self.codes]
        return found

    def distances(self, rows: Array) -> Distances:
        """Measure new rows (m, D)."""
        coordinates = rows if self.basis is None else rows @ self.basis
        n_classes = len(self.means)
        mean, centre = self.rows.mean(0), self.means.mean(0)
        residuals = self.residuals
        spread = (residuals**2).sum() / max(len(self.rows) - n_classes, 1) + (
            (self.means - centre) ** 2
        ).sum() / n_classes
        added = self._added(spread)
        # What no known sample spans has the added variance alone.
        rest = np.maximum((rows**2).sum(1) - (coordinates**2).sum(1), 0) / added
        within = _squares(coordinates, np.vstack([self.means, centre]), residuals, added) + rest[:, None]
        overall = _squares(coordinates, mean[None], self.rows - mean, added)[:, 0] + rest
        return self._scaled(self._nearest(within[:, :-1], self.counts), within[:, -1], overall)

    def left_out(self) -> Distances:
        """Measure each known sample by all others; one alone in its class is not measured to that."""
        n = len(self.rows)
        added = self._added(self._spread_left_out())
        around = self.rows - self.rows.mean(0)
        values, axes = eigh(around.T @ around)
        overall = _own((around @ axes) ** 2, 1 / (values.clip(0) + added[:, None]), np.full(n, n / (n - 1)))
        nearest, central = self._within_left_out(added)
        return self._scaled(nearest, central, overall)

    def _scaled(self, *squares: Array) -> Distances:
        return Distances(*(self.n * each for each in squares))

    def _within_left_out(self, added: Array) -> tuple[Array, Array]:
        values, axes = eigh(self.residuals.T @ self.residuals)
        rows, means, residuals = self.rows @ axes, self.means @ axes, self.residuals @ axes
        counts = self.counts[self.codes]
        grown = counts / np.maximum(counts - 1, 1)
        # Inverse metrics, diagonal in these axes, (n, r), and what they win by the loss of the sample, (n,).
        shares = 1 / (values.clip(0) + added[:, None])
        won = grown / (1 - grown * (residuals**2 * shares).sum(1)).clip(1e-12)
        # Distances (n, K) to the means of other classes.
        along = (rows * residuals * shares).sum(1)[:, None] - (residuals * shares) @ means.T
        square = (rows**2 * shares).sum(1)[:, None] - 2 * (rows * shares) @ means.T + shares @ (means**2).T
        found = square + won[:, None] * along**2
        # To the mean of what is left of their own.
        alone = counts < 2
        places = np.arange(len(rows)), self.codes
        found[places] = np.where(alone, np.inf, _own(residuals**2, shares, grown))
        left = np.repeat(self.counts[None], len(rows), axis=0)
        left[places] = np.maximum(counts - 1, 1)
        offs = rows - self._centres_left_out() @ axes
        central = (offs**2 * shares).sum(1) + won * ((offs * residuals * shares).sum(1)) ** 2
        return self._nearest(found, left), central

    def _centres_left_out(self) -> Array:
        """Return the mean of class means without each sample, (n, r)."""
        counts, n_classes = self.counts[self.codes][:, None], len(self.means)
        total = self.means.sum(0)
        without_class = (total - self.means[self.codes]) / max(n_classes - 1, 1)
        without_sample = (total - self.residuals / np.maximum(counts - 1, 1)) / n_classes
        centres: Array = np.where((counts > 1) | (n_classes == 1), without_sample, without_class)
        return centres

    def _spread_left_out(self) -> Array:
        """Return the mean square of residuals and of class means about their mean without each sample, (n,)."""
        counts, n_classes, n = self.counts[self.codes], len(self.means), len(self.rows)
        alone = counts < 2
        left = np.where(alone, max(n_classes - 1, 1), n_classes)
        own, residuals = self.means[self.codes], self.residuals
        squares = (residuals**2).sum(1)
        within = (residuals**2).sum() - squares * counts / np.maximum(counts - 1, 1)
        # Squares of the means that are left: the own one is gone with its only sample, or has moved.
        moved = own - residuals / np.maximum(counts - 1, 1)[:, None]
        between = (self.means**2).sum() - (own**2).sum(1) + np.where(alone & (n_classes > 1), 0, (moved**2).sum(1))
        between = between / left - (self._centres_left_out() ** 2).sum(1)
        spread: Array = within / np.maximum(n - 1 - left, 1) + between.clip(0)
        return spread

    def _nearest(self, squares: Array, counts: Array) -> Array:
        """Take distances (m, K) to class means for what they are expected to be, those of few samples being off."""
        nearest: Array = (squares / (1 + 1 / counts)).min(1)
        return nearest

    def _added(self, spread: Any) -> Any:
        """Return c for samples of this mean square."""
        return self.n * SHRINKAGE * np.maximum(spread, LEAST) / min(self.n, self.n_channels)


def _own(squares: Array, shares: Array, grown: Array) -> Array:
    """Measure residuals, of squares (n, r), from the mean without them, by the metric without them."""
    own = (squares * shares).sum(1)
    found: Array = grown**2 * own / (1 - grown * own).clip(1e-12)
    return found


def _squares(rows: Array, centres: Array, residuals: Array, added: float) -> Array:
    """Measure rows (m, r) from centres (K, r): ``e' (R'R + c I)^-1 e``, (m, K)."""
    factor = cholesky(residuals.T @ residuals + added * np.eye(residuals.shape[1]), lower=True)
    left, right = (solve_triangular(factor, each.T, lower=True) for each in (rows, centres))
    squares: Array = (left**2).sum(0)[:, None] - 2 * left.T @ right + (right**2).sum(0)
    return squares
