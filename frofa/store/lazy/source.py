"""The rows of shards that a lazy array and all of its views share, found again after a compaction."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from frofa.exceptions import StoreError
from frofa.store.disk.format import Array
from frofa.store.disk.shard import RowNumbers, Shard
from frofa.store.disk.table import Locations, SpecTable
from frofa.store.keys import KEY_BYTES, KeyArray
from frofa.store.lazy.reading import InnerIndices, ShardRows, as_rows, inner_shape, read_rows
from frofa.store.spec import FeatureSpec


class FeatureSource:
    """Rows of some shards, in an order, and what is taken of each.

    `rows` are their numbers in `shards`; `on_device` has tensors of all of them, by device.
    """

    def __init__(
        self,
        table: SpecTable,
        spec: FeatureSpec,
        shards: ShardRows,
        rows: RowNumbers | range,
        inner: InnerIndices = (),
    ):
        self.table, self.spec, self.inner = table, spec, inner
        self._located = (shards, rows)  # one value, so that threads never see the shards of one and the rows of another
        self.on_device: dict[torch.device, torch.Tensor] = {}
        self.shape = (len(rows), *inner_shape(_feature_shape(shards.shards, spec), inner))

    @classmethod
    def of_locations(cls, table: SpecTable, spec: FeatureSpec, found: Locations) -> "FeatureSource":
        """Rows where a table has found them."""
        shards = ShardRows.of(found.shards or table.shards()[:1])  # of no rows, one knows the shape
        return cls(table, spec, shards, shards.starts[found.shard] + found.row)

    @classmethod
    def of_shards(cls, table: SpecTable, spec: FeatureSpec) -> "FeatureSource":
        """All rows, in the order they were written."""
        shards = ShardRows.of(table.shards())
        return cls(table, spec, shards, range(int(shards.starts[-1])))

    def select(self, at: RowNumbers | range, inner: InnerIndices) -> "FeatureSource":
        """Take some of the rows, and parts of their features, as a source of its own."""
        shards, rows = self._located
        return FeatureSource(self.table, self.spec, shards, pick(rows, at), (*self.inner, *inner))

    def one_run(self, at: RowNumbers | range) -> tuple[Shard, slice] | None:
        """The shard and its slice that these rows are, if they are evenly spaced in one shard."""
        shards, rows = self._located
        return shards.one_run(pick(rows, at))

    def keys(self, at: RowNumbers | range) -> KeyArray:
        """Keys of these rows, shape (n, 20)."""
        shards, rows = self._located
        numbers = as_rows(pick(rows, at))
        # Shard by shard, each part goes to the positions at which its rows were asked for.
        keys: KeyArray = np.empty((len(numbers), KEY_BYTES), np.uint8)
        for shard, part, positions in shards.by_shard(numbers):
            keys[positions] = shard.keys_at(part)
        return keys

    def read(self, at: RowNumbers | range, out: Array, inner: InnerIndices = ()) -> None:
        """Read rows into an array of any dtype; of the files' own dtype, into their bits.

        StoreError if a file is damaged, or features were removed and are nowhere else in the store.
        """
        if not out.size:
            return
        try:
            self._read(at, out, inner)
        except FileNotFoundError:  # shards were merged by another process
            self._locate_again()
            try:
                self._read(at, out, inner)
            except FileNotFoundError as error:
                raise StoreError(f"{error.filename} was removed while it was being read.") from error

    def _read(self, at: RowNumbers | range, out: Array, inner: InnerIndices) -> None:
        shards, rows = self._located
        read_rows(shards, pick(rows, at), out, (*self.inner, *inner), bfloat16=self.spec.dtype == "bfloat16")

    def _locate_again(self) -> None:
        """Find the features by their keys, after shards were merged or removed by another process."""
        n = self.shape[0]
        gone = f"features that this array reads were removed from {self.table.directory}"
        # The keys are those of the files that were mapped, which are whole although they have no name any more.
        try:
            keys = self.keys(range(n))
        except FileNotFoundError as error:
            raise StoreError(f"{gone}, before this copy was made: ask the store for them again.") from error
        found = self.table.locate(keys)
        absent = int((found.shard < 0).sum())
        if absent:
            raise StoreError(f"{absent} of the {n} {gone}, and are nowhere else in it: extract them again.")
        shards = ShardRows.of(found.shards)
        self._located = (shards, shards.starts[found.shard] + found.row)

    def __reduce__(self) -> tuple[Any, ...]:
        if not all(shard.path.exists() for shard in self._located[0].shards):
            with suppress(StoreError):  # said when it is read
                self._locate_again()
        # A pickle is to be small: only shards that have a row of these go into it.
        shards, rows = self._located[0].only(self._located[1])
        return _restore, (self.table.directory, self.spec, list(shards.shards), rows, self.inner)


def pick(rows: RowNumbers | range, at: RowNumbers | range) -> RowNumbers | range:
    """The row numbers at some positions; a range stays one where it can."""
    # A range of a range needs no array, which would take 8 bytes for each of all rows.
    if isinstance(at, range):
        return rows[slice_of(at)]
    return rows.start + rows.step * at if isinstance(rows, range) else rows[at]


def slice_of(at: range) -> slice:
    """The slice that takes these positions, which are not negative."""
    if not at:
        return slice(0)
    return slice(at.start, None if at.stop < 0 else at.stop, at.step)


def _restore(
    directory: Path, spec: FeatureSpec, shards: list[Shard], rows: RowNumbers | range, inner: InnerIndices
) -> FeatureSource:
    for shard in shards:
        with suppress(FileNotFoundError):  # gone by now: said when it is read
            shard.check_sizes()
    return FeatureSource(SpecTable(directory), spec, ShardRows.of(shards), rows, inner)


def _feature_shape(shards: Sequence[Shard], spec: FeatureSpec) -> tuple[int, ...]:
    if not shards:
        return ()
    shape = shards[0].shape[1:]
    for shard in shards:
        if shard.shape[1:] != shape or shard.dtype != spec.stored_dtype:
            raise StoreError(
                f"{shard.path} has features of {shard.dtype}, shape {shard.shape[1:]}; expected {spec.stored_dtype}, "
                f"shape {shape}, as the others of this spec."
            )
    return shape
