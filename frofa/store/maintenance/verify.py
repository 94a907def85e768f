"""Checking a store: every file, every key, every byte of a feature."""

from dataclasses import dataclass
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

    Parameters
    ----------
    store : StoreDirectory
    progress : bool
        Show a progress bar.

    Returns
    -------
    list of Damage
        Empty if all is well.

    Raises
    ------
    StoreError
        If the directory is no store, or another version's.
    """
    found = []
    try:
        check_store(store.path)
    except DamagedStoreError as error:
        found.append(Damage(Path(error.path), error.why))
    found += _files_damage(store.path / FILES)
    directories = spec_directories(store.path)
    names = [(directory, name) for directory in directories for name in shard_names(directory)]
    for directory in directories:
        found += spec_damage(directory)
    for directory, name in progress_bar(names, desc="verify", unit="shard", shown=progress):
        damage = shard_damage(directory / SHARDS / name)
        if damage is not None:
            found.append(damage)
    for directory in directories:
        found += [damage for name in index_names(directory) for damage in index_damage(directory, name)]
    return found


def spec_damage(directory: Path) -> list[Damage]:
    """What is wrong with a spec's description."""
    try:
        stored_spec(directory)
    except DamagedStoreError as error:
        return [Damage(Path(error.path), error.why)]
    return []


def shard_damage(path: Path) -> Damage | None:
    """What is wrong with a shard, if anything."""
    try:
        shard = open_shard(path)
        shard.checked_keys()
        whole = shard.whole_rows(np.arange(len(shard))).all()
    except FileNotFoundError as error:
        if not path.is_dir():
            return None
        return Damage(path, f"{Path(error.filename).name} is not there", salvage(path).n_lost)
    except DamagedStoreError as error:
        return Damage(path, error.why, salvage(path).n_lost)
    return None if whole else Damage(path / "features.npy", "features are not what was written", salvage(path).n_lost)


def index_damage(directory: Path, name: str) -> list[Damage]:
    """What is wrong with an index; what it says of shards that are gone does not count."""
    path = directory / INDEX / name
    try:
        index = open_index(path)
        if not index.is_whole:
            return [Damage(path, "the checksum is another")]
        return [] if _is_right(directory, index) else [Damage(path, "it does not say where the keys are")]
    except FileNotFoundError as error:
        return [Damage(path, f"{Path(error.filename).name} is not there")] if path.is_dir() else []
    except DamagedStoreError as error:
        return [Damage(path, error.why)]


def _is_right(directory: Path, index: Index) -> bool:
    if (index.prefixes[1:] < index.prefixes[:-1]).any() or (index.places[:, 0] >= len(index.shards)).any():
        return False
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


def _files_damage(directory: Path) -> list[Damage]:
    found = []
    for file in sorted(directory.glob("*.npy")):
        try:
            if not whole_digests(open_digests(file)).all():
                found.append(Damage(file, "digests are not what was written"))
        except FileNotFoundError:
            continue
        except DamagedStoreError as error:
            found.append(Damage(file, error.why))
    return found
