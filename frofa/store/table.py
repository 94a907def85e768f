"""One spec's shards and index, as this process knows them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from frofa.exceptions import DamagedStoreError
from frofa.store.index import Index, Prefixes, build_index, index_names, largest_index, write_index
from frofa.store.keys import KeyArray, prefixes
from frofa.store.shard import SHARDS, Shard, open_shard, shard_names

LOOSE_ROWS, LOOSE_FRACTION = 2**16, 1 / 8
"""So many images outside the index, absolutely and of all, are a reason to write a new one."""

MANY, OPENING_THREADS = 64, 8
"""So many shards are opened by so many threads: from a disk, what takes time is waiting."""


@dataclass(frozen=True)
class Places:
    """Where features are.

    Attributes
    ----------
    shards : list of Shard
    shard : ndarray of int32, shape (n,)
        Position in `shards`, -1 for a key that is not there.
    row : ndarray of int64, shape (n,)
    """

    shards: list[Shard]
    shard: npt.NDArray[np.int32]
    row: npt.NDArray[np.int64]


class SpecTable:
    """Finds keys in the shards of one spec's directory.

    Parameters
    ----------
    directory : Path
    """

    def __init__(self, directory: Path):
        self.directory = directory
        self._names: list[str] = []
        self._index_names: list[str] = []
        self._index: Index | None = None
        self._loose: Index = build_index([])
        self._shards: dict[str, Shard] = {}

    def locate(self, keys: KeyArray) -> Places:
        """Find keys, after a look at what has been added if one is not known.

        Raises
        ------
        StoreError
            If a shard's description or keys are damaged.
        """
        places = self._locate(keys)
        if (places.shard < 0).any() and self.refresh():
            places = self._locate(keys)
        return places

    def shards(self) -> list[Shard]:
        """All shards that are there now, in the order of their rows."""
        self.refresh()
        new = [name for name in self._names if name not in self._shards]
        if len(new) > MANY:
            with ThreadPoolExecutor(OPENING_THREADS) as pool:
                for _ in pool.map(self._open, new):
                    pass
        return [shard for name in self._names if (shard := self._open(name))]

    def first(self) -> Shard | None:
        """One of the shards, if there is any."""
        self.refresh()
        return next((shard for name in self._names if (shard := self._open(name))), None)

    def refresh(self) -> bool:
        """See what was added or removed; return whether anything was."""
        names, indices = shard_names(self.directory), index_names(self.directory)
        if (names, indices) == (self._names, self._index_names):
            return False
        if indices != self._index_names:
            self._index = largest_index(self.directory)
        there = set(names)
        self._shards = {name: shard for name, shard in self._shards.items() if name in there}
        indexed = set(self._index.shards) if self._index else set()
        loose = [name for name in names if name not in indexed]
        if list(self._loose.shards) != loose:
            self._loose = build_index([shard for name in loose if (shard := self._open(name))])
        self._names, self._index_names = names, indices
        return True

    def n_keys(self) -> int:
        """How many images there are, each counted once."""
        values = build_index(self.shards()).prefixes
        return len(values) - int((values[1:] == values[:-1]).sum())

    def wants_index(self) -> bool:
        """Whether a new index would pay."""
        return len(self._loose) > max(LOOSE_ROWS, LOOSE_FRACTION * len(self._index or ()))

    def write_index(self) -> None:
        """Index all shards."""
        write_index(self.directory, build_index(self.shards()))
        self.refresh()

    def _locate(self, keys: KeyArray) -> Places:
        wanted = prefixes(keys)
        finder = _Finder(self._open, keys, wanted)
        for index in (self._index, self._loose):
            if index is not None:
                finder.look_in(index)
        return finder.places

    def _open(self, name: str) -> Shard | None:
        """The shard of that name; None if it is gone."""
        if name not in self._shards:
            try:
                self._shards[name] = open_shard(self.directory / SHARDS / name)
            except FileNotFoundError:
                if (self.directory / SHARDS / name).is_dir():
                    raise DamagedStoreError(self.directory / SHARDS / name, "it has no shard.json") from None
                return None
        return self._shards[name]


class _Finder:
    """Looks keys up in one index after another, and checks what they say against the shards."""

    def __init__(self, open_: Callable[[str], Shard | None], keys: KeyArray, wanted: Prefixes):
        self._open, self._keys, self._wanted = open_, keys, wanted
        n = len(keys)
        self.places = Places([], np.full(n, -1, np.int32), np.full(n, -1, np.int64))

    def look_in(self, index: Index) -> None:
        """Find what is not found yet."""
        todo = np.flatnonzero(self.places.shard < 0)
        at = index.find(self._wanted[todo])
        todo, at = todo[at >= 0], at[at >= 0]
        numbers: dict[int, int] = {}
        while len(todo):
            self._check(index, todo, index.places[at], numbers)
            # Of several with the same prefix, the first may be another key's, or in a shard that is gone.
            left = self.places.shard[todo] < 0
            todo, at = todo[left], at[left] + 1
            same = at < len(index)
            same[same] = index.prefixes[at[same]] == self._wanted[todo[same]]
            todo, at = todo[same], at[same]

    def _check(
        self, index: Index, todo: npt.NDArray[np.intp], found: npt.NDArray[np.uint32], numbers: dict[int, int]
    ) -> None:
        order = np.argsort(found[:, 0], kind="stable")
        positions, starts = np.unique(found[order, 0], return_index=True)
        for position, part in zip(positions.tolist(), np.split(order, starts[1:]), strict=True):
            if position not in numbers:
                numbers[position] = self._number(index, position)
            number = numbers[position]
            if number < 0:
                continue
            shard = self.places.shards[number]
            rows, which = found[part, 1].astype(np.int64), todo[part]
            inside = rows < len(shard)  # no more than that is known of an index that was not checked
            rows, which = rows[inside], which[inside]
            try:
                right = (shard.keys_at(rows) == self._keys[which]).all(1)
            except FileNotFoundError:  # removed since it was opened
                numbers[position] = -1
                continue
            self.places.shard[which[right]], self.places.row[which[right]] = number, rows[right]

    def _number(self, index: Index, position: int) -> int:
        """The position in `places.shards` of an index's shard; -1 if it is gone."""
        shard = self._open(index.shards[position]) if position < len(index.shards) else None
        if shard is None:
            return -1
        self.places.shards.append(shard)
        return len(self.places.shards) - 1
