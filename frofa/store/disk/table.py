"""One spec's shards and index, as this process knows them."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from frofa.exceptions import DamagedStoreError, StoreError
from frofa.store.disk.index import Index, best_index, build_index, index_names, write_index
from frofa.store.disk.shard import COMPACTED, SHARDS, Shard, open_shard, shard_names
from frofa.store.keys import KeyArray, first_of_each, prefixes

ATTEMPTS = 100
"""Looks at a directory that others change; two or three do."""
MANY, OPENING_THREADS = 64, 3
"""More shards than `MANY`, not opened before, are opened by so many threads ("opening" in benchmarks/store.py)."""
LOOSE_ROWS, LOOSE_FRACTION = 2**16, 1 / 8
"""A new index is written when more images are not in it than so many, and than this part of those that are."""


@dataclass(frozen=True)
class Locations:
    """Places of features: position in `shards`, -1 for a key that is not there, and row in it; both of shape (n,)."""

    shards: list[Shard]
    shard: npt.NDArray[np.int32]
    row: npt.NDArray[np.int64]


@dataclass(frozen=True)
class _View:
    """A directory as it was at one moment. It is never changed, so that threads need no lock.

    `index` is the one on disk, `loose` that of all shards that are not in it; `shards` are those opened so far.
    """

    names: list[str]
    index_names: list[str]
    index: Index | None
    loose: Index
    shards: dict[str, Shard]


class SpecTable:
    """The shards of one spec's directory, in which keys are found."""

    def __init__(self, directory: Path):
        self.directory = directory
        self._view = _View([], [], None, build_index([]), {})
        self._first: Shard | None = None  # a shard whose shape all others have

    def locate(self, keys: KeyArray) -> Locations:
        """Find keys. What is there when this is called, is found, also while others compact the store.

        StoreError if a shard's description or keys are damaged.
        """
        self.refresh()
        finder = _Finder(keys)
        for _ in range(ATTEMPTS):
            view = self._view
            finder.look(view, self._mapped)
            if (finder.found.shard >= 0).all():
                break
            # Before it is believed that a key is not there: its shard may just have become part of another.
            self.refresh()
            if _moved(view.names, self._view.names):
                continue
            if view.index is None or view.index.is_whole:
                break
            # An index that is damaged may lack keys: those of all shards are read instead.
            self._view = self._new_view(self._view.names, self._view.index_names, None)
        return finder.found

    def shards(self) -> list[Shard]:
        """All shards that are there now, in the order of their rows.

        StoreError if one is damaged, or others change the directory all the time.
        """
        self.refresh()
        for _ in range(ATTEMPTS):
            view = self._view
            found = [shard for shard in self._map_all(view) if shard]
            self.refresh()
            # A list is complete only if nothing was merged while its shards were opened.
            if len(found) == len(view.names) and not _moved(view.names, self._view.names):
                return found
        raise StoreError(f"{self.directory} was compacted each of the {ATTEMPTS} times that its shards were listed.")

    def feature_shape(self) -> tuple[int, ...] | None:
        """Shape of a feature; None if there are none."""
        self.refresh()
        shards = (self._open(name, self._view.shards) for name in self._view.names)
        return next((shard.shape[1:] for shard in shards if shard), None)

    def refresh(self) -> None:
        """See which shards and indices were added or removed."""
        old = self._view
        names, indices = shard_names(self.directory), index_names(self.directory)
        if indices != old.index_names:
            self._view = self._new_view(names, indices, best_index(self.directory, indices, names))
        elif names != old.names:
            self._view = self._new_view(names, indices, old.index)

    def n_keys(self) -> int:
        """Count the images, each once."""
        keys = [shard.checked_keys() for shard in self.shards()]
        return len(first_of_each(np.concatenate(keys))) if keys else 0

    def wants_index(self) -> bool:
        """Tell whether so many images are outside the index that a new one would pay."""
        view = self._view
        return len(view.loose) > max(LOOSE_ROWS, LOOSE_FRACTION * len(view.index or ()))

    def write_index(self) -> None:
        """Write an index of all shards."""
        write_index(self.directory, build_index(self.shards()))
        self.refresh()

    def _new_view(self, names: list[str], indices: list[str], index: Index | None) -> _View:
        old = self._view
        known = set(names)
        shards = {name: shard for name, shard in old.shards.items() if name in known}
        indexed = set(index.shards) if index else set()
        # What is known already stays: open shards, and the keys of those outside the index where these are the same.
        loose, names_of_it = old.loose, [name for name in names if name not in indexed]
        if list(loose.shards) != names_of_it:
            loose = build_index([shard for name in names_of_it if (shard := self._open(name, shards))])
        return _View(names, indices, index, loose, shards)

    def _map_all(self, view: _View) -> list[Shard | None]:
        """All shards as `_mapped` has them; many new ones by several threads: most of it is waiting for the disk."""
        if len(view.names) - len(view.shards) <= MANY:
            return [self._mapped(view, name) for name in view.names]
        with ThreadPoolExecutor(OPENING_THREADS) as pool:
            return list(pool.map(partial(self._mapped, view), view.names))

    def _mapped(self, view: _View, name: str) -> Shard | None:
        """The shard of that name with its files mapped, so that it can be read when it is gone; None if it is gone."""
        # Mapped before, a shard may have been cut or removed since; mapped now, its size is checked on the way.
        known = name in view.shards
        shard = self._open(name, view.shards)
        if shard is not None:
            try:
                if known:
                    shard.check_sizes()
                else:
                    shard.features  # noqa: B018 (maps them, and checks their size)
            except FileNotFoundError as error:
                self._check_gone(name, error)
                return None
        return shard

    def _open(self, name: str, shards: dict[str, Shard]) -> Shard | None:
        """The shard of that name with its keys mapped; None if it is gone."""
        if name not in shards:
            try:
                shard = open_shard(self.directory / SHARDS / name)
                shard.rows  # noqa: B018 (maps them)
            except FileNotFoundError as error:
                self._check_gone(name, error)
                return None
            self._check_shape(shard, shards)
            shards[name] = shard
        return shards[name]

    def _check_gone(self, name: str, error: FileNotFoundError) -> None:
        path = self.directory / SHARDS / name
        if path.is_dir():
            raise DamagedStoreError(path, f"it has no {Path(error.filename).name}") from None

    def _check_shape(self, shard: Shard, others: dict[str, Shard]) -> None:
        # A shard that was removed is no measure any more: then this one becomes it.
        other = self._first if self._first is not None and self._first.path.name in others else shard
        self._first = other
        if (shard.shape[1:], shard.dtype) != (other.shape[1:], other.dtype):
            raise StoreError(
                f"{shard.path} has features of {shard.dtype}, shape {shard.shape[1:]}, but {other.path.name} of "
                f"{other.dtype}, shape {other.shape[1:]}: one spec has one. Delete the wrong one."
            )


