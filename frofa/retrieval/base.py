"""Asking rows for the nearest of them, as scikit-learn's `NearestNeighbors` is asked."""

from numbers import Integral
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from sklearn.utils import check_array

from frofa.compute.arrays import as_features, check_embedded, largest
from frofa.compute.devices import resolve_device
from frofa.compute.memory import row_chunks
from frofa.retrieval.approximate.building import build
from frofa.retrieval.approximate.searching import Approximate
from frofa.retrieval.exact import Indices, Nearest, check_rows, nearest
from frofa.retrieval.metrics import Doubles, Metric, check_metric, ready_queries
from frofa.retrieval.remembered import Remembered
from frofa.retrieval.rows import Rows, is_in_memory
from frofa.retrieval.source import (
    allowed_rows,
    check_queries,
    features_of,
    values_of_rows,
)
from frofa.store import FeatureArray, FeatureSpec

METHODS = ("auto", "exact", "approximate")
MOST_EXACT = 1_000_000
"""Rows up to which the default is exact."""
LEAST_ROWS, FEW = 1000, 200_000
"""Rows below which, and rows let through up to which, all are compared, whatever the method."""
QUERIES = 2**14
"""Rows that are asked for their neighbours at once."""


class SearchedRows:
    """Rows in which the nearest are found; parameters and attributes as of `frofa.FeatureIndex`."""

    def __init__(
        self,
        features: Any,
        *,
        spec: FeatureSpec | str | None = None,
        metric: Metric = "cosine",
        method: Literal["auto", "exact", "approximate"] = "auto",
        labels: Any = None,
        names: Any = None,
        device: str = "auto",
    ):
        check_metric(metric)
        if method not in METHODS:
            raise ValueError(f"expected 'method' to be one of {', '.join(map(repr, METHODS))}. Got {method!r}.")
        resolve_device(device)  # one that is not there is said now
        self.metric, self.method, self.device = metric, method, device
        opened, self._store = features_of(features, spec)
        self._rows, self._remembered = Rows(opened), Remembered(opened)
        if is_in_memory(features):
            check_rows(self._rows)
        self._labels = values_of_rows(labels, self.features, "labels")
        self._names = values_of_rows(names, self.features, "names")
        self._approximate: Approximate | None = None
        self._recall: dict[str, dict[int, float]] | None = None

    @property
    def features(self) -> Any:
        """The features that are searched, as they were given, or lazily, of the store."""
        return self._rows.features

    @property
    def spec(self) -> FeatureSpec | None:
        """The spec of features of a store."""
        return self.features.spec if isinstance(self.features, FeatureArray) else None

    @property
    def keys(self) -> npt.NDArray[np.uint8] | None:
        """Digests of the images, (n, 20)."""
        return self.features.keys if isinstance(self.features, FeatureArray) else None

    @property
    def labels(self) -> npt.NDArray[Any] | None:
        """Labels (n,) that were given, or that the store remembers."""
        return self._remembered.labels if self._labels is None else self._labels

    @property
    def names(self) -> npt.NDArray[Any] | None:
        """Names (n,) that were given, or the places that the store remembers."""
        return self._remembered.names if self._names is None else self._names

    @property
    def n_samples_fit_(self) -> int:
        """Number of rows."""
        return self._rows.n

    @property
    def n_features_in_(self) -> int:
        """Number of values of a row."""
        return self._rows.width

    @property
    def method_(self) -> Literal["exact", "approximate"]:
        """The method that `method` stands for."""
        if self.method == "auto":
            return "exact" if len(self) <= MOST_EXACT else "approximate"
        return self.method

    def __len__(self) -> int:
        return self._rows.n

    def __repr__(self) -> str:
        shape = (self.n_samples_fit_, self.n_features_in_)
        return f"FeatureIndex(shape={shape}, metric={self.metric!r}, method={self.method_!r})"

    def kneighbors(
        self,
        X: Any = None,
        n_neighbors: int = 5,
        return_distance: bool = True,
        *,
        where: Any = None,
        exact: bool | None = None,
    ) -> Any:
        """Find the nearest rows of each query, as scikit-learn's `NearestNeighbors` does.

        Parameters
        ----------
        X : array-like of shape (n_queries, D), default=None
            None asks for the neighbours of each row among the others.
        n_neighbors : int, default=5
        return_distance : bool, default=True
        where : bool array of shape (n,), label, or list of labels, default=None
            The rows that may be found. Where the store's own labels count, an image that lay at several places has
            those of all.
        exact : bool, default=None
            True searches exactly whatever the method is.

        Returns
        -------
        distances : ndarray of float64, shape (n_queries, n_neighbors)
            Ascending; only with `return_distance`. One minus the cosine (of a row or query of zeros, 1), Euclidean
            distances, or the negative of the inner product.
        indices : ndarray of int64, shape (n_queries, n_neighbors)
            Positions of rows; of rows at the same distance, those that come first.

        Raises
        ------
        ValueError
            If queries do not fit, are of another backbone (lazy features know theirs), or there are fewer rows.
        """
        found = self._search(X, n_neighbors, where, exact)
        return (found.distances, found.indices) if return_distance else found.indices

    def kneighbors_graph(
        self,
        X: Any = None,
        n_neighbors: int = 5,
        mode: Literal["connectivity", "distance"] = "connectivity",
        *,
        where: Any = None,
    ) -> Any:
        """Give the neighbours as a sparse matrix (n_queries, n) of ones, or of distances; otherwise as `kneighbors`."""
        if mode not in ("connectivity", "distance"):
            raise ValueError(f"expected 'mode' to be 'connectivity' or 'distance'. Got {mode!r}.")
        found = self._search(X, n_neighbors, where, None)
        n_queries, k = found.indices.shape
        values = found.distances.ravel() if mode == "distance" else np.ones(n_queries * k)
        starts = np.arange(0, n_queries * k + 1, k)
        return csr_matrix((values, found.indices.ravel(), starts), (n_queries, len(self)))

    def _others(self, at: Indices, k: int, allowed: Indices | None = None, exact: bool | None = None) -> Nearest:
        """Find the k nearest others of rows at some positions, some rows at a time."""
        found = Nearest(np.empty((len(at), k)), np.empty((len(at), k), np.int64))
        for part in row_chunks(len(at), QUERIES, 1):
            queries = ready_queries(self._rows.read(at[part]).double().cpu().numpy(), self.metric)
            one = _without_self(self._find(queries, k + 1, allowed, exact), k, at[part])
            found.distances[part], found.indices[part] = one
        return found

    def _search(self, X: Any, n_neighbors: int, where: Any, exact: bool | None) -> Nearest:
        k = _checked_number(n_neighbors)
        allowed = allowed_rows(where, self._labels, self._remembered, len(self))
        n_allowed = len(self) if allowed is None else len(allowed)
        least = k + (X is None)
        if least > n_allowed:
            sign = "<" if X is None else "<="
            kind = "n_samples_fit" if allowed is None else "rows that 'where' lets through"
            raise ValueError(f"Expected n_neighbors {sign} {kind}, but n_neighbors = {k}, {kind} = {n_allowed}.")
        if X is None:
            return self._others(np.arange(len(self)), k, allowed, exact)
        return self._find(ready_queries(self._queries(X), self.metric), k, allowed, exact)

    def _find(self, queries: Doubles, k: int, allowed: Indices | None, exact: bool | None) -> Nearest:
        device, few = resolve_device(self.device), allowed is not None and len(allowed) <= FEW
        index = None if exact or few else self._built()
        if index is None:
            return nearest(self._rows, queries, k, self.metric, device, allowed)
        mask = None if allowed is None else np.isin(np.arange(len(self)), allowed)
        found, left = index.search(self._rows, queries, k, mask)
        if len(left):  # more candidates than can be read
            found.distances[left], found.indices[left] = nearest(
                self._rows, queries[left], k, self.metric, device, allowed
            )
        return found

    def _built(self) -> Approximate | None:
        """Build the approximate index, if there is to be one, and there is none."""
        if self.method_ == "approximate" and self._approximate is None and len(self) >= LEAST_ROWS:
            self._approximate, self._recall = build(self._rows, self.metric, resolve_device(self.device))
        return self._approximate if self.method_ == "approximate" else None

    def _queries(self, X: Any) -> Doubles:
        check_embedded(X, "queries")
        check_queries(X, self.spec)
        values = np.asarray(X) if isinstance(X, FeatureArray) else as_features(X)
        queries: Doubles = check_array(values, dtype=np.float64, input_name="X")
        if queries.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {queries.shape[1]} features, but FeatureIndex is expecting {self.n_features_in_} features as "
                "input."
            )
        bound = largest(np.float32)
        if queries.size and np.abs(queries).max() > bound:
            raise ValueError(f"expected queries between -{bound:.1e} and {bound:.1e}. Got a larger magnitude.")
        return queries


def _checked_number(n_neighbors: Any) -> int:
    if not isinstance(n_neighbors, Integral) or isinstance(n_neighbors, bool):
        raise TypeError(f"n_neighbors does not take {type(n_neighbors)} value, enter integer value")
    if n_neighbors <= 0:
        raise ValueError(f"Expected n_neighbors > 0. Got {n_neighbors}")
    return int(n_neighbors)


def _without_self(found: Nearest, k: int, at: Indices) -> Nearest:
    """Leave out rows at positions among their own k + 1 neighbours; the last where they are not: others are as near."""
    own = found.indices == at[:, None]
    own[~own.any(1), -1] = True
    return Nearest(*(values[~own].reshape(-1, k) for values in found))
