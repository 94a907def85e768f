"""Copies and near-copies among samples, by their features."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Array = npt.NDArray[Any]
N_NEIGHBOURS = 10
"""Neighbours that say how far apart samples usually are at a place."""
LEAST_SAMPLES = 20
"""Samples without which nothing is usual, and exact copies alone are found."""
LEAST_RATIO, DEVIATIONS = 0.4, 7.0
"""Near-copies are nearer than this part of what is usual, and than the median ratio less so many robust deviations.
Re-encoded, cropped and mirrored copies are at 0.04 to 0.2, and different images at 0.3 to 1
(``docs/results/confidence.md``)."""
FEW_SAMPLES, LEAST_RATIO_OF_FEW = 500, 0.25
"""Samples of which the next neighbours are often of other classes, so that images which are merely alike are near by
comparison; copies are nearer still. Without, photographs of a parachute before the sky were near-copies or not by which
others were there."""
LEAST_LOCAL = 0.4
"""Least part of what is usual at all that is taken for usual at a place: many copies are their own neighbours."""
CHUNK = 2**25
"""Similarities that are held at once."""


@dataclass(frozen=True)
class DuplicateGroup:
    """Samples that are copies of each other, or nearly.

    Attributes
    ----------
    train, test : tuple of int
        Positions in `X` and in `X_test`.
    exact : bool
        Whether all are the same to the last bit: by the content of images, or by features where there are no images.
    ratio : float
        Distance of the farthest of the pairs that made the group, relative to that of neighbours there; 0 is the same.
    labels : tuple
        Labels among them, sorted.
    """

    train: tuple[int, ...]
    test: tuple[int, ...]
    exact: bool
    ratio: float
    labels: tuple[Any, ...]

    @property
    def is_leak(self) -> bool:
        """Whether training and test samples are among them."""
        return bool(self.train and self.test)

    @property
    def is_disputed(self) -> bool:
        """Whether the samples have several labels."""
        return len(self.labels) > 1


class Pairs(NamedTuple):
    """Positions (m,) of two samples each that are nearly the same, and their distance relative to what is usual."""

    first: Array
    second: Array
    ratio: Array


def duplicate_groups(
    spaces: Sequence[Array], keys: Sequence[str] | None, y: Sequence[Any], n_train: int
) -> tuple[DuplicateGroup, ...]:
    """Group samples, leaks and groups of several labels first, then by how near they are.

    Spaces are rows (n, D) of length one, of training samples, then of test samples; what is near in one of them is. In
    the same order, `keys` are equal for copies, and labels None where there is none. Without keys, equal rows are
    copies.
    """
    exact = _exact_pairs(keys if keys is not None else [row.tobytes() for row in spaces[0]])
    links = [np.concatenate(ends) for ends in zip(exact, *(near_pairs(rows) for rows in spaces), strict=True)]
    n = len(spaces[0])
    n_groups, group_of = connected_components(coo_array((np.ones(len(links[0])), (links[0], links[1])), (n, n)))
    exact_of = connected_components(coo_array((np.ones(len(exact[0])), exact[:2]), (n, n)))[1]
    farthest = np.zeros(n_groups)
    np.maximum.at(farthest, group_of[links[0]], links[2])
    # Samples in the order of their groups, cut where these change.
    order = np.argsort(group_of, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(group_of[order])) + 1)
    found = [
        DuplicateGroup(
            tuple(one[one < n_train].tolist()),
            tuple((one[one >= n_train] - n_train).tolist()),
            len(set(exact_of[one].tolist())) == 1,
            float(farthest[group_of[one[0]]]),
            tuple(sorted({y[i] for i in one.tolist()} - {None}, key=str)),
        )
        for one in members
        if len(one) > 1
    ]
    return tuple(sorted(found, key=lambda group: (not (group.is_leak or group.is_disputed), group.ratio)))


def near_pairs(rows: Array) -> Pairs:
    """Find pairs of rows (n, D) that are much nearer to each other than both are to their next neighbours.

    Distances are ``1 - cosine`` of centred rows. That of a pair is divided by what is usual where both lie, the
    geometric mean of the distances of the ten next neighbours; the ratios of all samples to their nearest say which
    are out of the ordinary.
    """
    empty = np.empty(0, np.intp)
    if len(rows) < LEAST_SAMPLES:
        return Pairs(empty, empty, np.empty(0))
    return unusual_pairs(*_neighbours(rows, N_NEIGHBOURS + 1))


def unusual_pairs(indices: Array, distances: Array) -> Pairs:
    """Find near pairs, as `near_pairs` does, by the positions (n, k) and positive distances (n, k) of neighbours."""
    usual = np.exp(np.log(distances[:, 1:]).mean(1))
    usual = np.maximum(usual, LEAST_LOCAL * np.median(usual))
    # Ratios (n, k) of all pairs of neighbours.
    ratios = distances / np.sqrt(usual[:, None] * usual[indices])
    nearest = np.log(ratios[:, 0])
    middle = np.median(nearest)
    deviation = 1.4826 * np.median(np.abs(nearest - middle))
    least = LEAST_RATIO_OF_FEW if len(indices) < FEW_SAMPLES else LEAST_RATIO
    near = np.log(ratios) < min(np.log(least), middle - DEVIATIONS * deviation)
    first, place = np.nonzero(near)
    return Pairs(first, indices[first, place], ratios[first, place])


def _neighbours(rows: Array, k: int) -> tuple[Array, Array]:
    """Return positions (n, k) of the nearest others, and distances, nearest first."""
    centred = rows - rows.mean(0)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    units = (centred / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    n, k = len(units), min(k, len(units) - 1)
    indices, distances = np.empty((n, k), np.intp), np.empty((n, k))
    step = max(CHUNK // n, 1)
    for start in range(0, n, step):
        part = np.arange(start, min(start + step, n))
        products = units[part] @ units.T
        products[np.arange(len(part)), part] = -np.inf
        found = np.argpartition(products, n - k, axis=1)[:, n - k :]
        nearest = np.take_along_axis(products, found, 1)
        order = np.argsort(-nearest, axis=1, kind="stable")
        indices[part] = np.take_along_axis(found, order, 1)
        # Rounding in float32 makes distances of 1e-7 of none.
        distances[part] = np.maximum(1 - np.take_along_axis(nearest, order, 1), 1e-6)
    return indices, distances


def _exact_pairs(keys: Sequence[Any]) -> Pairs:
    """Pair each sample with the first of the same key."""
    first_of: dict[Any, int] = {}
    first = np.array([first_of.setdefault(key, i) for i, key in enumerate(keys)], np.intp)
    copies = np.flatnonzero(first != np.arange(len(keys)))
    return Pairs(first[copies], copies, np.zeros(len(copies)))
