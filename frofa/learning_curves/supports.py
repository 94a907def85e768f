"""Nested parts of a few labelled images: in several orders, every class growing in proportion."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
LARGEST, N_SIZES, TURNS = 0.8, 6, 5
"""The largest part of the images that is fitted to, sizes up to it, and turns of an order: the images that are left out
at the largest size are others in each turn, and all of them together."""


@dataclass(frozen=True)
class NestedSupports:
    """Supports of several sizes in several orders, those of an order nested.

    `orders` has, for each order and class, the rows of the class (m,) in that order; `counts` (J, K) says how many of
    each class a size takes.
    """

    orders: list[list[Array]]
    counts: Array

    @property
    def shots(self) -> Array:
        """Labelled images a class of each size (J,), on average over the classes."""
        shots: Array = self.counts.mean(1)
        return shots

    def rows(self, order: int, size: int) -> Array:
        """The rows of a support, class by class."""
        taken = zip(self.orders[order], self.counts[size], strict=True)
        return np.concatenate([rows[:count] for rows, count in taken])


def nested_supports(codes: npt.NDArray[np.intp], n_orders: int, rng: np.random.Generator) -> NestedSupports:
    """Draw supports from images of classes (n,), numbered from 0, of which one at least has two images.

    A size takes the same part of every class, one image at least, and of classes of two or more leaves one out.

    Examples
    --------
    >>> import numpy as np
    >>> codes = np.repeat([0, 1], [10, 5])
    >>> supports = nested_supports(codes, 3, np.random.default_rng(0))
    >>> supports.counts.tolist()
    [[1, 1], [2, 1], [3, 1], [4, 2], [6, 3], [8, 4]]
    >>> smaller, larger = (set(supports.rows(0, size).tolist()) for size in (2, 3))
    >>> smaller < larger
    True
    """
    members = [np.flatnonzero(codes == code) for code in range(codes.max() + 1)]
    sizes = np.array([len(rows) for rows in members])
    most = max(LARGEST * sizes.mean(), 1.0)
    parts = np.geomspace(1, most, N_SIZES) / sizes.mean()
    counts = np.clip(np.rint(np.outer(parts, sizes)), 1, np.maximum(sizes - 1, 1)).astype(int)
    drawn = [[rng.permutation(rows) for rows in members] for _ in range(-(-n_orders // TURNS))]
    turned = [
        [np.roll(rows, -round(turn * len(rows) / TURNS)) for rows in order] for order in drawn for turn in range(TURNS)
    ]
    return NestedSupports(turned[:n_orders], np.unique(counts, axis=0))
