"""Checking a store: every file, every key, every byte of a feature."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from frofa.exceptions import DamagedStoreError, StoreError
from frofa.store.directory import StoreDirectory, check_store, spec_directories, stored_spec
from frofa.store.disk.index import INDEX, Index, index_names, open_index
from frofa.store.disk.shard import SHARDS, open_shard, shard_names
from frofa.store.file_digests import FILES, open_digests, whole_digests
from frofa.store.keys import prefixes
from frofa.store.maintenance.salvage import salvage
from frofa.utils.progress import progress_bar


@dataclass(frozen=True)
class Damage:
    """Something that is not as it was written.

    Attributes
    ----------
    path : Path
        The file or directory.
    problem : str
    n_lost : int
        How many features it takes with it: the others of a damaged shard can be saved, or are whole elsewhere.
    """

    path: Path
    problem: str
    n_lost: int = 0

    def __str__(self) -> str:
        lost = f"; features lost: {self.n_lost}" if self.n_lost else ""
        return f"{self.path}: {self.problem}{lost}"


def verify(store: StoreDirectory, *, progress: bool = False) -> list[Damage]:
    """Read all of a store and list what is damaged; nothing is changed.

    A directory that is no store, or another version's, is a StoreError.
    """
    found = _damage(check_store, store.path)
    for file in sorted((store.path / FILES).glob("*.npy")):
        found += _damage(_check_digests, file)
    directories = spec_directories(store.path)
    shards = [directory / SHARDS / name for directory in directories for name in shard_names(directory)]
    for directory in directories:
        found += _damage(stored_spec, directory)
    for path in progress_bar(shards, desc="verify", unit="shard", shown=progress):
        found += [replace(damage, n_lost=salvage(path).n_lost) for damage in _damage(_check_shard, path)]
    for directory in directories:
        for name in index_names(directory):
            found += _damage(_check_index, directory / INDEX / name)
    return found


def _damage(check: Callable[[Path], object], path: Path) -> list[Damage]:
    """List the damage that a check finds; a file that was removed meanwhile is none."""
    try:
        check(path)
    except FileNotFoundError as error:
        return [Damage(path, f"{Path(error.filename).name} is not there")] if path.is_dir() else []
    except DamagedStoreError as error:
        return [Damage(Path(error.path), error.why)]
    return []


@contextmanager
def _damage_of(path: Path) -> Iterator[None]:
    """Name a directory in the place of a damaged file in it."""
    try:
        yield
    except DamagedStoreError as error:
        raise DamagedStoreError(path, error.why) from error


def _check_digests(file: Path) -> None:
    with _damage_of(file):
        if not whole_digests(open_digests(file)).all():
            raise DamagedStoreError(file, "digests are not what was written")


def _check_shard(path: Path) -> None:
    with _damage_of(path):
        shard = open_shard(path)
        shard.checked_keys()
        whole = shard.whole_rows(np.arange(len(shard))).all()
    if not whole:
        raise DamagedStoreError(path / "features.npy", "features are not what was written")


def _check_index(path: Path) -> None:
    with _damage_of(path):
        index = open_index(path)
        if not index.is_whole:
            raise DamagedStoreError(path, "the checksum is another")
        if not _is_right(path.parent.parent, index):
            raise DamagedStoreError(path, "it does not say where the keys are")


def _is_right(directory: Path, index: Index) -> bool:
    """Whether an index has each row of its shards at its place; shards that are damaged or gone do not count."""
    if (index.prefixes[1:] < index.prefixes[:-1]).any() or (index.places[:, 0] >= len(index.shards)).any():
        return False
    # Positions in the index, shard by shard: those of shard i are order[bounds[i] : bounds[i + 1]].
    order = np.argsort(index.places[:, 0], kind="stable")
    bounds = np.searchsorted(index.places[order, 0], np.arange(len(index.shards) + 1))
    for number, name in enumerate(index.shards):
        of_it = order[bounds[number] : bounds[number + 1]]
        try:
            shard = open_shard(directory / SHARDS / name)
            keys = shard.checked_keys()
        except (StoreError, FileNotFoundError):
            continue  # reported as the shard's damage, or removed since
        rows = index.places[of_it, 1]
        if not np.array_equal(np.sort(rows), np.arange(len(shard))):
            return False
        if not np.array_equal(prefixes(keys)[rows], index.prefixes[of_it]):
            return False
    return True
