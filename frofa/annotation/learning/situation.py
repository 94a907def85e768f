"""A labelling session as learning sees it: features that are ready, labels, and what may be suggested."""

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.intp]
MOST_LABELLED = 5000
"""Labels that are learnt from at once, so that a page with labels of whole folders answers within seconds, too."""


class Situation:
    """Images at one moment, of which `rows` count those that have features, and `positions` all n.

    Parameters
    ----------
    version : int
        Number of rows of the record.
    n : int
        Number of images.
    labels : dict of int to str
        Labels by position.
    closed : collection of int
        Positions of images that are neither labelled nor to be suggested.
    positions : ndarray of shape (m,)
        Of the images that have features.
    X : features (m, ...) or None
        None where there are no features.
    """

    def __init__(
        self, version: int, n: int, labels: Mapping[int, str], closed: Collection[int], positions: Rows, X: Any
    ):
        self.version, self.n, self.labels = version, n, labels
        self.positions, self.X = positions, X
        self._closed = closed

    @cached_property
    def row(self) -> Rows:
        """Row of each position (n,), -1 where there are no features."""
        row = np.full(self.n, -1, np.intp)
        row[self.positions] = np.arange(len(self.positions))
        return row

    @cached_property
    def labelled(self) -> tuple[Rows, npt.NDArray[np.str_]]:
        """Rows (l,) that have a label, and these; of very many, some at random, with two of each class that has two."""
        known = [(row, label) for position, label in self.labels.items() if (row := int(self.row[position])) >= 0]
        rows = np.array([row for row, _ in known], np.intp)
        y = np.array([label for _, label in known], np.str_)
        if len(rows) <= MOST_LABELLED:
            return rows, y
        some = with_all_classes(np.random.default_rng(0).permutation(len(rows)), y, MOST_LABELLED)
        return rows[some], y[some]

    @cached_property
    def open(self) -> npt.NDArray[np.bool_]:
        """Tell which rows (m,) may be suggested."""
        open_ = np.ones(self.n, bool)
        open_[[*self._closed, *self.labels]] = False
        return open_[self.positions]

    @property
    def n_classes(self) -> int:
        """Number of classes that have a label and features."""
        return len(np.unique(self.labelled[1]))

    def features(self, rows: Rows) -> Any:
        """Read features of rows; all of them, in order, are not copied, as they may be large."""
        m = len(self.positions)
        return self.X if len(rows) == m and bool((rows == np.arange(m)).all()) else self.X[rows]


def with_all_classes(order: Rows, y: npt.NDArray[np.str_], size: int) -> Rows:
    """Choose the first samples (s,) of an order, but two of each class that has two; sorted.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa.annotation.learning.situation import with_all_classes
    >>> with_all_classes(np.arange(6), np.array(["a", "a", "a", "a", "b", "b"]), 5)
    array([0, 1, 2, 4, 5])
    """
    by_class = order[np.argsort(y[order], kind="stable")]
    # The place of each sample among those of its class.
    _, starts, inverse = np.unique(y[by_class], return_index=True, return_inverse=True)
    place = np.empty(len(y), np.intp)
    place[by_class] = np.arange(len(by_class)) - starts[inverse]
    first, rest = order[place[order] < 2], order[place[order] >= 2]
    return np.sort(np.concatenate([first, rest[: max(0, size - len(first))]]))
