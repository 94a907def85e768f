"""Finding the features that an index is of: those of a store and a spec, or an array."""

import os
from collections.abc import Hashable, Mapping, Sequence, Set
from typing import Any

import numpy as np

from frofa.compute.arrays import plain_labels
from frofa.exceptions import StoreError
from frofa.retrieval.remembered import Remembered
from frofa.retrieval.rows import Array
from frofa.store import FeatureArray, FeatureSpec, FeatureStore
from frofa.store.directory import StoreDirectory
from frofa.store.keys import KeyArray, first_of_each, to_hex


def features_of(source: Any, spec: FeatureSpec | str | None) -> tuple[Any, FeatureStore | None]:
    """Open the features of a store, given as such or as its path, each image once; others pass as they are.

    Returns the features, and the store if there is one.

    A ValueError says that no spec, or one of several, was to be chosen; a StoreError, that there is no such store.
    """
    if isinstance(source, (str, os.PathLike)):
        source = FeatureStore(source)
        if not source.path.is_dir():
            raise StoreError(f"there is no feature store at {source.path}.")
    if not isinstance(source, StoreDirectory):
        own = getattr(source, "spec", None)
        if spec is not None and not (isinstance(own, FeatureSpec) and _is_meant(own, spec)):
            raise ValueError("expected 'spec' with a store, or that of the features. Got other features.")
        return source, None
    store = source if isinstance(source, FeatureStore) else FeatureStore(source.path)
    features = store.features(spec_of(store, spec))
    first = first_of_each(features.keys)
    return (features if len(first) == len(features) else features[first]), store


def features_of_keys(store: FeatureStore, spec: FeatureSpec, keys: KeyArray) -> FeatureArray:
    """Open the features of these images; a StoreError says that some are gone."""
    try:
        return store.features(spec, keys)
    except KeyError as error:
        raise StoreError(f"images of the index were removed from {store.path}: build it again. ({error})") from error


def added_keys(store: FeatureStore, spec: FeatureSpec, keys: KeyArray) -> KeyArray:
    """Keys of images that the store has beside these, in the order they were written."""
    both = np.concatenate([keys, store.features(spec).keys])
    first = first_of_each(both)
    return both[first[first >= len(keys)]]


def spec_of(store: StoreDirectory, wanted: FeatureSpec | str | None = None) -> FeatureSpec:
    """Choose the spec that is meant, by itself or by the first digits of its digest, or the only one of vectors.

    A ValueError lists those that are there.
    """
    found = store.specs()
    matching = [spec for spec in found.values() if wanted is None or _is_meant(spec, wanted)]
    if wanted is None:
        # Texts lie in the same store, and are no images.
        vectors = [spec for spec in matching if len(store.table(spec).feature_shape() or ()) == 1]
        matching = [spec for spec in vectors if spec.output != "text"]
    if len(matching) == 1:
        return matching[0]
    listed = "; ".join(describe(store, spec) for spec in (matching or found.values())) or "nothing"
    if wanted is None:
        raise ValueError(f"expected one kind of vectors in {store.path}, or 'spec' to say which. There are: {listed}.")
    name = wanted.digest if isinstance(wanted, FeatureSpec) else wanted
    raise ValueError(f"expected 'spec' to be one that {store.path} has. Got {name!r}; there are: {listed}.")


def describe(store: StoreDirectory, spec: FeatureSpec) -> str:
    """Name a spec by what people tell it by: digest, output, shape and number of images."""
    features = store.features(spec)
    return f"{spec.digest[:12]} ({spec.output}, {len(features)} images, shape {features.shape[1:]}, {spec.dtype})"


def check_queries(queries: Any, spec: FeatureSpec | None) -> None:
    """Raise a ValueError for lazy features, as queries, of another backbone or output than those that are searched."""
    if not isinstance(queries, FeatureArray) or spec is None:
        return
    other = queries.spec
    names = [name for name in ("weights", "architecture", "output", "layer", "norm") if name in spec.differences(other)]
    if names:
        raise ValueError(
            f"expected queries of the backbone and output that the index is of ({spec.digest[:12]}). Got features "
            f"({other.digest[:12]}) that differ in {', '.join(names)}."
        )


def values_of_rows(values: Any, features: Any, name: str) -> Array | None:
    """Make an array (n,) of labels or names, given in the order of the rows or by key; None stays."""
    if values is None:
        return None
    if isinstance(values, Mapping):
        if not isinstance(features, FeatureArray):
            raise TypeError(f"expected {name} of an array in the order of its rows. Got a mapping.")
        keys = to_hex(features.keys)
        if keys and not any(key in values for key in keys):
            raise ValueError(f"expected {name} by the keys of images, such as {keys[0]!r}. Got none of these.")
        values = [values.get(key) for key in keys]
    rows = plain_labels(values)
    if rows.shape != (len(features),):
        raise ValueError(f"expected one of {name} for each of {len(features)} rows. Got shape {rows.shape}.")
    return rows


def allowed_rows(where: Any, labels: Array | None, remembered: Remembered, n: int) -> Any:
    """Positions, ascending, of the rows that a mask (n,), a label or several labels let through; None lets all.

    Labels are those that were given, or else those that the store remembers.
    """
    if where is None:
        return None
    mask = np.asarray(where) if isinstance(where, (list, tuple)) or hasattr(where, "__array__") else None
    if mask is not None and mask.dtype == bool and mask.ndim:
        if mask.shape != (n,):
            raise ValueError(f"expected a mask of shape ({n},) as 'where'. Got {mask.shape}.")
        return np.flatnonzero(mask).astype(np.int64)
    if mask is not None and mask.ndim > 1:
        raise ValueError(f"expected a mask of shape ({n},), or labels, as 'where'. Got shape {mask.shape}.")
    several = isinstance(where, (Sequence, Set)) and not isinstance(where, (str, bytes))
    wanted = list(where) if several or (mask is not None and mask.ndim == 1) else [where]
    if not wanted:
        raise ValueError("expected one label or more as 'where'. Got none.")
    if labels is None:
        return remembered.rows_with(wanted)
    known = set(labels.tolist())
    unknown = [value for value in wanted if not isinstance(value, Hashable) or value not in known]
    if unknown:
        raise ValueError(
            f"expected labels of the index as 'where', or a mask of bools, shape ({n},). Got {unknown[0]!r}, which no "
            "row has."
        )
    chosen = set(wanted)
    return np.flatnonzero([label in chosen for label in labels.tolist()]).astype(np.int64)


def _is_meant(spec: FeatureSpec, wanted: FeatureSpec | str) -> bool:
    if isinstance(wanted, FeatureSpec):
        return spec == wanted
    return isinstance(wanted, str) and bool(wanted) and spec.digest.startswith(wanted)