def _moved(before: Sequence[str], after: Sequence[str]) -> bool:
    """Whether features may have gone from one shard to another; shards that were appended do not matter."""
    new = set(after).difference(before)
    return not set(before).issubset(after) or any(name.startswith(COMPACTED) for name in new)


class _Finder:
    """A search for keys in one index after another, which checks what they say against the shards.

    What it has found stays found: the shards are mapped, and may go.
    """

    def __init__(self, keys: KeyArray):
        self._keys, self._wanted = keys, prefixes(keys)
        n = len(keys)
        self.found = Locations([], np.full(n, -1, np.int32), np.full(n, -1, np.int64))

    def look(self, view: _View, open_: Callable[[_View, str], Shard | None]) -> None:
        """Find what is not found yet."""
        self._open = partial(open_, view)
        for index in (view.index, view.loose):
            if index is not None:
                self._look_in(index)

    def _look_in(self, index: Index) -> None:
        # Positions of the keys that are not found yet, and those of the first row in the index with their prefix.
        todo = np.flatnonzero(self.found.shard < 0)
        at = index.find(self._wanted[todo])
        todo, at = todo[at >= 0], at[at >= 0]
        numbers: dict[int, int] = {}
        while len(todo):
            self._check(index, todo, index.places[at], numbers)
            # Of several with the same prefix, the first may be another key's, or in a shard that is gone.
            left = self.found.shard[todo] < 0
            todo, at = todo[left], at[left] + 1
            same = at < len(index)
            same[same] = index.prefixes[at[same]] == self._wanted[todo[same]]
            todo, at = todo[same], at[same]

    def _check(
        self, index: Index, todo: npt.NDArray[np.intp], places: npt.NDArray[np.uint32], numbers: dict[int, int]
    ) -> None:
        # Shard by shard, the keys that the index says are there.
        order = np.argsort(places[:, 0], kind="stable")
        positions, starts = np.unique(places[order, 0], return_index=True)
        for position, part in zip(positions.tolist(), np.split(order, starts[1:]), strict=True):
            if position not in numbers:
                numbers[position] = self._number(index, position)
            number = numbers[position]
            if number < 0:
                continue
            shard = self.found.shards[number]
            rows, which = places[part, 1].astype(np.int64), todo[part]
            inside = rows < len(shard)  # no more than that is known of an index that was not checked
            rows, which = rows[inside], which[inside]
            right = (shard.keys_at(rows) == self._keys[which]).all(1)
            if not right.all():
                shard.checked_keys()  # two keys with the same prefix, or a damaged one
            self.found.shard[which[right]], self.found.row[which[right]] = number, rows[right]

    def _number(self, index: Index, position: int) -> int:
        """The position in `found.shards` of an index's shard; -1 if it is gone."""
        shard = self._open(index.shards[position]) if position < len(index.shards) else None
        if shard is None:
            return -1
        self.found.shards.append(shard)
        return len(self.found.shards) - 1
