"""Digests of files that were read before, so that they need not be read again.

A shortcut, never the truth: a file counts as the same if path, device, inode, size and times of modification and change
are, its first, middle and last block are what was read, and it was not changed in the last seconds before that.
What that misses is a change between these blocks of a large file that leaves its times as they are, as a write through
a memory map does that stays open. Whoever does not trust that reads the files.
"""

import os
import stat
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from frofa.exceptions import StoreError
from frofa.store.disk.format import Array, header_bytes, open_npy, write_npy
from frofa.store.keys import KEY_BYTES, as_keys, prefixes, to_hex
from frofa.utils.blocks import SAMPLE_BYTES, sample_file
from frofa.utils.files import clock_behind, make_directory, write_atomically

FILES = "sampled"
"""The directory of a store that these tables are in."""
UNSAMPLED = "files"
"""The directory of earlier versions, whose tables have no samples; nothing reads it."""
STATUS = {"device": "st_dev", "inode": "st_ino", "size": "st_size", "mtime": "st_mtime_ns", "ctime": "st_ctime_ns"}
RECORD = np.dtype(
    [
        ("path", "u1", (20,)),
        *((name, "<u8") for name in STATUS),
        ("sample", "u1", (SAMPLE_BYTES,)),
        ("key", "u1", (KEY_BYTES,)),
        ("crc32", "<u4"),
    ]
)
"""Digest of the absolute path, status, digest of some blocks, key, and the CRC-32 of all that."""
SETTLED = 2.0
"""Seconds after which a file's times tell one content from another."""
UNKNOWN_LAG = 60.0
"""Seconds that the clock of another file system is taken to be behind: nothing is written there that would tell."""
MAX_TABLES = 16
"""Tables after which the next one takes in all others."""


@dataclass(frozen=True)
class SeenFile:
    """A file as it was at one moment."""

    path: str
    status: os.stat_result

    @classmethod
    def look(cls, path: str | os.PathLike[str]) -> "SeenFile | None":
        """See what a file is now; None if it is no regular file or cannot be looked at."""
        name = os.fspath(path)
        try:
            status = os.stat(name)  # noqa: PTH116 (one call, of a path of any kind)
        except (OSError, ValueError):  # reading it will say what is wrong
            return None
        return cls(name, status) if stat.S_ISREG(status.st_mode) else None

    def is_settled(self, now: float) -> bool:
        """Whether a change after this moment, in seconds since the epoch, will show in the file's times."""
        return max(self.status.st_mtime, self.status.st_ctime) < now - SETTLED

    def is_unchanged(self) -> bool:
        """Whether the file looks as it did, apart from its content."""
        again = SeenFile.look(self.path)
        return again is not None and _status(again) == _status(self)

    def has_blocks(self, sample: bytes) -> bool:
        """Whether the content has this sample, see `frofa.utils.blocks`."""
        try:
            return sample_file(self.path, self.status.st_size) == sample
        except OSError:
            return False


