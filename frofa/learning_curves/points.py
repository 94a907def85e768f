"""Points of a learning curve with their noise, from hits and misses on images that were left out."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
MANY = 10**6
"""Orders that leaving out one image at a time counts as: its support is all images, and no other could be drawn."""
LIKE_BEFORE = 10.0
"""Images that the covariance counts as before any is looked at: a few hits, all alike, are not without noise."""
KINSHIP = 2.0
"""Before any is looked at, points of n and m shots are taken to correlate by 0.9 exp(-|log n/m| / KINSHIP)."""
OF_SUPPORT = 0.2
"""Variance of accuracy a over supports of N labels, the images to be classified the same: so many times a (1 - a) / N
(features of four image sets by four backbones)."""


class Points(NamedTuple):
    """Accuracies (J,) at shots (J,), images a class on average, and their covariance (J, J).

    The covariance is in units of a (1 - a): that of points whose accuracies are a_j and a_k has the factor
    sqrt(a_j (1 - a_j) a_k (1 - a_k)). `one_by_one` (J,) says of which each image was left out of a fit to all others.
    """

    shots: Array
    accuracy: Array
    covariance: Array
    one_by_one: npt.NDArray[np.bool_]

    @property
    def spread(self) -> Array:
        """Standard deviations (J,) of the accuracies, as they are."""
        deviation: Array = np.sqrt(np.diag(self.covariance) * _variance(self.accuracy, 1 / np.diag(self.covariance)))
        return deviation

    def log_likelihood(self, accuracies: Array) -> Array:
        """Log-likelihood (m,) of curves that have accuracies (m, J) there."""
        unit = np.sqrt(np.clip(accuracies * (1 - accuracies), 1e-4, None))
        lower = np.linalg.cholesky(self.covariance)
        # Whitened residuals (J, m); variances are those that a curve itself implies, as in a score test.
        white = np.linalg.solve(lower, ((self.accuracy - accuracies) / unit).T)
        determinant = np.log(np.diag(lower)).sum() + np.log(unit).sum(1)
        found: Array = -0.5 * (white**2).sum(0) - determinant - 0.5 * len(self.shots) * np.log(2 * np.pi)
        return found


def points_of(shots: Array, hits: Array, counts: Array, codes: Array, n_orders: Array, n_labels: Array) -> Points:
    """Average hits over images and orders, class by class, so that classes count as they do among the labelled images.

    Parameters
    ----------
    shots : ndarray of shape (J,)
        Labelled images a class, on average.
    hits, counts : ndarray of shape (J, n)
        In how many orders each image was left out, and in how many of these it was recognised.
    codes : ndarray of int, shape (n,)
        Class of each image.
    n_orders : ndarray of int, shape (J,)
        Orders that each size was measured on.
    n_labels : ndarray of int, shape (J,)
        Labels that were fitted to, in each of them.
    """
    of_class = np.equal.outer(np.unique(codes), codes).astype(float)  # (K, n)
    # With few labels, supports of a size may be of all images that can be left out: of it, nothing is known.
    known = counts.any(1)
    shots, hits, counts, n_orders, n_labels = (each[known] for each in (shots, hits, counts, n_orders, n_labels))
    tested = counts @ of_class.T  # (J, K) times that an image of the class was left out
    sizes = of_class.sum(1)
    # Classes of which nothing was ever left out say nothing; the others share their part.
    share = np.where(tested > 0, sizes, 0)
    share = share / share.sum(1, keepdims=True)
    by_class = np.divide(hits @ of_class.T, tested, out=np.zeros_like(tested), where=tested > 0)
    accuracy = (share * by_class).sum(1)
    # Influence (J, n) of each image on each accuracy: images are drawn, orders of the same images are not.
    factor = np.divide(share, tested, out=np.zeros_like(tested), where=tested > 0)
    influence = (hits - counts * (by_class @ of_class)) * (factor @ of_class)
    influence *= np.sqrt((sizes / np.maximum(sizes - 1, 1)) @ of_class)
    distinct = (counts > 0).astype(float) @ of_class.T  # (J, K) different images left out
    images = 1 / (share**2 / np.maximum(distinct, 1)).sum(1)  # effective number, (J,)
    unit = np.sqrt(_variance(accuracy, images))
    seen = influence @ influence.T / np.outer(unit, unit)
    apart = np.abs(np.subtract.outer(np.log(shots), np.log(shots)))
    kin = 0.9 * np.exp(-apart / KINSHIP) + 0.1 * np.eye(len(shots))
    before = kin / np.sqrt(np.outer(images, images))
    weight = LIKE_BEFORE / (LIKE_BEFORE + images.max())
    covariance = (1 - weight) * seen + weight * before + OF_SUPPORT * _of_support(n_labels, n_orders, len(codes))
    return Points(shots, accuracy, covariance, n_orders == MANY)


def _variance(accuracy: Array, images: Array) -> Array:
    """Binomial variance (J,) of one image, drawn in by a hit and a miss, so that it is never none."""
    drawn_in = (accuracy * images + 1) / (images + 2)
    variance: Array = drawn_in * (1 - drawn_in)
    return variance


def _of_support(n_labels: Array, n_orders: Array, n: int) -> Array:
    """Covariance (J, J) of means of supports: those of an order are nested, and all are among the same n images."""
    nested = 1 / np.maximum.outer(n_labels, n_labels)
    orders = np.minimum.outer(n_orders, n_orders)
    found: Array = 1 / n + (nested - 1 / n) / orders
    return found
