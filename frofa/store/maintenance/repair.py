"""Saving what is whole of a damaged store."""

import shutil
from contextlib import suppress
from pathlib import Path

from frofa.exceptions import StoreError
from frofa.store.directory import StoreDirectory, remove_leftovers, spec_directories
from frofa.store.disk.format import seal
from frofa.store.disk.index import INDEX
from frofa.store.disk.shard import SHARDS, shard_names, spec_of_shard, take_rows, write_shard
from frofa.store.disk.table import SpecTable
from frofa.store.file_digests import FILES
from frofa.store.maintenance.salvage import salvage
from frofa.store.maintenance.verify import Damage, verify
from frofa.store.spec import FORMAT, FeatureSpec
from frofa.utils.files import make_directories, remove_directory, sync_directory, write_atomically

QUARANTINE = "damaged"
"""The directory of a store where damaged files are put aside."""


def repair(store: StoreDirectory, *, progress: bool = False) -> list[Damage]:
    """Save what is whole, and put aside what is not; list what was found, with the number of features that were lost.

    Rows of a damaged shard whose checksum is right go into a new shard; the damaged one is moved to the directory
    ``damaged`` of the store, which nothing reads. A damaged index is written anew. A directory that is no store at all
    is a StoreError.
    """
    if not store.path.exists():
        return []
    with store.lock():
        found = [_mend(store, damage) for damage in verify(store, progress=progress)]
        remove_leftovers(store.path)
        for directory in spec_directories(store.path):
            if not shard_names(directory) and not (directory / "spec.json").exists():
                remove_directory(directory)
                continue
            # The index is written last: rows that were saved are in other shards than it says.
            table = SpecTable(directory)
            if table.shards():
                table.write_index()
    return found


def _mend(store: StoreDirectory, damage: Damage) -> Damage:
    """Put in order what is damaged, by what its path says it is; return the damage, with what was lost."""
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
        spec = FeatureSpec.from_json(directory / "spec.json")
        feature = found.features.shape[1:], found.features.dtype
        write_shard(directory, spec, found.table[found.kept], feature, take_rows(found.features, found.kept))
    return found.n_lost


def _put_aside(store: StoreDirectory, path: Path) -> None:
    home = store.path / QUARANTINE / path.relative_to(store.path).parent
    make_directories(home)
    target = home / path.name
    if target.is_dir():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
    path.replace(target)
    # The new directory first: if power fails between, the entry may be in both, but not in neither.
    sync_directory(home)
    sync_directory(path.parent)
