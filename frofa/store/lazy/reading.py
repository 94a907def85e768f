"""Rows of shards into arrays: long runs by reading the file straight into place, short ones out of the memory map."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from io import FileIO
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import joblib
import numpy as np

from frofa.compute.memory import row_chunks
from frofa.exceptions import DamagedStoreError
from frofa.store.disk.format import Array
from frofa.store.disk.shard import RowNumbers, Shard

Features = TypeVar("Features")
InnerIndices = tuple[tuple[Any, ...], ...]
"""Indices into each feature: integers and slices for the axes after the first, one applied after another."""
READ_BYTES = 2**23
"""Bytes that a thread reads before it takes more: so many that starting is free ("whole" in benchmarks/store.py)."""
LONG_RUN = 2**15
"""Bytes of a run from which on a system call beats the memory map's page faults ("random" in benchmarks/store.py)."""
FEW_RUNS = 256
"""Runs of any length up to which system calls cost no time that matters, and touch least ("opening" there)."""
THREADED_BYTES = 2**24
"""Bytes from which on several threads read; each waits for memory or disk without Python's lock."""
MAX_THREADS = 8


class RowRun(NamedTuple):
    """Rows that follow one another in a shard: the first row, its position in the result, and how many there are."""

    number: int
    first: int
    position: int
    length: int
    shard: Shard


@dataclass(frozen=True)
class ShardRows:
    """All rows of some shards of one dtype and shape of a feature, numbered one shard after another.

    `starts`, shape (n_shards + 1,), has the number of each one's first row.
    """

    shards: Sequence[Shard]
    starts: RowNumbers

    @classmethod
    def of(cls, shards: Sequence[Shard]) -> "ShardRows":
        """Number the rows."""
        return cls(shards, np.concatenate([[0], np.cumsum([len(shard) for shard in shards], dtype=np.int64)]))

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of a feature."""
        return self.shards[0].row_bytes if self.shards else 0

    def runs(self, rows: RowNumbers) -> Iterator[RowRun]:
        """Join rows that follow one another in a file."""
        if not len(rows):
            return
        shard = np.searchsorted(self.starts, rows, "right") - 1
        # A run ends where the next row does not follow, or is another shard's.
        breaks = np.flatnonzero((np.diff(rows) != 1) | (np.diff(shard) != 0)) + 1
        first = np.concatenate([[0], breaks])
        lengths = np.diff(np.concatenate([first, [len(rows)]]))
        number = shard[first]
        # Of each run: its shard, its first row there, its position in the result, and its length.
        in_shard = rows[first] - self.starts[number]
        for values in zip(number.tolist(), in_shard.tolist(), first.tolist(), lengths.tolist(), strict=True):
            yield RowRun(*values, self.shards[values[0]])

    def by_shard(self, rows: RowNumbers) -> Iterator[tuple[Shard, RowNumbers, Any]]:
        """Split rows by shard: each shard, the rows in it, and their positions, in any order."""
        number = np.searchsorted(self.starts, rows, "right") - 1  # of the shard of each row
        if len(number) and (number == number[0]).all():
            yield self.shards[number[0]], rows - self.starts[number[0]], slice(None)
            return
        order = np.argsort(number, kind="stable")
        # Positions sorted by shard; each shard's part of them begins at its place in `starts`.
        numbers, starts = np.unique(number[order], return_index=True)
        for one, part in zip(numbers.tolist(), np.split(order, starts[1:]), strict=True):
            yield self.shards[one], rows[part] - self.starts[one], part

    def only(self, rows: RowNumbers | range) -> "tuple[ShardRows, RowNumbers | range]":
        """Leave out the shards without any of these rows; return the rest, and the rows as they are numbered there."""
        numbers = as_rows(rows)
        used, shard = np.unique(np.searchsorted(self.starts, numbers, "right") - 1, return_inverse=True)
        if len(used) == len(self.shards):
            return self, rows
        if not len(used):
            return ShardRows.of(self.shards[:1]), rows  # which knows the feature's shape
        fewer = ShardRows.of([self.shards[number] for number in used.tolist()])
        return fewer, numbers - self.starts[used[shard]] + fewer.starts[shard]

    def one_run(self, rows: RowNumbers | range) -> tuple[Shard, slice] | None:
        """The shard and its slice that these rows are, if they are evenly spaced in one shard."""
        if not len(rows):
            return None
        first, last = int(rows[0]), int(rows[-1])
        number = int(np.searchsorted(self.starts, first, "right")) - 1
        if not self.starts[number] <= last < self.starts[number + 1]:
            return None
        step = int(rows[1]) - first if len(rows) > 1 else 1
        if not isinstance(rows, range) and (step == 0 or (np.diff(rows) != step).any()):
            return None
        # As a slice of the shard; one that runs backwards to row 0 ends at None.
        begin, end = first - int(self.starts[number]), last - int(self.starts[number])
        stop = end + (1 if step > 0 else -1)
        return self.shards[number], slice(begin, None if stop < 0 else stop, step)


def read_rows(
    shards: ShardRows, rows: RowNumbers | range, out: Array, inner: InnerIndices, *, bfloat16: bool = False
) -> None:
    """Read n rows, and what is wanted of each feature, into a C-contiguous array (n, ...) of any dtype.

    An array of the files' dtype gets what is stored, bit for bit; `bfloat16` says that these are the bits of bfloat16,
    to be decoded for others. FileNotFoundError if a shard was removed, StoreError if a file is damaged.
    """
    stored = shards.shards[0].dtype

    def read(part: slice) -> None:
        # Into an array of the stored dtype, rows are read in place; another one is converted from a buffer.
        numbers, target = as_rows(rows[part]), out[part]
        if out.dtype == stored:
            _read_part(shards, numbers, target, inner)
            return
        raw = np.empty((len(numbers), *out.shape[1:]), stored)
        _read_part(shards, numbers, raw, inner)
        target[...] = decode_bfloat16(raw) if bfloat16 else raw

    # Few bytes, or one part, are read sooner than a thread starts.
    parts = list(row_chunks(len(rows), READ_BYTES, shards.row_bytes))
    if len(parts) == 1 or len(rows) * shards.row_bytes < THREADED_BYTES:
        for part in parts:
            read(part)
        return
    with ThreadPoolExecutor(min(MAX_THREADS, joblib.cpu_count())) as pool:
        for _ in pool.map(read, parts):
            pass


def as_rows(rows: RowNumbers | range) -> RowNumbers:
    """Row numbers as an array."""
    return np.arange(rows.start, rows.stop, rows.step) if isinstance(rows, range) else rows


def mapped_features(shard: Shard) -> Array:
    """The map of a shard's features, after a look whether its files were cut, of which a map knows nothing."""
    with suppress(FileNotFoundError):  # what was mapped before it was removed is whole
        shard.check_sizes()
    return shard.features


