"""Where the features of a run go: into arrays, or into a store."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from frofa._engine import Computed
from frofa.estimators.ragged import RaggedTokens
from frofa.store import ShardWriter
from frofa.store.ragged import RaggedWriter

Writer: TypeAlias = ShardWriter | RaggedWriter


class Sink(Protocol):
    """Takes what a run computes."""

    def __call__(self, positions: list[int], features: list[Computed]) -> int:
        """Take the features of a batch, one array for each request; return how many images are done since the last."""

    def commit(self) -> int:
        """Finish; return how many images this makes done."""


class ArraySink:
    """Keeps features in memory, by position, one array for each request.

    Parameters
    ----------
    n : int
        Positions.
    """

    def __init__(self, n: int):
        self._n = n
        self.arrays: list[npt.NDArray[Any]] = []

    def __call__(self, positions: list[int], features: list[Computed]) -> int:
        """Take a batch; return its size."""
        batch = [values.float().numpy() if isinstance(values, Tensor) else values for values in features]
        if not self.arrays:
            self.arrays = [np.empty((self._n, *values.shape[1:]), values.dtype) for values in batch]
        for array, values in zip(self.arrays, batch, strict=True):
            check_shape(values.shape[1:], array.shape[1:])
            array[positions] = values
        return len(positions)

    def commit(self) -> int:
        """Nothing is left to do."""
        return 0


class StoreSink:
    """Writes features to a store, those of each request that it lacks; commits all requests together.

    Parameters
    ----------
    digests : mapping of int to str
        The key of each position.
    writers : sequence of (keys, ShardWriter or RaggedWriter)
        For each request, the keys that the store lacks, and what writes them; of RaggedTokens, a RaggedWriter.
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


def _shape(features: Any) -> tuple[int, ...]:
    """What all images have in common."""
    shape: tuple[int, ...] = features.shape[2:] if isinstance(features, RaggedTokens) else features.shape[1:]
    return shape


def check_shape(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Raise an error if images have features of different shapes, which no array can hold."""
    if shape != expected:
        raise ValueError(
            f"these images have features of different shapes, {expected} and {shape}: choose output='mean', 'cls' or "
            "'pooled', or extract images of each size apart."
        )
