"""Destinations of the features of a run: arrays, or a store."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from frofa.extraction.transfers import as_array
from frofa.ragged import RaggedTokens
from frofa.store import FeatureArray, FeatureSpec, FeatureStore, ShardWriter
from frofa.store.ragged import RaggedStore, RaggedWriter


class MemoryWriter:
    """Takes the place of a store's writer where the store cannot be written: puts features into `rows`, by key.

    Tokens of images of different sizes are (h, w, C) each.
    """

    is_due = False

    def __init__(self, rows: dict[str, npt.NDArray[Any]]):
        self._rows = rows

    def add(self, keys: Sequence[str], features: Any) -> None:
        """Take a batch."""
        self._rows.update(zip(keys, as_array(features), strict=True))

    def commit(self) -> None:
        """Do nothing: what was added stays in memory."""

    def __enter__(self) -> "MemoryWriter":
        return self

    def __exit__(self, *_: object) -> None: ...


Writer: TypeAlias = ShardWriter | RaggedWriter | MemoryWriter
_RaggedParts: TypeAlias = "list[tuple[list[int], RaggedTokens]]"
"""Positions and tokens, batch by batch."""


class MemorySink:
    """Keeps features of `n` positions in memory: an array for each target, or the parts of ragged tokens."""

    def __init__(self, n: int):
        self._n = n
        self._found: list[npt.NDArray[Any] | _RaggedParts] = []

    def __call__(self, positions: list[int], features: list[Any]) -> int:
        """Take a batch; return its size."""
        # The first batch tells which shape (n, ...) and dtype the arrays have.
        batch: list[Any] = [as_array(values) for values in features]
        self._found = self._found or [self._for(values) for values in batch]
        for found, values in zip(self._found, batch, strict=True):
            if isinstance(found, list):
                found.append((positions, values))
            else:
                check_shape(values.shape[1:], found.shape[1:])
                found[positions] = values
        return len(positions)

    def commit(self) -> int:
        """Do nothing: what was taken is done already."""
        return 0

    def features(self, kept: npt.NDArray[np.intp]) -> list[Any]:
        """Give the features of each target at these positions, which are all that came, in order."""
        return [
            _by_position(found) if isinstance(found, list) else found if len(kept) == self._n else found[kept]
            for found in self._found
        ]

    def _for(self, values: Any) -> "npt.NDArray[Any] | _RaggedParts":
        """Make what takes features such as these."""
        return [] if isinstance(values, RaggedTokens) else np.empty((self._n, *values.shape[1:]), values.dtype)


def _by_position(parts: Sequence[tuple[list[int], RaggedTokens]]) -> RaggedTokens:
    """Join batches, ordered by position."""
    # Whole batches come in order, so that sorting mostly finds nothing to do, and copies nothing.
    whole = RaggedTokens.concatenate([tokens for _, tokens in parts])
    order = np.argsort(np.concatenate([positions for positions, _ in parts]), kind="stable")
    return whole if (order == np.arange(len(order))).all() else whole[order]


class StoreSink:
    """Writes to a store the features of each target that it lacks; commits those of all targets together.

    `digests` are the keys by position. For each target, `writers` has the keys that the store lacks, and what takes
    their features; for RaggedTokens, no ShardWriter.
    """

    def __init__(self, digests: Mapping[int, str], writers: Sequence[tuple[Mapping[str, object], Writer]]):
        self._digests, self._writers = digests, writers
        self._shapes: list[tuple[int, ...]] = []
        self._n_waiting = 0
        self.n_added = [0] * len(writers)

    def __call__(self, positions: list[int], features: list[Any]) -> int:
        """Take a batch; return how many images are on disk since the last call."""
        keys = [self._digests[position] for position in positions]
        self._shapes = self._shapes or [_shape(values) for values in features]
        for index, ((lacking, writer), values) in enumerate(zip(self._writers, features, strict=True)):
            check_shape(_shape(values), self._shapes[index])
            # An image of the batch may be there for another target alone.
            rows = [row for row, key in enumerate(keys) if key in lacking]
            if rows:
                whole = len(rows) == len(keys)
                writer.add(keys if whole else [keys[row] for row in rows], values if whole else values[rows])
                self.n_added[index] += len(rows)
        self._n_waiting += len(positions)
        return self.commit() if any(writer.is_due for _, writer in self._writers) else 0

    def commit(self) -> int:
        """Put all on disk; return how many images that are."""
        for _, writer in self._writers:
            writer.commit()
        n, self._n_waiting = self._n_waiting, 0
        return n


Sink: TypeAlias = MemorySink | StoreSink


def gather(store: FeatureStore | RaggedStore, spec: FeatureSpec, keys: Sequence[str], rows: Mapping[str, Any]) -> Any:
    """Give features in the order of the keys, out of memory where they are there, and else out of a store.

    They are a FeatureArray, which is not read yet, if all are in the store; else an array or RaggedTokens.
    """
    if not rows:
        return store.features(spec, keys)
    # Each stored image is read once, however often it is wanted.
    stored = list(dict.fromkeys(key for key in keys if key not in rows))
    found: Any = store.features(spec, stored) if stored else ()
    if isinstance(found, FeatureArray):
        found = np.asarray(found)
    by_key = {**rows, **dict(zip(stored, found, strict=True))}
    parts = [by_key[key] for key in keys]
    if not isinstance(store, RaggedStore):
        return np.stack(parts)
    # Tokens of each image come as (h, w, C): joined, (T, C).
    values = np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])
    return RaggedTokens(values, [part.shape[:2] for part in parts])


def _shape(features: Any) -> tuple[int, ...]:
    """Shape of one image's features, as far as all images share it."""
    shape: tuple[int, ...] = features.shape[2:] if isinstance(features, RaggedTokens) else features.shape[1:]
    return shape


def check_shape(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Raise an error if images have features of different shapes, which no array can hold."""
    if shape != expected:
        raise ValueError(
            f"these images have features of different shapes, {expected} and {shape}: choose output='mean', 'cls' or "
            "'pooled', or extract images of each size apart."
        )