def take_inner(features: Features, inner: InnerIndices) -> Features:
    """Take what is wanted of each of features (n, ...); a view."""
    taken: Any = features
    for index in inner:
        taken = taken[(slice(None), *index)]
    return cast("Features", taken)


def inner_shape(shape: tuple[int, ...], inner: InnerIndices) -> tuple[int, ...]:
    """Shape of what is taken of a feature of this shape; errors as NumPy's where it has no such part."""
    return take_inner(np.broadcast_to(np.uint8(0), (1, *shape)), inner).shape[1:]


def decode_bfloat16(bits: Array) -> Array:
    """The bits of bfloat16 as float32, exactly."""
    widened: Array = (bits.astype(np.uint32) << 16).view(np.float32)
    return widened


def _read_part(shards: ShardRows, rows: RowNumbers, out: Array, inner: InnerIndices) -> None:
    # Whole features in long runs, or few: straight from the files.
    if not inner and len(rows):
        runs = list(shards.runs(rows))
        if len(runs) <= FEW_RUNS or out.nbytes >= LONG_RUN * len(runs):
            _read_runs(runs, out.reshape(-1).view(np.uint8).data)
            return
    # Short runs, or parts of features: out of the memory maps, shard by shard.
    for shard, part, positions in shards.by_shard(rows):
        wanted = take_inner(mapped_features(shard), inner)
        if isinstance(positions, slice) and not inner:
            np.take(wanted, part, axis=0, out=out, mode="clip")  # rows are in range: 'raise' would buffer
        else:
            out[positions] = wanted[part]


def _read_runs(runs: list[RowRun], data: memoryview) -> None:
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
