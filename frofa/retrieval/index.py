"""An index of features in which the nearest are found."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from frofa.compute.devices import resolve_device
from frofa.retrieval.approximate.building import extended
from frofa.retrieval.approximate.state import to_state
from frofa.retrieval.base import SearchedRows
from frofa.retrieval.copies import NearDuplicates, check_threshold, unusual, within
from frofa.retrieval.files import locked, write_index
from frofa.retrieval.metrics import Metric, check_metric
from frofa.retrieval.remembered import Remembered
from frofa.retrieval.rows import Rows
from frofa.retrieval.saving import Saved, digest_of, folder_of, joined, pack_labels, pack_names
from frofa.retrieval.source import (
    added_keys,
    features_of,
    features_of_keys,
    values_of_rows,
)
from frofa.store import FeatureSpec

GROWTH = 1.5
"""Growth after which lists and widths are those of too few rows."""


class FeatureIndex(SearchedRows):
    """The nearest of features, of a store, an array or a memory map: exactly, or approximately among millions.

    Features stay where they are: a chunk at a time is read and compared. Images are found by images, and by words where
    both lie in the same space.

    The approximate index, which needs ``faiss`` (``pip install 'frofa[faiss]'``), keeps codes of two or four bits a
    value, an eighth or a quarter of float16. What they find is read from the features and compared exactly, so that
    distances are always exact. When it is built, it tries itself on queries whose neighbours it knows, and chooses how
    wide to search; see `recall_`. Each query is looked after by itself: where there are no clusters, or a query is
    like no row, all codes are scanned, and what they cannot decide is searched exactly.

    Parameters
    ----------
    features : FeatureStore, path of one, FeatureArray, or array, tensor or memory map of shape (n, D)
        In float16, bfloat16, float32 or float64. Of a store, all images that it has of a spec, each once.
    spec : FeatureSpec or str, default=None
        Which features of the store; as text, the first digits of its digest. None is the only kind of vectors there.
    metric : {"cosine", "euclidean", "inner_product"}, default="cosine"
    method : {"auto", "exact", "approximate"}, default="auto"
        "auto" is exact for up to a million rows.
    labels : array-like of shape (n,), or mapping of keys to labels, default=None
        Which `where` asks for. None takes those that the store remembers of its images, if it does, when they are asked
        for.
    names : array-like of shape (n,), or mapping of keys to names, default=None
        What people know the rows by: paths of images, for example. None takes the paths that the store remembers.
    device : str, default="auto"
        Where products are computed.

    Attributes
    ----------
    n_samples_fit_, n_features_in_ : int
    method_ : {"exact", "approximate"}
    spec : FeatureSpec or None
        None for arrays.
    keys : ndarray of uint8, shape (n, 20), or None
        Digests of the images, in the order of the rows; None for arrays.
    labels, names : ndarray of shape (n,) or None
        As given, or as the store remembers them: of an image that lay at several places, those of the last. None of a
        row is not known; None if of none anything is.
    recall_ : dict of str to dict of int to float, or None
        Of an approximate index that is built: for each kind of query that was tried, the part of the true 1 and 10
        neighbours that is found. "rows" are rows that were left out, "noised" rows with as much noise, and "directions"
        at random, as far from all rows as words are from images.
    nbytes : int
        Bytes that the index has in memory, without features, keys, labels and names.

    Raises
    ------
    ValueError
        If features have not shape (n, D), or `spec` does not say which; or if they are not finite, which is said of
        memory maps and stores when they are first read.
    StoreError
        If there is no store, or a file of it is damaged.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa import FeatureIndex
    >>> rows = np.float16([[1, 0], [0, 1], [1, 1]])
    >>> index = FeatureIndex(rows, labels=["east", "north", "both"])
    >>> distances, positions = index.kneighbors([[2.0, 0.1]], n_neighbors=2)
    >>> positions
    array([[0, 2]])
    >>> index.kneighbors([[2.0, 0.1]], 1, return_distance=False, where=["north", "both"])
    array([[2]])
    """

    @property
    def recall_(self) -> dict[str, dict[int, float]] | None:
        """The part of true neighbours that is found, by kind of query and number of neighbours."""
        return self._recall

    @property
    def nbytes(self) -> int:
        """Bytes that the index has in memory."""
        return self._rows.nbytes + (self._approximate.nbytes if self._approximate else 0)

    def build(self) -> "FeatureIndex":
        """Build the approximate index, if the method is that and it is not built; a search does so, too.

        Raises
        ------
        ImportError
            If faiss is not installed.
        """
        self._built()
        return self

    def near_duplicates(self, threshold: float | None = None) -> NearDuplicates:
        """Find rows that are nearly the same.

        Parameters
        ----------
        threshold : float, default=None
            Distance up to which rows are. None takes those much nearer to each other than both are to their next
            neighbours, as `frofa.label_issues` does; fewer than 20 rows have none. With ``metric="inner_product"``, it
            must be given, and may be negative, as distances are.

        Returns
        -------
        NearDuplicates
            Pairs, distances and groups.

        Raises
        ------
        TypeError, ValueError
            If `threshold` is no such distance.
        """
        check_threshold(threshold, self.metric)
        n = len(self)
        return unusual(self._others, n) if threshold is None else within(self._others, n, threshold)

    def update(self, *, labels: Any = None, names: Any = None) -> int:
        """Take in the images that the store got since; those that are there keep their positions.

        An approximate index codes the added ones alone; once there are half as many more, it is built anew.

        Parameters
        ----------
        labels, names : array-like of shape (n_added,), or mapping of keys, default=None
            Of the added ones. None is none, or what the store remembers where none were given before, either.

        Returns
        -------
        int
            Number of added images.

        Raises
        ------
        TypeError
            If the index is not of a store.
        StoreError
            If images of the index are gone.
        """
        if self._store is None or self.keys is None or self.spec is None:
            raise TypeError("expected an index of a store to update. Got one of an array: make another.")
        keys, spec, before = self.keys, self.spec, len(self)
        new = added_keys(self._store, spec, keys)
        rows = Rows(features_of_keys(self._store, spec, np.concatenate([keys, new])))
        added = rows.features[before:]
        # Where none were ever given, it is for the store to say; where they are from now on, what it says so far stays.
        labels_before = self._labels if labels is None else self.labels
        names_before = self._names if names is None else self.names
        self._labels = joined(labels_before, values_of_rows(labels, added, "labels"), before, len(new))
        self._names = joined(names_before, values_of_rows(names, added, "names"), before, len(new))
        rows.take_squares(self._rows)
        self._rows, self._remembered = rows, Remembered(rows.features)
        if self._approximate is not None and len(new):
            much = len(rows.features) > GROWTH * self._approximate.n_built
            self._approximate = None if much else extended(self._approximate, rows, resolve_device(self.device))
        return len(new)

    def release(self) -> None:
        """Free the memory of a GPU on which an exact search keeps the rows, if they need less than 40 % of it."""
        self._rows.release()

    def save(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Save the index: beside the features of its store, or in a directory.

        Files are JSON and safetensors, replaced at once. Features are not in them.

        Parameters
        ----------
        path : path, default=None
            None is ``STORE/index/SPEC/METRIC``.

        Returns
        -------
        Path
            The directory.

        Raises
        ------
        ValueError
            If there is neither a store nor a path.
        OSError
            If it cannot be written; what was there stays.
        """
        approximate = self._built()
        folder = folder_of(self._store, self.spec, path, self.metric)
        listed, arrays = pack_labels(self._labels)
        arrays |= pack_names(self._names) | ({} if self.keys is None else {"keys": self.keys})
        search = None
        if approximate is not None:
            search, more = to_state(approximate)
            search, arrays = {**search, "recall": self._recall}, arrays | more
        description = {
            "features": digest_of(self.features),
            "metric": self.metric,
            "method": self.method,
            "shape": [len(self), self.n_features_in_],
            "labels": listed,
            "search": search,
        }
        with locked(folder):
            write_index(folder, description, arrays)
        return folder

    @classmethod
    def load(
        cls,
        features: Any,
        path: str | os.PathLike[str] | None = None,
        *,
        spec: FeatureSpec | str | None = None,
        metric: Metric = "cosine",
        device: str = "auto",
    ) -> "FeatureIndex":
        """Load an index that was saved, of these features.

        Images are found by their keys, so that a store may have been compacted. It has the images that it was saved
        with; `update` takes in those that came since.

        Parameters
        ----------
        features, spec, metric, device
            As of the class.
        path : path, default=None
            None is ``STORE/index/SPEC/METRIC``.

        Returns
        -------
        FeatureIndex

        Raises
        ------
        StoreError
            If there is none, it is damaged, or images of it were removed from the store.
        ValueError
            If it is of another spec, of other features, or of another metric.
        """
        check_metric(metric)
        opened, store = features_of(features, spec)
        folder = folder_of(store, getattr(opened, "spec", None), path, metric)
        saved = Saved.read(folder, opened, metric)
        if store is not None:
            opened = features_of_keys(store, opened.spec, saved.keys)
        index = cls(opened, metric=metric, method=saved.method, device=device)
        index._store, index._labels, index._names = store, saved.labels, saved.names
        index._approximate, index._recall = saved.approximate, saved.recall
        return index
