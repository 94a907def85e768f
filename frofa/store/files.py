"""Digests of files that were read before, so that they need not be read again.

A shortcut, never the truth: a file counts as the same if path, size, inode and times of modification and change are,
and it was not modified in the last seconds before it was read. Whoever does not trust that reads the files.
"""

import os
import zlib
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from frofa._files import write_atomically
from frofa.exceptions import StoreError
from frofa.store.format import Array, header_bytes, open_npy, write_npy
from frofa.store.keys import KEY_BYTES, as_keys, prefixes, to_hex

FILES = "files"
RECORD = np.dtype(
    [
        ("path", "u1", (20,)),
        ("size", "<u8"),
        ("mtime", "<u8"),
        ("ctime", "<u8"),
        ("inode", "<u8"),
        ("key", "u1", (KEY_BYTES,)),
        ("crc32", "<u4"),
    ]
)
"""Digest of the absolute path, status, key, and the CRC-32 of all that."""
SETTLED = 2.0
"""Seconds after which a file's time of modification tells one content from another."""
MAX_FILES = 16


class FileDigests:
    """The keys of files, in a directory of sorted tables.

    Parameters
    ----------
    directory : Path
    """

    def __init__(self, directory: Path):
        self.directory = directory
        self._tables: dict[str, tuple[npt.NDArray[np.uint64], Array]] = {}

    def find(self, paths: Sequence[str], stats: Sequence[os.stat_result]) -> list[str | None]:
        """The key of each file; None for those that are not known, or changed."""
        found: list[str | None] = [None] * len(paths)
        wanted = _records(paths, stats, np.zeros((len(paths), KEY_BYTES), np.uint8))
        heads = prefixes(wanted["path"])
        for values, records in reversed(self._load()):  # the newest first
            todo = np.array([i for i, key in enumerate(found) if key is None], np.intp)
            at = np.searchsorted(values, heads[todo])
            inside = at < len(values)
            todo, at = todo[inside], at[inside]
            candidates = np.asarray(records[at])
            same = np.ones(len(todo), bool)
            for name in ("size", "mtime", "ctime", "inode"):
                same &= candidates[name] == wanted[name][todo]
            same &= (candidates["path"] == wanted["path"][todo]).all(1)
            same &= whole_digests(candidates)
            for i, key in zip(todo[same], to_hex(candidates["key"][same]), strict=True):
                found[i] = key
        return found

    def remember(
        self, paths: Sequence[str], stats: Sequence[os.stat_result], keys: Sequence[str], read_at: float
    ) -> None:
        """Keep the keys of files that were read after `read_at`, in seconds since the epoch.

        Parameters
        ----------
        paths, stats, keys : sequence
            The status is that from before the file was read.
        read_at : float
        """
        settled = [i for i, stat in enumerate(stats) if stat.st_mtime < read_at - SETTLED]
        if not settled:
            return
        records = _records(
            [paths[i] for i in settled], [stats[i] for i in settled], as_keys([keys[i] for i in settled])
        )
        self.directory.mkdir(parents=True, exist_ok=True)
        names = _names(self.directory)
        if len(names) >= MAX_FILES:
            records = np.concatenate([*(table for _, table in self._load()), records])
        self._write(records, names)
        if len(names) >= MAX_FILES:
            for name in names:  # another process may have done so; what it lost by that is read again
                (self.directory / name).unlink(missing_ok=True)

    def _write(self, records: Array, names: list[str]) -> None:
        values = prefixes(records["path"])
        order = np.argsort(values, kind="stable")
        values, records = values[order], records[order]
        last = np.append(values[1:] != values[:-1], True)  # of the same path, what was added last
        records = records[last]
        number = 1 + max((int(name.split("-")[0]) for name in names), default=-1)
        tag = blake2b(records.tobytes(), digest_size=8).hexdigest()
        path = self.directory / f"{number:08d}-{tag}.npy"
        write_atomically(path, lambda file: write_npy(file, RECORD, records.shape, [records]))

    def _load(self) -> list[tuple[npt.NDArray[np.uint64], Array]]:
        names = _names(self.directory)
        self._tables = {name: table for name, table in self._tables.items() if name in names}
        for name in names:
            if name not in self._tables:
                try:
                    records = open_digests(self.directory / name)
                except (StoreError, FileNotFoundError):  # a shortcut less
                    continue
                self._tables[name] = prefixes(records["path"]), records
        return [self._tables[name] for name in names if name in self._tables]


def open_digests(path: Path) -> Array:
    """Map a table of digests.

    Raises
    ------
    StoreError
        If it is damaged.
    """
    n = max(0, path.stat().st_size - header_bytes(RECORD, ())) // RECORD.itemsize
    return open_npy(path, RECORD, (n,))[0]


def whole_digests(records: Array) -> npt.NDArray[np.bool_]:
    """Which of these rows of a table are what was written."""
    whole: npt.NDArray[np.bool_] = records["crc32"] == _crc32(records)
    return whole


def _names(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.glob("*.npy") if not file.name.startswith("."))


def _records(paths: Sequence[str], stats: Sequence[os.stat_result], keys: Array) -> Array:
    records: Array = np.zeros(len(paths), RECORD)
    digests = [blake2b(os.fsencode(Path(path).absolute()), digest_size=20).digest() for path in paths]
    records["path"] = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 20)
    for name, values in (
        ("size", [stat.st_size for stat in stats]),
        ("mtime", [stat.st_mtime_ns for stat in stats]),
        ("ctime", [stat.st_ctime_ns for stat in stats]),
        ("inode", [stat.st_ino for stat in stats]),
    ):
        records[name] = values
    records["key"] = keys
    records["crc32"] = _crc32(records)
    return records


def _crc32(records: Array) -> npt.NDArray[np.uint32]:
    size = RECORD.itemsize
    raw = memoryview(np.ascontiguousarray(records).tobytes())
    sums: Any = [zlib.crc32(raw[start : start + size - 4]) for start in range(0, len(raw), size)]
    return np.array(sums, np.uint32)