class FileDigests:
    """The keys of files, in a directory of sorted tables."""

    def __init__(self, directory: Path):
        self.directory = directory
        self._tables: dict[str, tuple[npt.NDArray[np.uint64], Array]] = {}

    def find(self, files: Sequence[SeenFile]) -> list[str | None]:
        """The key of each file; None for those that are not known, or changed."""
        found: list[str | None] = [None] * len(files)
        wanted = _records(files)
        heads = prefixes(wanted["path"])
        for values, records in reversed(self._load()):  # the newest first
            todo = np.array([i for i, key in enumerate(found) if key is None], np.intp)
            # A table has each path once, so that one place in it is to be compared.
            at = np.searchsorted(values, heads[todo])
            # Of each path that is not found yet, the row that it has here, if any.
            inside = at < len(values)
            todo, at = todo[inside], at[inside]
            candidates = np.asarray(records[at])
            same = np.ones(len(todo), bool)
            for name in STATUS:
                same &= candidates[name] == wanted[name][todo]
            same &= (candidates["path"] == wanted["path"][todo]).all(1)
            same &= whole_digests(candidates)
            # A look at the files comes last: it takes longest.
            keys = to_hex(candidates["key"][same])
            for i, key, sample in zip(todo[same], keys, candidates["sample"][same], strict=True):
                if files[i].has_blocks(sample.tobytes()):
                    found[i] = key
        return found

    def remember(
        self, files: Sequence[SeenFile], keys: Sequence[str], samples: Sequence[bytes], read_at: float
    ) -> None:
        """Keep the keys of files, and samples of the same content; OSError if they cannot be written.

        Files are given as they were before they were read, after `read_at`, in seconds since the epoch. Those that are
        not the same now, or were changed so shortly before that a later change may not show, are left out.
        """
        # A file of this device has times of the clock that was asked; of other devices, that of theirs is not known.
        device, lag = clock_behind(self.directory.parent)
        kept = [
            row
            for row, file in enumerate(files)
            if file.is_settled(read_at - (lag if file.status.st_dev == device else UNKNOWN_LAG)) and file.is_unchanged()
        ]
        if not kept:
            return
        records = _records([files[row] for row in kept])
        records["key"] = as_keys([keys[row] for row in kept])
        records["sample"] = np.frombuffer(b"".join(samples[row] for row in kept), np.uint8).reshape(-1, SAMPLE_BYTES)
        records["crc32"] = _crc32(records)
        make_directory(self.directory)
        names = _names(self.directory)
        if len(names) >= MAX_TABLES:
            # All become one before the old ones are removed: killed between, this leaves both, and loses nothing.
            records = np.concatenate([*(table for _, table in self._load()), records])
        self._write(records, names)
        if len(names) >= MAX_TABLES:
            for name in names:  # another process may have done so; what it lost by that is read again
                (self.directory / name).unlink(missing_ok=True)

    def _write(self, records: Array, names: list[str]) -> None:
        values = prefixes(records["path"])
        order = np.argsort(values, kind="stable")
        # The sort is stable: of one path, rows stay in the order in which they were added.
        values, records = values[order], records[order]
        last = np.append(values[1:] != values[:-1], True)  # of the same path, what was added last
        records = records[last]
        number = 1 + max((int(name.split("-")[0]) for name in names), default=-1)
        tag = blake2b(records.tobytes(), digest_size=8).hexdigest()
        path = self.directory / f"{number:08d}-{tag}.npy"
        write_atomically(path, lambda file: write_npy(file, RECORD, records.shape, [records]))

    def _load(self) -> list[tuple[npt.NDArray[np.uint64], Array]]:
        names = _names(self.directory)
        # What is mapped already stays; tables that another process has merged go.
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
    """Map a table of digests; StoreError if it is damaged."""
    n = max(0, path.stat().st_size - header_bytes(RECORD, ())) // RECORD.itemsize
    return open_npy(path, RECORD, (n,))[0]


def whole_digests(records: Array) -> npt.NDArray[np.bool_]:
    """Tell which of these rows of a table are what was written."""
    whole: npt.NDArray[np.bool_] = records["crc32"] == _crc32(records)
    return whole


def _names(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.glob("*.npy") if not file.name.startswith("."))


def _status(file: SeenFile) -> list[int]:
    """A file's status as numbers of 64 bits: a time before 1970 is negative, and some systems number files by more."""
    return [getattr(file.status, field) & (2**64 - 1) for field in STATUS.values()]


def _records(files: Sequence[SeenFile]) -> Array:
    """Make rows of a table that say which files these are, and nothing of their content yet."""
    records: Array = np.zeros(len(files), RECORD)
    digests = [blake2b(os.fsencode(Path(file.path).absolute()), digest_size=20).digest() for file in files]
    records["path"] = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 20)
    statuses = np.array([_status(file) for file in files], np.uint64).reshape(-1, len(STATUS))
    for column, name in enumerate(STATUS):
        records[name] = statuses[:, column]
    return records


def _crc32(records: Array) -> npt.NDArray[np.uint32]:
    size = RECORD.itemsize
    raw = memoryview(np.ascontiguousarray(records).tobytes())
    sums: Any = [zlib.crc32(raw[start : start + size - 4]) for start in range(0, len(raw), size)]
    return np.array(sums, np.uint32)
