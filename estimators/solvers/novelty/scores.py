"""Scores of novelty by rows of known samples, larger for what is newer; those of known samples are left out exactly."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from frofa.estimators.solvers.novelty.distances import Distances, Known

Array = npt.NDArray[Any]
BY_ROWS = ("auto", "mahalanobis", "relative", "knn")
"""Methods that need rows of known samples and their classes alone."""
NEIGHBOURS = 5
MOST_RELATIVE, RELATIVE_SHOTS = 0.8, 4.0
"""The part of the distance to the centre that ``"auto"`` takes off is ``0.8 * m / (m + 4)`` at m samples a class: 0.44
at five, 0.69 at 25. Chosen on training images of 19 sets by backbones (``docs/results/confidence.md``)."""


def scores_of(rows: Array, codes: Array, queries: Array, method: str) -> Array:
    """Score queries (m, D) by known rows (n, D) of length one and their classes (n,)."""
    if method == "knn":
        return _far_from_neighbours(queries @ rows.T, len(rows))
    return _combined(Known.of(rows, codes).distances(queries), codes, method)


def left_out_scores_of(rows: Array, codes: Array, method: str) -> Array:
    """Score each known row by the others, as if it had not been there."""
    if method == "knn":
        products = rows @ rows.T
        np.fill_diagonal(products, -np.inf)
        return _far_from_neighbours(products, len(rows))
    return _combined(Known.of(rows, codes).left_out(), codes, method)


def energies(logits: Array) -> Array:
    """Return energies (m,) of logits (m, K): large where no class has a large logit."""
    energy: Array = -logsumexp(logits, axis=1)
    return energy


def _far_from_neighbours(products: Array, n: int) -> Array:
    """Take one minus the mean cosine (m, n) to the nearest, of which a sample left out has as many as a new one."""
    k = max(min(NEIGHBOURS, n - 1), 1)
    nearest = np.partition(products, -k, axis=1)[:, -k:]
    far: Array = 1 - nearest.mean(1)
    return far


def _combined(found: Distances, codes: Array, method: str) -> Array:
    # With no class but its own, of one sample, there is nothing but the mean of all.
    nearest = np.where(np.isfinite(found.nearest), found.nearest, found.central)
    if method == "mahalanobis":
        return nearest
    if method == "relative":
        relative: Array = nearest - found.overall
        return relative
    shots = len(codes) / len(np.unique(codes))
    partly: Array = nearest - MOST_RELATIVE * shots / (shots + RELATIVE_SHOTS) * found.central
    return partly
