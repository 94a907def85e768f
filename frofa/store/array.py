"""A lazy array of stored features."""

from typing import Any

import numpy as np
import numpy.typing as npt

from frofa.store.format import Array
from frofa.store.spec import FeatureSpec
from frofa.store.table import Places, SpecTable


class FeatureArray:
    """Features of a store that are read when they are used."""

    def __init__(self, table: SpecTable, spec: FeatureSpec, places: Places):
        self._table, self._spec, self._places = table, spec, places

    @classmethod
    def of_shards(cls, table: SpecTable, spec: FeatureSpec) -> "FeatureArray":
        """All rows of a spec, in the order they were written."""
        shards = table.shards()
        sizes = [len(shard) for shard in shards]
        number = np.repeat(np.arange(len(shards), dtype=np.int32), sizes)
        row = np.concatenate([np.arange(size) for size in sizes]) if sizes else np.empty(0, np.int64)
        return cls(table, spec, Places(shards, number, row))

    def __len__(self) -> int:
        return len(self._places.shard)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        places = self._places
        out: Array = np.empty((len(self), *places.shards[0].shape[1:]), places.shards[0].dtype)
        order = np.argsort(places.shard, kind="stable")
        numbers, starts = np.unique(places.shard[order], return_index=True)
        for number, part in zip(numbers, np.split(order, starts[1:]), strict=True):
            out[part] = places.shards[number].features[places.row[part]]
        return out if dtype is None else out.astype(dtype, copy=False)

    def __getitem__(self, item: Any) -> Any:
        return np.asarray(self)[item]
