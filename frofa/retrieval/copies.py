"""Rows that are nearly the same, in groups."""

from collections.abc import Callable
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from frofa.labelling.wrong.duplicates import LEAST_SAMPLES, N_NEIGHBOURS, unusual_pairs
from frofa.retrieval.exact import Indices, Nearest

LEAST_DISTANCE = 1e-6
"""Distance that equal rows are taken to have where distances are compared by their ratio."""
MOST_NEIGHBOURS = 1024
"""Neighbours that a row is asked for in the end: a group of more copies hangs together by these."""
Find = Callable[[Indices, int], Nearest]
"""A function that finds the k nearest others of rows at some positions."""


class NearDuplicates(NamedTuple):
    """Pairs of rows that are nearly the same, and the groups that they make.

    Attributes
    ----------
    pairs : ndarray of int64, shape (m, 2)
        Positions, the smaller first, nearest pairs first.
    distances : ndarray of float64, shape (m,)
    groups : tuple of ndarray of int64
        Positions, ascending, of rows that hang together by pairs; the largest group first.
    """

    pairs: npt.NDArray[np.int64]
    distances: npt.NDArray[np.float64]
    groups: tuple[npt.NDArray[np.int64], ...]


def check_threshold(threshold: Any, metric: str) -> None:
    """Raise an error for what is no distance up to which rows can be nearly the same; None leaves it to their ratio."""
    if threshold is None:
        if metric == "inner_product":
            raise ValueError("expected a 'threshold' with metric='inner_product', as ratios of products say nothing.")
        return
    if not isinstance(threshold, Real) or isinstance(threshold, (bool, np.bool_)):
        raise TypeError(f"expected a number as 'threshold'. Got {type(threshold).__name__}.")
    if not np.isfinite(float(threshold)) or (threshold < 0 and metric != "inner_product"):
        raise ValueError(f"expected a finite distance, zero or more, as 'threshold'. Got {threshold!r}.")


def within(find: Find, n: int, threshold: float) -> NearDuplicates:
    """Find all pairs of n rows at a distance of at most `threshold`; of very large groups, some pairs of each row."""
    open_, k = np.arange(n), min(8, n - 1)
    parts = []
    while len(open_) and k:
        found = find(open_, k)
        near = found.distances <= threshold
        # Rows whose last neighbour is near, too, are asked again, for more.
        again = near[:, -1] & (k < min(MOST_NEIGHBOURS, n - 1))
        rows, places = np.nonzero(near & ~again[:, None])
        parts.append((open_[rows], found.indices[rows, places], found.distances[rows, places]))
        open_, k = open_[again], min(4 * k, MOST_NEIGHBOURS, n - 1)
    return _grouped(n, *(np.concatenate(part) for part in zip(*parts, strict=True))) if parts else _grouped(n)


def unusual(find: Find, n: int) -> NearDuplicates:
    """Find pairs that are much nearer than neighbours usually are, as `frofa.label_issues` does."""
    if n < LEAST_SAMPLES:
        return _grouped(n)
    found = find(np.arange(n), N_NEIGHBOURS + 1)
    first, second, _ = unusual_pairs(found.indices, np.maximum(found.distances, LEAST_DISTANCE))
    place = (found.indices[first] == second[:, None]).argmax(1)
    return _grouped(n, first, second, found.distances[first, place])


def _grouped(
    n: int,
    first: npt.NDArray[np.int64] = np.empty(0, np.int64),  # noqa: B008 (never changed)
    second: npt.NDArray[np.int64] = np.empty(0, np.int64),  # noqa: B008
    distances: npt.NDArray[np.float64] = np.empty(0),  # noqa: B008
) -> NearDuplicates:
    pairs = np.sort(np.stack([first, second], 1).astype(np.int64), 1)
    pairs, where = np.unique(pairs, axis=0, return_index=True)
    distances = distances[where]
    order = np.argsort(distances, kind="stable")
    pairs, distances = pairs[order], distances[order]
    _, group = connected_components(
        coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (n, n)), directed=False
    )
    # Rows by group, cut where these change; alone, a row is no group.
    members = np.argsort(group, kind="stable").astype(np.int64)
    parts = np.split(members, np.flatnonzero(np.diff(group[members])) + 1)
    groups = sorted((part for part in parts if len(part) > 1), key=lambda part: (-len(part), int(part[0])))
    return NearDuplicates(pairs, distances, tuple(groups))
