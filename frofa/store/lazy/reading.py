"""Rows of shards into arrays: long runs by reading the file straight into place, short ones out of the memory map."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from io import FileIO
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import numpy.typing as npt

from frofa.exceptions import DamagedStoreError
from frofa.store.disk.format import Array
from frofa.store.disk.shard import Shard

Rows = npt.NDArray[np.int64]
Steps = tuple[tuple[Any, ...], ...]
"""What is taken of each feature, index after index, each for the axes after the first: integers and slices."""
BLOCK = 2**23
"""Bytes that are read by one thread before it takes the next: large enough that starting one costs nothing."""
LONG_RUN = 2**15
"""Bytes of a run from which on a system call is faster than the page faults of the memory map."""
FEW_RUNS = 256
"""Runs of any length up to which system calls take no time that matters, and touch the least of the files."""
THREADED = 2**24
"""Bytes from which on several threads read; each waits for memory or disk without Python's lock."""
MAX_THREADS = 8


class Run(NamedTuple):
    """The number of a shard, the first row in it, its position in the result, and how many rows; and the shard."""

    number: int
    first: int
    position: int
    length: int
    shard: Shard


@dataclass(frozen=True)
class ShardRows:
    """All rows of some shards, numbered one shard after another.

    Attributes
    ----------
    shards : sequence of Shard
        Of one dtype and shape of a feature.
    starts : ndarray of int64, shape (n_shards + 1,)
        The number of each one's first row.
    """

    shards: Sequence[Shard]
    starts: Rows

    @classmethod
    def of(cls, shards: Sequence[Shard]) -> "ShardRows":
        """Number the rows."""
        return cls(shards, np.concatenate([[0], np.cumsum([len(shard) for shard in shards], dtype=np.int64)]))

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of a feature."""
        return self.shards[0].row_bytes if self.shards else 0

    def runs(self, rows: Rows) -> "Iterator[Run]":
        """Rows that follow one another in a file."""
        if not len(rows):
            return
        shard = np.searchsorted(self.starts, rows, "right") - 1
        breaks = np.flatnonzero((np.diff(rows) != 1) | (np.diff(shard) != 0)) + 1
        first = np.concatenate([[0], breaks])
        lengths = np.diff(np.concatenate([first, [len(rows)]]))
        number = shard[first]
        in_shard = rows[first] - self.starts[number]
        for values in zip(number.tolist(), in_shard.tolist(), first.tolist(), lengths.tolist(), strict=True):
            yield Run(*values, self.shards[values[0]])

    def by_shard(self, rows: Rows) -> Iterator[tuple[Shard, Rows, Any]]:
        """Each shard, rows in it, and their positions, in any order."""
        number = np.searchsorted(self.starts, rows, "right") - 1
        if len(number) and (number == number[0]).all():
            yield self.shards[number[0]], rows - self.starts[number[0]], slice(None)
            return
        order = np.argsort(number, kind="stable")
        numbers, starts = np.unique(number[order], return_index=True)
        for one, part in zip(numbers.tolist(), np.split(order, starts[1:]), strict=True):
            yield self.shards[one], rows[part] - self.starts[one], part

    def only(self, rows: Rows | range) -> "tuple[ShardRows, Rows | range]":
        """The shards that these rows are in, and the rows as they are numbered there."""
        numbers = as_rows(rows)
        used, shard = np.unique(np.searchsorted(self.starts, numbers, "right") - 1, return_inverse=True)
        if len(used) == len(self.shards):
            return self, rows
        if not len(used):
            return ShardRows.of(self.shards[:1]), rows  # which knows the feature's shape
        fewer = ShardRows.of([self.shards[number] for number in used.tolist()])
        return fewer, numbers - self.starts[used[shard]] + fewer.starts[shard]

    def one_run(self, rows: Rows | range) -> tuple[Shard, slice] | None:
        """The shard and the slice that these rows are, if they are evenly spaced in one shard."""
        if not len(rows):
            return None
        first, last = int(rows[0]), int(rows[-1])
        number = int(np.searchsorted(self.starts, first, "right")) - 1
        if not self.starts[number] <= last < self.starts[number + 1]:
            return None
        step = int(rows[1]) - first if len(rows) > 1 else 1
        if not isinstance(rows, range) and (step == 0 or (np.diff(rows) != step).any()):
            return None
        begin, end = first - int(self.starts[number]), last - int(self.starts[number])
        stop = end + (1 if step > 0 else -1)
        return self.shards[number], slice(begin, None if stop < 0 else stop, step)


def read_rows(
    source: ShardRows, rows: Rows | range, out: Array, steps: Steps, decode: Callable[[Array], Array]
) -> None:
    """Read features into an array.

    Parameters
    ----------
    source : ShardRows
    rows : ndarray of int64 or range, of length n
    out : ndarray of shape (n, ...)
        Of any dtype; C-contiguous.
    steps : tuple
        What is taken of each feature.
    decode : callable
        Turns what is stored into values that can be assigned to `out`; not called where that has the stored dtype.

    Raises
    ------
    FileNotFoundError
        If a shard was removed.
    StoreError
        If a file is damaged.
    """
    stored = source.shards[0].dtype
    size = max(1, BLOCK // max(1, source.row_bytes))

    def read(start: int) -> None:
        part = as_rows(rows[start : start + size])
        target = out[start : start + size]
        if out.dtype == stored:
            _read_block(source, part, target, steps)
            return
        raw = np.empty((len(part), *out.shape[1:]), stored)
        _read_block(source, part, raw, steps)
        target[...] = decode(raw)

    starts = range(0, len(rows), size)
    if len(starts) == 1 or len(rows) * source.row_bytes < THREADED:
        for start in starts:
            read(start)
        return
    with ThreadPoolExecutor(min(MAX_THREADS, joblib.cpu_count())) as pool:
        for _ in pool.map(read, starts):
            pass


def as_rows(rows: Rows | range) -> Rows:
    """Row numbers as an array."""
    return np.arange(rows.start, rows.stop, rows.step) if isinstance(rows, range) else rows


def mapped_features(shard: Shard) -> Array:
    """The map of a shard's features, after a look whether its files were cut, of which a map knows nothing."""
    with suppress(FileNotFoundError):  # what was mapped before it was removed is whole
        shard.check_sizes()
    return shard.features


