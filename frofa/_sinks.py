"""Where the features of a run go: into arrays, or into a store."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from frofa.store import FeatureSpec, FeatureStore

Features = npt.NDArray[Any]


class Writer(Protocol):
    """What `FeatureStore.writer` gives."""

    def add(self, keys: Sequence[str], features: Features) -> None:
        """Take a batch."""


class ArraySink:
    """Keeps features in memory, by position, one array for each request.

    Parameters
    ----------
    n : int
        Positions.
    """

    def __init__(self, n: int):
        self._n = n
        self.arrays: list[Features] = []

    def __call__(self, positions: list[int], features: list[Features]) -> None:
        """Take a batch."""
        if not self.arrays:
            self.arrays = [np.empty((self._n, *values.shape[1:]), values.dtype) for values in features]
        for array, values in zip(self.arrays, features, strict=True):
            check_shape(values.shape[1:], array.shape[1:])
            array[positions] = values


class StoreSink:
    """Writes features to a store, those of each request that it lacks.

    Parameters
    ----------
    digests : mapping of int to str
        The key of each position.
    writers : sequence of (keys, Writer)
        For each request, the keys that the store lacks, and what writes them.
    """

    def __init__(self, digests: Mapping[int, str], writers: Sequence[tuple[Mapping[str, object], Writer]]):
        self._digests, self._writers = digests, writers
        self._shapes: list[tuple[int, ...]] = []
        self.n_added = [0] * len(writers)

    def __call__(self, positions: list[int], features: list[Features]) -> None:
        """Take a batch."""
        keys = [self._digests[position] for position in positions]
        self._shapes = self._shapes or [values.shape[1:] for values in features]
        for index, ((lacking, writer), values) in enumerate(zip(self._writers, features, strict=True)):
            check_shape(values.shape[1:], self._shapes[index])
            rows = [row for row, key in enumerate(keys) if key in lacking]
            if rows:
                whole = len(rows) == len(keys)
                writer.add(keys if whole else [keys[row] for row in rows], values if whole else values[rows])
                self.n_added[index] += len(rows)


def check_shape(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Raise an error if images have features of different shapes, which no array can hold."""
    if shape != expected:
        raise ValueError(
            f"these images have features of different shapes, {expected} and {shape}: choose output='mean', 'cls' or "
            "'pooled', or extract images of each size apart."
        )


class _PutWriter:
    """STAND-IN for what `FeatureStore.writer` will give: writes each batch at once."""

    def __init__(self, store: FeatureStore, spec: FeatureSpec):
        self._store, self._spec = store, spec

    def add(self, keys: Sequence[str], features: Features) -> None:
        self._store.put(self._spec, keys, features)


@contextmanager
def open_writer(store: FeatureStore, spec: FeatureSpec) -> Iterator[Writer]:
    """STAND-IN: to be replaced by ``store.writer(spec)``, with `_PutWriter`."""
    if hasattr(store, "writer"):
        with store.writer(spec) as writer:
            yield writer
    else:
        yield _PutWriter(store, spec)
