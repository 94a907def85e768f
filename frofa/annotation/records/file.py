"""A CSV file of decisions, which is only appended to, and synced after each: what it has is never lost."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from frofa.annotation.records.rows import (
    FOLDER,
    HEADER,
    LABELLING,
    SET_ASIDE,
    UNDO,
    Row,
    check_header,
    is_torn,
    parse_rows,
    row_bytes,
    utc_now,
    whole_rows,
)
from frofa.utils.files import make_directories, sync_directory
from frofa.utils.text import in_utf8

LOCK_SECONDS = 10.0
"""Time after which another process that holds the lock is an error."""
CHECKED_BYTES = 256
"""Bytes before the end of what was read by which a file is known to have grown and not to have been edited."""


class _Seen(NamedTuple):
    """The file as it was when it was last looked at: which it is, its size, and its time of change."""

    identity: tuple[int, int]
    size: int
    changed: int


class Appended(NamedTuple):
    """Rows that others had appended before, and one's own."""

    found: list[Row]
    written: list[Row]


class LabelFile:
    """A record of labels on disk: ``path,label,when,how``, one row a decision, of which the last one of a path counts.

    Several processes may append to it. A row that is cut off, as by a kill in the middle of writing, is removed before
    the next is written. If a row cannot be written, the file is as before.

    Parameters
    ----------
    file : Path
        The CSV file, which `open` creates if it is not there.

    Attributes
    ----------
    notes : list of str
        What was found and mended, a sentence each.
    """

    def __init__(self, file: Path):
        self.file = Path(os.path.abspath(file))  # noqa: PTH100 (links in a path stay what they are)
        self.notes: list[str] = []
        self._lock = FileLock(str(self.file.with_name(f".{self.file.name}.lock")), timeout=LOCK_SECONDS)
        self._end, self._tail, self._last = 0, b"", ""
        self._seen: _Seen | None = None

    def open(self) -> list[Row]:
        """Read all rows; create the file if it is not there.

        Raises
        ------
        ValueError
            If the file is something else.
        OSError
            If it cannot be read, written or locked.
        """
        make_directories(self.file.parent)
        with self._locked() as descriptor:
            return self._read_all(descriptor)

    def news(self) -> list[Row] | None:
        """Read rows that others have appended; None says that the file was changed otherwise: `open` it again."""
        try:
            status = self.file.stat()
        except FileNotFoundError:
            return None
        if self._seen == _seen(status):
            return []
        with self.file.open("rb") as file:
            return self._read_new(file.fileno(), mend=False)

    def append(
        self, decisions: Sequence[tuple[str, str, str]], before: Callable[[str], object] = lambda _: None
    ) -> Appended | None:
        """Append decisions of this moment, (path, label, how) each, all or none; `before` gets their time first.

        None says that nothing was written, as the file was changed otherwise: `open` it again.

        Raises
        ------
        OSError
            If they cannot be written; the file has none of them then.
        """
        with self._locked() as descriptor:
            found = self._read_new(descriptor, mend=True)
            if found is None:
                return None
            when = utc_now(self._last)
            rows = [Row(path, label, when, how) for path, label, how in decisions]
            data = b"".join(map(row_bytes, rows))
            before(when)
            try:
                _write_synced(descriptor, data, self._end)
            except OSError:
                # What was written was taken back, which is no change by others.
                self._seen = _seen(os.fstat(descriptor))
                raise
            self._advance(descriptor, self._end + len(data), self._tail + data, rows)
            return Appended(found, rows)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Open the file for reading and writing, created if need be, while no other process writes."""
        with self._lock:
            is_new = not self.file.exists()
            descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            try:
                if _is_begun(_read(descriptor, 0, len(HEADER))):
                    _write_synced(descriptor, HEADER, 0)
                if is_new:
                    sync_directory(self.file.parent)
                yield descriptor
            finally:
                os.close(descriptor)

    def _read_all(self, descriptor: int) -> list[Row]:
        data = _read(descriptor, 0)
        marked = len(data) - len(in_utf8(data))
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise ValueError(f"{self.file} is in UTF-16, and cannot be appended to: save it in UTF-8.")
        start = data.find(b"\n") + 1 or len(data)
        check_header(data[marked:start], str(self.file))
        if whole_rows(data) < len(data):
            data = self._mended(descriptor, 0, data)
        rows = parse_rows(data[start:], str(self.file), 2)
        self._last = ""
        self._advance(descriptor, len(data), data, rows)
        return rows

    def _read_new(self, descriptor: int, *, mend: bool) -> list[Row] | None:
        """Read what was appended; with `mend`, which needs the lock, remove what was cut off."""
        status = os.fstat(descriptor)
        if self._seen is None or self._seen.identity != _seen(status).identity or status.st_size < self._end:
            return None
        if status.st_size == self._end and self._seen != _seen(status):  # somewhere in it, a label is another
            return None
        if _read(descriptor, self._end - len(self._tail), self._end) != self._tail:
            return None
        data = _read(descriptor, self._end)
        if mend and whole_rows(data) < len(data):
            data = self._mended(descriptor, self._end, data)
        data = data[: whole_rows(data)]
        rows = parse_rows(data, str(self.file))
        self._advance(descriptor, self._end + len(data), self._tail + data, rows)
        return rows

    def _mended(self, descriptor: int, start: int, data: bytes) -> bytes:
        """Cut a file, of which `data` is what follows `start`, behind its last whole row; return what is left of that.

        A last row that is whole but for its line break gets one.
        """
        end = whole_rows(data)
        rest = data[end:]
        if not is_torn(rest):
            raise ValueError(f"{self.file} has a quotation mark that is not closed, after byte {start + end}: mend it.")
        if _is_whole(rest) or not end:
            _write_synced(descriptor, b"\n", start + len(data))
            return data + b"\n"
        os.ftruncate(descriptor, start + end)
        os.fsync(descriptor)
        shown = rest.decode("utf-8", "replace")
        self.notes.append(f"The last row of {self.file.name} was cut off, and has been removed: {shown!r:.200}")
        return data[:end]

    def _advance(self, descriptor: int, end: int, last: bytes, rows: Sequence[Row]) -> None:
        """Note that everything up to `end` was read, of which `last` are the last bytes, and `rows` are new."""
        self._last = max([self._last, *(row.when for row in rows[-1:])])
        self._end, self._tail = end, last[-CHECKED_BYTES:]
        self._seen = _seen(os.fstat(descriptor))


def _is_begun(data: bytes) -> bool:
    """Tell whether a file is empty, or was cut off in its header."""
    return len(data) < len(HEADER) and HEADER.startswith(data) and data != HEADER.rstrip(b"\n")


def _is_whole(rest: bytes) -> bool:
    """Tell whether a last line is a whole decision, with a time and a way that are known."""
    try:
        rows = parse_rows(rest, "")
    except ValueError:
        return False
    return len(rows) == 1 and rows[0].how in (*LABELLING, *SET_ASIDE, UNDO, FOLDER)


def _seen(status: os.stat_result) -> _Seen:
    return _Seen((status.st_dev, status.st_ino), status.st_size, status.st_mtime_ns)


def _read(descriptor: int, start: int, end: int | None = None) -> bytes:
    os.lseek(descriptor, start, os.SEEK_SET)
    parts: list[bytes] = []
    left = (os.fstat(descriptor).st_size if end is None else end) - start
    while left > 0 and (part := os.read(descriptor, left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _write_synced(descriptor: int, data: bytes, at: int) -> None:
    """Write data at the end of a file, `at` so many bytes, and sync it; if that fails, the file has this size again."""
    os.lseek(descriptor, at, os.SEEK_SET)
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    except BaseException:
        # What was written in part would be read as decisions that nobody was told of.
        with suppress(OSError):
            os.ftruncate(descriptor, at)
            os.fsync(descriptor)
        raise
