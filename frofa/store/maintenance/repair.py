"""Saving what is whole of a damaged store."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from frofa.exceptions import StoreError
from frofa.store.directory import StoreDirectory, spec_directories
from frofa.store.disk.format import Array, seal
from frofa.store.disk.index import INDEX
from frofa.store.disk.shard import CHUNK, SHARDS, next_stem, shard_names, spec_of_shard, write_shard
from frofa.store.disk.table import SpecTable
from frofa.store.file_digests import FILES
from frofa.store.maintenance.salvage import salvage
from frofa.store.maintenance.verify import Damage, verify
from frofa.store.spec import FORMAT, FeatureSpec
from frofa.utils.files import make_directories, remove_directory, remove_stale, sync_directory, write_atomically

QUARANTINE = "damaged"


def repair(store: StoreDirectory, *, progress: bool = False) -> list[Damage]:
    """Save what is whole, and put aside what is not.

    Rows of a damaged shard whose checksum is right go into a new shard; the damaged one is moved to the directory
    ``damaged`` of the store, which nothing reads. A damaged index is written anew.

    Parameters
    ----------
    store : StoreDirectory
    progress : bool
        Show a progress bar.

    Returns
    -------
    list of Damage
        What was found, with the number of features that were lost.

    Raises
    ------
    StoreError
        If the directory is no store at all.
    """
    if not store.path.exists():
        return []
    with store.lock():
        found = [_mend(store, damage) for damage in verify(store, progress=progress)]
        for directory in (store.path, *spec_directories(store.path)):
            for part in (directory, directory / SHARDS, directory / INDEX, directory / FILES):
                remove_stale(part)
        for directory in spec_directories(store.path):
            if not shard_names(directory) and not (directory / "spec.json").exists():
                remove_directory(directory)
                continue
            table = SpecTable(directory)
            if table.shards():
                table.write_index()
    return found


def _mend(store: StoreDirectory, damage: Damage) -> Damage:
    path = damage.path
    relative = path.relative_to(store.path).parts
    if len(relative) == 1:  # the manifest
        _replace(store, path, seal({"format": FORMAT}))
        return damage
    if relative[0] == FILES:
        path.unlink(missing_ok=True)
        return damage
    if relative[1] == INDEX:
        remove_directory(path)
        return damage
    if relative[1] != SHARDS:
        _restore_spec(store, path)
        return damage
    shard = store.path.joinpath(*relative[:3])
    lost = _save_rows(shard)
    _put_aside(store, shard)
    return Damage(path, damage.problem, lost)


def _restore_spec(store: StoreDirectory, path: Path) -> None:
    """Write ``spec.json`` anew, from one of the shards, which all have it."""
    for name in shard_names(path.parent):
        with suppress(StoreError, FileNotFoundError):
            spec = spec_of_shard(path.parent / SHARDS / name)
            if spec.digest == path.parent.name:
                _replace(store, path, spec.to_json())
                return
    path.unlink(missing_ok=True)


def _replace(store: StoreDirectory, path: Path, data: bytes) -> None:
    if path.is_dir():
        _put_aside(store, path)
    write_atomically(path, lambda file: file.write(data))


def _save_rows(path: Path) -> int:
    """Write the whole rows of a damaged shard into a new one; return how many are lost."""
    directory, found = path.parent.parent, salvage(path)
    if len(found.kept):
        write_shard(
            directory,
            FeatureSpec.from_json(directory / "spec.json"),
            next_stem(shard_names(directory)),
            found.table[found.kept],
            (len(found.kept), *found.features.shape[1:]),
            found.features.dtype,
            _parts(found.features, found.kept, max(1, CHUNK // max(1, found.features[:1].nbytes))),
        )
    return found.n_lost


def _parts(features: Array, rows: npt.NDArray[np.intp], size: int) -> Iterator[Array]:
    for start in range(0, len(rows), size):
        yield features[rows[start : start + size]]


def _put_aside(store: StoreDirectory, path: Path) -> None:
    home = store.path / QUARANTINE / path.relative_to(store.path).parent
    make_directories(home)
    target = home / path.name
    if target.is_dir():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
    path.replace(target)
    sync_directory(home)
    sync_directory(path.parent)
