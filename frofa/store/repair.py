"""Saving what is whole of a damaged store."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from frofa._files import make_directory, remove_directory, remove_stale, sync_directory, write_atomically
from frofa.exceptions import StoreError
from frofa.store.files import FILES
from frofa.store.format import Array, header_bytes, seal
from frofa.store.index import INDEX
from frofa.store.shard import ROW, SHARDS, next_stem, open_shard, row_table, shard_names, spec_of_shard, write_shard
from frofa.store.spec import FORMAT, STORED
from frofa.store.table import SpecTable
from frofa.store.verify import CHUNK, Damage, spec_directories, verify

if TYPE_CHECKING:
    from frofa.store.store import FeatureStore

QUARANTINE = "damaged"


def repair(store: "FeatureStore", *, progress: bool = False) -> list[Damage]:
    """Save what is whole, and put aside what is not.

    Rows of a damaged shard whose checksum is right go into a new shard; the damaged one is moved to the directory
    ``damaged`` of the store, which nothing reads. A damaged index is written anew.

    Parameters
    ----------
    store : FeatureStore
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
            table = SpecTable(directory)
            if table.shards():
                table.write_index()
    store.forget()
    return found


def _mend(store: "FeatureStore", damage: Damage) -> Damage:
    path = damage.path
    relative = path.relative_to(store.path).parts
    if len(relative) == 1:  # the manifest
        _replace(path, seal({"format": FORMAT}))
        return damage
    if relative[0] == FILES:
        path.unlink(missing_ok=True)
        return damage
    if relative[1] == INDEX:
        remove_directory(path)
        return damage
    if relative[1] != SHARDS:
        _restore_spec(path)
        return damage
    shard = store.path.joinpath(*relative[:3])
    lost = _save_rows(shard)
    _put_aside(store, shard)
    return Damage(path, damage.problem, lost)


def _restore_spec(path: Path) -> None:
    """Write ``spec.json`` anew, from one of the shards, which all have it."""
    for name in shard_names(path.parent):
        with suppress(StoreError, FileNotFoundError):
            spec = spec_of_shard(path.parent / SHARDS / name)
            if spec.digest == path.parent.name:
                _replace(path, spec.to_json())
                return
    path.unlink(missing_ok=True)


def _replace(path: Path, data: bytes) -> None:
    write_atomically(path, lambda file: file.write(data))


def _save_rows(path: Path) -> int:
    """Write the whole rows of a damaged shard into a new one; return how many are lost."""
    directory = path.parent.parent
    layout = _layout(path)
    expected = _n_expected(path)
    if layout is None or _is_misplaced(path) or not (directory / "spec.json").exists():
        return expected
    dtype, shape = layout
    table = _raw(path / "rows.npy", ROW, ())
    features = _raw(path / "features.npy", dtype, shape)
    n = min(len(table), len(features))
    whole = np.zeros(n, bool)
    size = max(1, CHUNK // max(1, features[:1].nbytes))
    for start in range(0, n, size):
        part = slice(start, min(n, start + size))
        whole[part] = row_table(table["key"][part], features[part])["crc32"] == table["crc32"][part]
    if whole.any():
        kept = np.flatnonzero(whole)
        write_shard(
            directory,
            next_stem(shard_names(directory)),
            table[kept],
            (len(kept), *shape),
            dtype,
            _parts(features, kept, size),
        )
    return max(0, expected - int(whole.sum()))


def _n_expected(path: Path) -> int:
    try:
        return len(open_shard(path))
    except (StoreError, FileNotFoundError):
        return _n_rows(path / "rows.npy", ROW.itemsize, header_bytes(ROW, ()))


def _is_misplaced(path: Path) -> bool:
    """Whether a shard says that it is another spec's: its rows are not to be saved here."""
    try:
        return spec_of_shard(path).digest != path.parent.parent.name
    except (StoreError, FileNotFoundError):
        return False


def _layout(path: Path) -> tuple[np.dtype[Any], tuple[int, ...]] | None:
    """Dtype and shape of a shard's features: from its description, its header, or another shard of the spec."""
    candidates = [path, *(path.parent / name for name in shard_names(path.parent.parent))]
    for candidate in candidates:
        try:
            shard = open_shard(candidate)
            return shard.dtype, shard.shape[1:]
        except (StoreError, FileNotFoundError):
            pass
        try:
            with (candidate / "features.npy").open("rb") as file:
                np.lib.format.read_magic(file)
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            if dtype.str in STORED.values() and len(shape) > 1:
                return dtype, shape[1:]
        except Exception:  # a damaged header raises anything
            continue
    return None


def _raw(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """The rows of a ``.npy`` file whatever its header says: what follows it."""
    row = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    start = header_bytes(dtype, shape)
    n = _n_rows(path, row, start)
    if not n:
        return np.empty((0, *shape), dtype)
    return np.memmap(path, np.uint8, "r")[start : start + n * row].view(dtype).reshape(n, *shape)


def _n_rows(path: Path, row_bytes: int, start: int) -> int:
    try:
        return max(0, path.stat().st_size - start) // row_bytes
    except FileNotFoundError:
        return 0


def _parts(features: Array, rows: npt.NDArray[np.intp], size: int) -> Iterator[Array]:
    for start in range(0, len(rows), size):
        yield features[rows[start : start + size]]


def _put_aside(store: "FeatureStore", path: Path) -> None:
    home = store.path / QUARANTINE / path.relative_to(store.path).parent
    make_directory(home)
    target = home / path.name
    if target.is_dir():
        shutil.rmtree(target)
    path.replace(target)
    sync_directory(home)
    sync_directory(path.parent)
