"""The members of a tar archive, from its headers alone.

This is done here, and not by `tarfile`, whose releases differ in what a tampered header makes them do: walk backwards
for ever, call themselves for each of a chain of headers, allocate what a header claims. Here each header lies behind
the one before it, all of a member lies within the file, and headers that extend others are bounded.
"""

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from frofa.images.archives.damaged import DamagedArchiveError

BLOCK = 512
LARGEST_HEADER = 1 << 20
"""Most bytes of a long name or a PAX header: a path has some thousands."""
_EXTENDED = {b"x": "PAX", b"X": "PAX", b"g": "global PAX", b"L": "name", b"K": "link"}
_WITHOUT_DATA = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE)
_MORE_SPARSE = 482, 504
"""Offsets of the flag that another block follows, in a sparse file's header and in the blocks that go on with it."""


class TarEntry(NamedTuple):
    """A member of a tar archive, with the place of its data and the type that its header says."""

    name: str
    link: str  # what a link leads to
    offset: int
    size: int
    kind: bytes
    fault: str  # why its data are not a file's, or ""


@dataclass
class _Extension:
    """Fields of a member's header that PAX headers and long names before it replace."""

    name: str | None = None
    link: str | None = None
    size: int | None = None
    is_sparse: bool = False
    fault: str = ""

    def add(self, kind: str, data: bytes) -> None:
        """Take in the data of one such header."""
        if kind == "name":
            self.name = _text(data.partition(b"\0")[0])
        elif kind == "link":
            self.link = _text(data.partition(b"\0")[0])
        else:
            try:
                self._add_records(data)
            except ValueError:
                self.fault = "its PAX header is damaged"

    def _add_records(self, data: bytes) -> None:
        for key, value in _records(data):
            if key in (b"path", b"GNU.sparse.name"):
                self.name = _text(value)
            elif key == b"linkpath":
                self.link = _text(value)
            elif key == b"size" and len(value) <= 20:
                self.size = int(value)
            self.is_sparse = self.is_sparse or key.startswith(b"GNU.sparse.")


def walk(archive: Path) -> Iterator[TarEntry]:
    """Yield the members of a tar archive, in order; directories and devices too.

    A DamagedArchiveError says that it is not a tar archive, or damaged or cut off: what follows the damage cannot be
    found.
    """
    with archive.open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        at, n_members = 0, 0
        extension = _Extension()
        while (header := _header(file, at, end, n_members)) is not None:
            data = at + BLOCK
            if header.type == tarfile.GNUTYPE_SPARSE:
                data = _after_sparse(file, data, end)
            kind = _EXTENDED.get(header.type)
            size = _size_of(header, extension)
            # A size that leads back, or out of the file, is never followed.
            if not 0 <= size <= end - data:
                have = f"of which the file has {end - data}"
                raise DamagedArchiveError(f"damaged: at byte {at}, a member of {size} bytes begins, {have}.")
            if kind is None:
                yield _entry(header, extension, data, size)
                n_members += 1
                extension = _Extension()
            elif size > LARGEST_HEADER:
                most = f"{LARGEST_HEADER} are the most"
                raise DamagedArchiveError(f"damaged: at byte {at}, a {kind} header of {size} bytes begins; {most}.")
            elif kind != "global PAX":
                file.seek(data)
                extension.add(kind, file.read(size))
            at = data + -(-size // BLOCK) * BLOCK  # data fill whole blocks


def _header(file: BinaryIO, at: int, end: int, n_members: int) -> tarfile.TarInfo | None:
    """Read the header at a place; None at the end, which is zeros or the end of the file."""
    if 0 < end <= at:
        return None
    file.seek(at)
    block = file.read(BLOCK)
    if block and not block.strip(b"\0"):
        return None
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        # A file that does not begin with a header is no tar archive; one without a later header is damaged.
        if at == 0:
            raise DamagedArchiveError(f"not a tar archive, or a damaged one: {error}.") from error
        place = f"after {n_members} members, at byte {at}"
        raise DamagedArchiveError(f"damaged: {place}, there is no header.") from error


def _size_of(header: tarfile.TarInfo, extension: _Extension) -> int:
    if header.type in _WITHOUT_DATA:
        return 0
    return header.size if extension.size is None or header.type in _EXTENDED else extension.size


def _after_sparse(file: BinaryIO, at: int, end: int) -> int:
    """Find the data of a file with holes, behind the blocks that go on with its header."""
    file.seek(at - BLOCK)
    more = file.read(BLOCK)[_MORE_SPARSE[0]]
    while more and at < end:
        more = file.read(BLOCK).ljust(BLOCK, b"\0")[_MORE_SPARSE[1]]
        at += BLOCK
    return at


def _entry(header: tarfile.TarInfo, extension: _Extension, offset: int, size: int) -> TarEntry:
    fault = extension.fault
    if header.type == tarfile.GNUTYPE_SPARSE or extension.is_sparse:
        fault = "a sparse file, which cannot be read in place"
    name = header.name if extension.name is None else extension.name
    link = header.linkname if extension.link is None else extension.link
    return TarEntry(name.rstrip("/") if header.isdir() else name, link, offset, size, header.type, fault)


def _records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    r"""Yield key and value of the records of a PAX header, each ``LENGTH KEY=VALUE\n``."""
    at = 0
    while at < len(data) and data[at]:
        space = data.find(b" ", at, at + 20)
        if space < 0 or not data[at:space].isdigit():
            raise ValueError("a record without its length")
        length = int(data[at:space])  # of the whole record
        record = data[space + 1 : at + length]
        if at + length > len(data) or not record.endswith(b"\n"):
            raise ValueError("a record of another length than it says")
        key, _, value = record[:-1].partition(b"=")
        yield key, value
        at += length


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
