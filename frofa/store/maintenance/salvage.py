"""Reading what is whole of a shard, whatever is damaged of it."""

import math
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from frofa.exceptions import StoreError
from frofa.store.disk.format import Array, header_bytes
from frofa.store.disk.shard import ROW, open_shard, shard_names, spec_of_shard, whole_rows
from frofa.store.keys import KeyArray, prefixes, to_hex
from frofa.store.spec import STORED


class Salvage(NamedTuple):
    """The rows of a shard that can be read, which of them are as they were written, and how many are lost.

    Not counted as lost are those of which another shard has a whole copy.
    """

    table: Array
    features: Array
    kept: npt.NDArray[np.intp]
    n_lost: int


def salvage(path: Path) -> Salvage:
    """Read all rows of a shard that can be read, and compare their checksums."""
    layout = _layout(path)
    expected = _n_expected(path)
    if layout is None or _is_misplaced(path) or not (path.parent.parent / "spec.json").exists():
        return Salvage(np.empty(0, ROW), np.empty(0), np.empty(0, np.intp), expected)
    dtype, shape = layout
    table = _raw(path / "rows.npy", ROW, ())
    features = _raw(path / "features.npy", dtype, shape)
    # Of a file that was cut, rows at the end are missing.
    n = min(len(table), len(features))
    kept = np.flatnonzero(whole_rows(table, features, np.arange(n)))
    # Keys of rows that are not whole here, but perhaps elsewhere.
    n_copies = _n_copied(path, table["key"][np.setdiff1d(np.arange(len(table)), kept)])
    return Salvage(table, features, kept, max(0, expected - len(kept) - n_copies))


def _n_copied(path: Path, keys: KeyArray) -> int:
    """Count those of these keys of which another shard of the spec has a whole feature."""
    left = set(to_hex(keys))
    for name in shard_names(path.parent.parent) if left else ():
        if name == path.name:
            continue
        with suppress(StoreError, FileNotFoundError):
            # Prefixes choose the rows to read; the whole keys decide.
            shard = open_shard(path.parent / name)
            found = np.flatnonzero(np.isin(prefixes(shard.checked_keys()), prefixes(keys)))
            left -= set(to_hex(shard.checked_keys()[found[shard.whole_rows(found)]]))
    return len(set(to_hex(keys))) - len(left)


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
            # The description is lost, but the header of the file may be there.
            with (candidate / "features.npy").open("rb") as file:
                np.lib.format.read_magic(file)
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            if dtype.str in STORED.values() and len(shape) > 1 and min(shape) > 0:
                return dtype, shape[1:]
        except Exception:  # a damaged header raises anything
            continue
    return None


def _raw(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """The rows of a ``.npy`` file whatever its header says: what follows it."""
    row = dtype.itemsize * math.prod(shape)
    start = header_bytes(dtype, shape)
    n = _n_rows(path, row, start)
    if not n:
        return np.empty((0, *shape), dtype)
    return np.memmap(path, np.uint8, "r")[start : start + n * row].view(dtype).reshape(n, *shape)


def _n_rows(path: Path, row_bytes: int, start: int) -> int:
    return max(0, path.stat().st_size - start) // row_bytes if path.is_file() else 0
