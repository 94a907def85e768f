"""Digests of files that were read before, so that they need not be read again.

A shortcut, never the truth: a file counts as the same if path, device, inode, size and times of modification and change
are, its first, middle and last block are what they were, and it was not changed in the last seconds before it was read.
What that misses is a change between these blocks of a large file that leaves its times as they are, as a write through
a memory map does that stays open. Whoever does not trust that reads the files.
"""

import os
import stat
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from frofa._files import clock_behind, make_directory, write_atomically
from frofa.exceptions import StoreError
from frofa.store.format import Array, header_bytes, open_npy, write_npy
from frofa.store.keys import KEY_BYTES, as_keys, prefixes, to_hex

FILES = "sampled"
UNSAMPLED = "files"
"""Where versions before kept such tables without samples, which nothing reads."""
SAMPLE_BYTES = 16
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
BLOCK = 2**12
"""Bytes of each of the three blocks that are compared; a file of no more than three is compared as a whole."""
SETTLED = 2.0
"""Seconds after which a file's times tell one content from another."""
UNKNOWN_LAG = 60.0
"""By how many seconds the clock of a file system may be behind this machine's, where nothing is written that tells."""
MAX_FILES = 16


@dataclass(frozen=True)
class SeenFile:
    """A file as it was at one moment.

    Attributes
    ----------
    path : str
    status : os.stat_result
    sample : bytes
        Digest of its first, middle and last block, or of all of a small file.
    """

    path: str
    status: os.stat_result
    sample: bytes

    @classmethod
    def look(cls, path: str | os.PathLike[str]) -> "SeenFile | None":
        """See what a file is now; None if it is no regular file or cannot be read."""
        name = os.fspath(path)
        try:
            status = os.stat(name)  # noqa: PTH116 (one call, of a path of any kind)
            if not stat.S_ISREG(status.st_mode):
                return None
            with open(name, "rb", buffering=0) as file:  # noqa: PTH123
                return cls(name, status, _sample(file, status.st_size))
        except (OSError, ValueError):  # reading it will say what is wrong
            return None

    def is_settled(self, now: float) -> bool:
        """Whether a change after this moment, in seconds since the epoch, will show in the file's times."""
        return max(self.status.st_mtime, self.status.st_ctime) < now - SETTLED

    def is_unchanged(self) -> bool:
        """Whether it still looks the same."""
        again = SeenFile.look(self.path)
        return again is not None and again.sample == self.sample and _status(again) == _status(self)


class FileDigests:
    """The keys of files, in a directory of sorted tables.

    Parameters
    ----------
    directory : Path
    """

    def __init__(self, directory: Path):
        self.directory = directory
        self._tables: dict[str, tuple[npt.NDArray[np.uint64], Array]] = {}

    def find(self, files: Sequence[SeenFile]) -> list[str | None]:
        """The key of each file; None for those that are not known, or changed."""
        found: list[str | None] = [None] * len(files)
        wanted = _records(files, np.zeros((len(files), KEY_BYTES), np.uint8))
        heads = prefixes(wanted["path"])
        for values, records in reversed(self._load()):  # the newest first
            todo = np.array([i for i, key in enumerate(found) if key is None], np.intp)
            at = np.searchsorted(values, heads[todo])
            inside = at < len(values)
            todo, at = todo[inside], at[inside]
            candidates = np.asarray(records[at])
            same = np.ones(len(todo), bool)
            for name in STATUS:
                same &= candidates[name] == wanted[name][todo]
            for name in ("path", "sample"):
                same &= (candidates[name] == wanted[name][todo]).all(1)
            same &= whole_digests(candidates)
            for i, key in zip(todo[same], to_hex(candidates["key"][same]), strict=True):
                found[i] = key
        return found

    def remember(self, files: Sequence[SeenFile], keys: Sequence[str], read_at: float) -> None:
        """Keep the keys of files that were read after `read_at`, in seconds since the epoch.

        Parameters
        ----------
        files : sequence of SeenFile
            As they were before they were read; those that are not the same now are left out.
        keys : sequence of str
        read_at : float

        Raises
        ------
        OSError
            If that cannot be written.
        """
        device, lag = clock_behind(self.directory.parent)
        kept = [
            (file, key)
            for file, key in zip(files, keys, strict=True)
            if file.is_settled(read_at - (lag if file.status.st_dev == device else UNKNOWN_LAG)) and file.is_unchanged()
        ]
        if not kept:
            return
        records = _records([file for file, _ in kept], as_keys([key for _, key in kept]))
        make_directory(self.directory)
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


def _sample(file: FileIO, size: int) -> bytes:
    digest = blake2b(digest_size=SAMPLE_BYTES, person=b"frofa-sample")
    if size <= 3 * BLOCK:
        digest.update(file.read(3 * BLOCK))
        return digest.digest()
    for start in (0, (size - BLOCK) // 2, size - BLOCK):
        file.seek(start)
        digest.update(file.read(BLOCK))
    return digest.digest()


def _status(file: SeenFile) -> list[int]:
    """Numbers of 64 bits; a time before 1970 is negative, and some systems number files by more."""
    return [getattr(file.status, field) & (2**64 - 1) for field in STATUS.values()]


def _records(files: Sequence[SeenFile], keys: Array) -> Array:
    records: Array = np.zeros(len(files), RECORD)
    digests = [blake2b(os.fsencode(Path(file.path).absolute()), digest_size=20).digest() for file in files]
    records["path"] = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 20)
    records["sample"] = np.frombuffer(b"".join(file.sample for file in files), np.uint8).reshape(-1, SAMPLE_BYTES)
    statuses = np.array([_status(file) for file in files], np.uint64).reshape(-1, len(STATUS))
    for column, name in enumerate(STATUS):
        records[name] = statuses[:, column]
    records["key"] = keys
    records["crc32"] = _crc32(records)
    return records


def _crc32(records: Array) -> npt.NDArray[np.uint32]:
    size = RECORD.itemsize
    raw = memoryview(np.ascontiguousarray(records).tobytes())
    sums: Any = [zlib.crc32(raw[start : start + size - 4]) for start in range(0, len(raw), size)]
    return np.array(sums, np.uint32)
