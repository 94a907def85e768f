"""Checked training data, as heads are fitted to them."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.utils import _safe_indexing

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Support:
    """Checked training data.

    Features are (n, N, C) or (n, C), lazy or ragged for heads that work on tokens; `codes` (n,) are indices into
    ``classes_``; `weights` (n,) are those of samples times those of classes. `copies` (n, m, C), in float64, are each
    sample and its m - 1 augmented copies; None where there are none. `pool` are features of samples without labels, of
    the kind of `features`, and `pool_weights` (m,) their weights; both are None where there are none.
    """

    features: Array
    codes: Indices
    weights: npt.NDArray[np.float64]
    copies: Array | None = None
    pool: Any = None
    pool_weights: npt.NDArray[np.float64] | None = None

    def weighted_pool(self) -> tuple[Any, npt.NDArray[np.float64]] | None:
        """Give the samples without labels that have a positive weight, and their weights; None if there are none."""
        if self.pool is None or self.pool_weights is None or not self.pool_weights.any():
            return None
        rows = np.flatnonzero(self.pool_weights)
        return (self.pool if len(rows) == len(self.pool) else self.pool[rows]), self.pool_weights[rows]

    @property
    def group_size(self) -> int:
        """The number m of rows that a sample becomes in `augmented`: itself and its copies."""
        return 1 if self.copies is None else self.copies.shape[1]

    def rows(self, rows: Any) -> "Support":
        """Choose samples by a slice, a mask or their positions."""
        copies = None if self.copies is None else self.copies[rows]
        return Support(self.features[rows], self.codes[rows], self.weights[rows], copies, self.pool, self.pool_weights)

    def weighted(self) -> "Support":
        """The samples of positive weight."""
        return self if self.weights.all() else self.rows(self.weights > 0)

    def augmented(self) -> "Support":
        """Samples and copies, n * m of them, sample by sample; together they weigh what the samples do."""
        if self.copies is None:
            return self
        # Copies (n, m, C) to rows (n * m, C): a sample's rows stay together, as `group_size` promises.
        m = self.group_size
        features = self.copies.reshape(-1, self.copies.shape[2])
        return Support(features, self.codes.repeat(m), (self.weights / m).repeat(m))


class Labels(NamedTuple):
    """Labels of training samples, their classes, the index of each among these, and sample weights."""

    y: Array
    classes: Array
    codes: Indices
    weights: npt.NDArray[np.float64]


class CheckedData(NamedTuple):
    """Training data that were checked for a head, whatever its parameters.

    `tokens` are augmented, and the head works on `features`: (n, N, C) or (n, C) either of them. `feature_names` are
    the columns of a data frame. Where there are samples without labels, `pool` has their features and
    `pool_weights` their weights, and `known` (n,) tells of all samples whether they have a label: the rest here is of
    those that have one.
    """

    tokens: Array
    features: Array
    labels: Labels
    n_features: int
    feature_names: Array | None
    pool: Any = None
    pool_weights: npt.NDArray[np.float64] | None = None
    known: npt.NDArray[np.bool_] | None = None

    def told(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
        """Give the samples with labels among those that were given, in the form that callbacks take them in."""
        if self.known is None:
            return X, y, sample_weight
        rows = np.flatnonzero(self.known)
        weights = None if sample_weight is None else _safe_indexing(sample_weight, rows)
        # Features may be many: they are chosen if a callback asks for them.
        return partial(_safe_indexing, X, rows), self.labels.y, weights
