"""Where the rows of a lazy array come from, shared by the array and all views of it."""

from contextlib import suppress
from typing import Any

import numpy as np
import torch

from frofa.exceptions import StoreError
from frofa.store.disk.format import Array
from frofa.store.disk.shard import Shard
from frofa.store.disk.table import Places, SpecTable
from frofa.store.keys import KEY_BYTES, KeyArray
from frofa.store.lazy.reading import Rows, ShardRows, Steps, as_rows, read_rows, take_steps
from frofa.store.spec import FeatureSpec


class Source:
    """Rows of some shards, in an order.

    Parameters
    ----------
    table : SpecTable
    spec : FeatureSpec
    shards : ShardRows
    rows : ndarray of int64 or range
        Numbers in `shards`.
    steps : tuple, default=()
        What is taken of each feature.

    Attributes
    ----------
    shape : tuple of int
    on_device : dict
        Tensors of all rows by device.
    """

    def __init__(self, table: SpecTable, spec: FeatureSpec, shards: ShardRows, rows: Rows | range, steps: Steps = ()):
        self.table, self.spec, self.steps = table, spec, steps
        self._located = (shards, rows)
        self.on_device: dict[torch.device, torch.Tensor] = {}
        feature = _feature_shape(shards.shards, spec)
        self.shape = (len(rows), *take_steps(np.broadcast_to(np.uint8(0), (1, *feature)), steps).shape[1:])

    @classmethod
    def of_places(cls, table: SpecTable, spec: FeatureSpec, places: Places) -> "Source":
        """Rows where a table has found them."""
        shards = ShardRows.of(places.shards or table.shards()[:1])  # of no rows, one knows the shape
        return cls(table, spec, shards, shards.starts[places.shard] + places.row)

    @classmethod
    def of_shards(cls, table: SpecTable, spec: FeatureSpec) -> "Source":
        """All rows, in the order they were written."""
        shards = ShardRows.of(table.shards())
        return cls(table, spec, shards, range(int(shards.starts[-1])))

    def select(self, at: Rows | range, steps: Steps) -> "Source":
        """Some of the rows, and parts of their features, as a source of its own."""
        shards, rows = self._located
        return Source(self.table, self.spec, shards, pick(rows, at), (*self.steps, *steps))

    def compact(self) -> tuple[list[Shard], Rows | range]:
        """The shards that are used, and the rows as they are numbered there, as things are now."""
        if not all(shard.path.exists() for shard in self._located[0].shards):
            with suppress(StoreError):  # said when it is read
                self._locate_again()
        shards, rows = self._located[0].only(self._located[1])
        return list(shards.shards), rows

    def one_run(self, at: Rows | range) -> tuple[Shard, slice] | None:
        """The shard and the slice of it that these rows are, if they are."""
        shards, rows = self._located
        return shards.one_run(pick(rows, at))

    def keys(self, at: Rows | range) -> KeyArray:
        """Keys of these rows, shape (n, 20)."""
        shards, rows = self._located
        numbers = as_rows(pick(rows, at))
        keys: KeyArray = np.empty((len(numbers), KEY_BYTES), np.uint8)
        for shard, part, positions in shards.by_shard(numbers):
            keys[positions] = shard.keys_at(part)
        return keys

    def read(self, at: Rows | range, out: Array, steps: Steps = ()) -> None:
        """Read rows into an array of any dtype; of the files' own dtype, into their bits.

        Raises
        ------
        StoreError
            If a file is damaged, or features were removed and are nowhere else in the store.
        """
        if not out.size:
            return
        try:
            self._read(at, out, steps)
        except FileNotFoundError:
            self._locate_again()
            try:
                self._read(at, out, steps)
            except FileNotFoundError as error:
                raise StoreError(f"{error.filename} was removed while it was being read.") from error

    def _read(self, at: Rows | range, out: Array, steps: Steps) -> None:
        shards, rows = self._located
        decode = decode_bfloat16 if self.spec.dtype == "bfloat16" else _as_they_are
        read_rows(shards, pick(rows, at), out, (*self.steps, *steps), decode)

    def _locate_again(self) -> None:
        """Find the features by their keys, after shards were merged or removed by another process."""
        n = self.shape[0]
        gone = f"features that this array reads were removed from {self.table.directory}"
        try:
            keys = self.keys(range(n))
        except FileNotFoundError as error:
            raise StoreError(f"{gone}, before this copy was made: ask the store for them again.") from error
        places = self.table.locate(keys)
        absent = int((places.shard < 0).sum())
        if absent:
            raise StoreError(f"{absent} of the {n} {gone}, and are nowhere else in it: extract them again.")
        shards = ShardRows.of(places.shards)
        self._located = (shards, shards.starts[places.shard] + places.row)

    def __reduce__(self) -> tuple[Any, ...]:
        shards, rows = self.compact()
        return _restore, (self.table.directory, self.spec, shards, rows, self.steps)


def pick(rows: Rows | range, at: Rows | range) -> Rows | range:
    """Those of the row numbers."""
    if isinstance(at, range):
        return rows[slice_of(at)]
    return rows.start + rows.step * at if isinstance(rows, range) else rows[at]


def slice_of(at: range) -> slice:
    """The slice that takes these positions, which are not negative."""
    if not at:
        return slice(0)
    return slice(at.start, None if at.stop < 0 else at.stop, at.step)


def decode_bfloat16(bits: Array) -> Array:
    """The bits of bfloat16 as float32, exactly."""
    widened: Array = (bits.astype(np.uint32) << 16).view(np.float32)
    return widened


def _as_they_are(features: Array) -> Array:
    return features


def _restore(directory: Any, spec: FeatureSpec, shards: list[Shard], rows: Rows | range, steps: Steps) -> Source:
    for shard in shards:
        with suppress(FileNotFoundError):  # gone by now: said when it is read
            shard.check_sizes()
    return Source(SpecTable(directory), spec, ShardRows.of(shards), rows, steps)


def _feature_shape(shards: Any, spec: FeatureSpec) -> tuple[int, ...]:
    if not shards:
        return ()
    for shard in shards:
        if shard.shape[1:] != shards[0].shape[1:] or shard.dtype != spec.stored_dtype:
            raise StoreError(
                f"{shard.path} has features of {shard.dtype}, shape {shard.shape[1:]}; expected {spec.stored_dtype}, "
                f"shape {shards[0].shape[1:]}, as the others of this spec."
            )
    feature: tuple[int, ...] = shards[0].shape[1:]
    return feature
