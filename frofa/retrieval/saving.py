"""The parts of an index that are saved beside labels, names and the digest of what it is of."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from frofa.compute.digests import digest_data
from frofa.retrieval.approximate.searching import Approximate
from frofa.retrieval.approximate.state import from_state
from frofa.retrieval.files import damaged, read_index
from frofa.retrieval.rows import Array
from frofa.store import FeatureArray, FeatureStore
from frofa.store.directory import INDICES
from frofa.store.keys import KEY_BYTES, KeyArray

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Saved:
    """All that was saved of an index."""

    method: Any
    labels: Array | None
    names: Array | None
    keys: KeyArray
    approximate: Approximate | None
    recall: dict[str, dict[int, float]] | None

    @classmethod
    def read(cls, folder: Path, features: Any, metric: str) -> "Saved":
        """Read an index of these features; a ValueError says that it is of others, a StoreError that it is damaged."""
        content, arrays = read_index(folder)
        fail = damaged(folder)
        if content["features"] != digest_of(features) or content["metric"] != metric:
            raise ValueError(
                f"expected an index of these features, by {metric!r}. Got one of {content['features'][:12]}, by "
                f"{content['metric']!r}, in {folder}."
            )
        lazy, n = isinstance(features, FeatureArray), content["shape"][0]
        keys = arrays.get("keys", np.empty((0, KEY_BYTES), np.uint8))
        try:
            labels, names = unpack_labels(content["labels"], arrays), unpack_names(arrays)
        except (LookupError, ValueError) as error:
            raise fail(f"labels or names: {error}") from error
        sizes = {len(one) for one in (labels, names, keys if lazy else None) if one is not None}
        if content["method"] not in ("auto", "exact", "approximate") or sizes - {n}:
            raise fail("its parts do not fit together")
        search = content["search"]
        if search is None:
            return cls(content["method"], labels, names, keys, None, None)
        recall = {kind: {int(k): part for k, part in of.items()} for kind, of in search.get("recall", {}).items()}
        return cls(content["method"], labels, names, keys, from_state(search, arrays, metric, n, fail), recall)


def folder_of(store: FeatureStore | None, spec: Any, path: Any, metric: str) -> Path:
    """The directory of an index: beside the features of a store, or one that was named."""
    if path is not None:
        return Path(path)
    if store is None:
        raise ValueError("expected 'path' for an index of an array: there is no store to keep it in.")
    return store.path / INDICES / str(spec.digest) / metric


def digest_of(features: Any) -> str:
    """Digest of what features are: the spec of a store's, the values of others."""
    return features.spec.digest if isinstance(features, FeatureArray) else digest_data(features)


def pack_labels(labels: Array | None) -> tuple[list[Any] | None, Arrays]:
    """Turn labels (n,) into a list of different ones, and which of them each row has.

    A TypeError says that one cannot be written.
    """
    if labels is None:
        return None, {}
    seen: dict[tuple[type, Any], int] = {}
    codes = np.array([seen.setdefault((type(label), label), len(seen)) for label in labels.tolist()], np.int32)
    listed = [label for _, label in seen]
    try:
        json.dumps(listed)
    except TypeError as error:
        raise TypeError(f"expected labels of text, numbers or None, to be saved. ({error})") from error
    return listed, {"labels": codes}


def unpack_labels(listed: list[Any] | None, arrays: Mapping[str, npt.NDArray[Any]]) -> Array | None:
    """Make labels again; IndexError or KeyError if they do not fit together."""
    if listed is None:
        return None
    plain = len({type(label) for label in listed}) == 1 and isinstance(listed[0], (str, int, float))
    labels = np.array(listed) if plain else _objects(listed)
    chosen: Array = labels[arrays["labels"]]
    return chosen


def pack_names(names: Array | None) -> Arrays:
    """Turn names (n,), text or None, into their bytes, one after another, and sizes, -1 for None."""
    if names is None:
        return {}
    encoded = [None if name is None else str(name).encode(errors="surrogateescape") for name in names.tolist()]
    sizes = np.array([-1 if one is None else len(one) for one in encoded], np.int32)
    return {"names": np.frombuffer(b"".join(filter(None, encoded)), np.uint8), "name_sizes": sizes}


def unpack_names(arrays: Mapping[str, npt.NDArray[Any]]) -> Array | None:
    """Make names again."""
    if "names" not in arrays:
        return None
    data, stop, names = arrays["names"].tobytes(), 0, []
    for size in arrays["name_sizes"].tolist():
        start, stop = stop, stop + max(size, 0)
        names.append(None if size < 0 else data[start:stop].decode(errors="surrogateescape"))
    return _objects(names) if None in names else np.array(names)


def joined(one: Array | None, other: Array | None, n: int, n_added: int) -> Array | None:
    """Put values of added rows behind those that are there; None where there is none."""
    if one is None and other is None:
        return None
    parts = [_objects([None] * size) if part is None else part for part, size in ((one, n), (other, n_added))]
    if len({part.dtype.kind for part in parts}) > 1:
        parts = [part.astype(object) for part in parts]
    return np.concatenate(parts)


def _objects(values: list[Any]) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array