def take_steps(features: Array, steps: Steps) -> Array:
    """The part of features (n, ...) that is wanted; a view."""
    for step in steps:
        features = features[(slice(None), *step)]
    return features


def _read_block(source: ShardRows, rows: Rows, out: Array, steps: Steps) -> None:
    if not steps and len(rows):
        runs = list(source.runs(rows))
        if len(runs) <= FEW_RUNS or out.nbytes >= LONG_RUN * len(runs):
            _read_runs(runs, out.reshape(-1).view(np.uint8).data)
            return
    for shard, part, positions in source.by_shard(rows):
        wanted = take_steps(mapped_features(shard), steps)
        if isinstance(positions, slice) and not steps:
            np.take(wanted, part, axis=0, out=out, mode="clip")  # places are in range: 'raise' would buffer
        else:
            out[positions] = wanted[part]


def _read_runs(runs: list[Run], data: memoryview) -> None:
    """Read each run to its place; those of a shard together, in the order of the file."""
    for _, of_shard in groupby(sorted(runs), lambda run: run[0]):
        parts = list(of_shard)
        shard = parts[0].shard
        n, offset = shard.row_bytes, shard.offset  # after a check of the header
        try:
            with (shard.path / "features.npy").open("rb", buffering=0) as file:
                for _, first, position, length, _ in parts:
                    _fill(data[position * n : (position + length) * n], file, offset + first * n)
        except FileNotFoundError:  # removed by a compaction: the map is still there
            for _, first, position, length, _ in parts:
                taken = mapped_features(shard)[first : first + length]
                data[position * n : (position + length) * n] = taken.reshape(-1).view(np.uint8).data


def _fill(target: memoryview, file: FileIO, offset: int) -> None:
    file.seek(offset)
    while target:
        done = file.readinto(target)
        if not done:
            raise DamagedStoreError(Path(str(file.name)), "it ends early")
        target = target[done:]
