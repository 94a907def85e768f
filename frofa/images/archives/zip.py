"""The members of a zip archive, from its directory alone.

This is done here, and not by `zipfile`, which refuses a whole archive for one member of a later version, or of a name
in another encoding. No number of the directory is trusted where a member is read: see `frofa.images.archives.members`.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from frofa.images.archives.damaged import DamagedArchiveError

_END = struct.Struct("<4xH6x2LH")
"""The record at the end: number of the disk, size and offset of the directory, length of the comment."""
_LOCATOR = struct.Struct("<4s4xQ4x")
"""Zip64's locator before it: signature, offset of the wider record."""
_END_64 = struct.Struct("<4s36x2Q")
"""The wider record: signature, size and offset of the directory."""
_ENTRY = struct.Struct("<8xH6x3L3H8xL")
"""An entry of the directory: flags, CRC, packed size, size, lengths of name, extra field and comment, offset."""
_LARGEST_COMMENT = 0xFFFF
_IN_EXTRA = 0xFFFFFFFF
"""The value that stands for a number of more than 32 bits, which is in the extra field."""
_UTF8 = 0x800
"""The flag of names in UTF-8."""


class ZipEntry(NamedTuple):
    """A member of a zip archive, as the directory has it; names of directories end in ``/``."""

    name: str
    offset: int  # of its header
    size: int
    packed: int  # compressed bytes
    crc: int


def walk(archive: Path) -> Iterator[ZipEntry]:
    """Yield the members of a zip archive, in order; directories too.

    A DamagedArchiveError says that it is not a zip archive, is a part of one, or has a damaged directory.
    """
    with archive.open("rb") as file:
        start, left, n_before = _find_directory(file)
        file.seek(start)
        n_members = 0
        while left > 0:
            entry = file.read(_ENTRY.size)
            if len(entry) < _ENTRY.size or entry[:4] != b"PK\x01\x02":
                raise DamagedArchiveError(f"damaged: its directory has no entry after {n_members} members.")
            flags, crc, packed, size, n_name, n_extra, n_comment, offset = _ENTRY.unpack(entry)
            name, extra = file.read(n_name), file.read(n_extra)
            file.seek(n_comment, os.SEEK_CUR)
            size, packed, offset = _in_full((size, packed, offset), extra)
            yield ZipEntry(_decode(name, flags), offset + n_before, size, packed, crc)
            left -= _ENTRY.size + n_name + n_extra + n_comment
            n_members += 1


def _find_directory(file: BinaryIO) -> tuple[int, int, int]:
    """Find offset and size of the directory, and how many bytes lie before the archive itself."""
    length = os.fstat(file.fileno()).st_size
    start = max(0, length - _END.size - _LARGEST_COMMENT)
    file.seek(start)
    tail = file.read()
    at = _find_end(tail)
    if at < 0:
        raise DamagedArchiveError("not a zip archive, or a damaged one: there is no directory at its end.")
    disk, size, offset, _ = _END.unpack_from(tail, at)
    # The directory ends where the records at the end begin: other data may lie before the archive, not in it.
    end, size, offset = _in_zip64(file, start + at) or (start + at, size, offset)
    if disk not in (0, 0xFFFF):
        raise DamagedArchiveError("one part of an archive in several files: join them.")
    if not 0 <= end - size - offset <= length:
        raise DamagedArchiveError(f"damaged: its directory of {size} bytes cannot begin at byte {offset}.")
    return end - size, size, end - size - offset


def _find_end(tail: bytes) -> int:
    """Find the record at the end: the last whose comment ends with the file, or else the last; -1 if none."""
    last = at = tail.rfind(b"PK\x05\x06", 0, len(tail) - _END.size + 4)
    while at >= 0:
        *_, n_comment = _END.unpack_from(tail, at)
        if at + _END.size + n_comment == len(tail):
            return at
        at = tail.rfind(b"PK\x05\x06", 0, at)
    return last


def _in_zip64(file: BinaryIO, end: int) -> tuple[int, int, int] | None:
    """Read end, size and offset of the directory of an archive of more than 4 GiB or 65,535 members; None of others."""
    at = end - _LOCATOR.size
    if at < _END_64.size:
        return None
    file.seek(at)
    signature, claimed = _LOCATOR.unpack(file.read(_LOCATOR.size))
    if signature != b"PK\x06\x07":
        return None
    for place in (at - _END_64.size, claimed):  # the second, where the record is a longer one
        if not 0 <= place <= at - _END_64.size:
            continue
        file.seek(place)
        signature, size, offset = _END_64.unpack(file.read(_END_64.size))
        if signature == b"PK\x06\x06":
            return place, size, offset
    return None


def _in_full(numbers: tuple[int, int, int], extra: bytes) -> tuple[int, ...]:
    """Take those of size, packed size and offset that need more than 32 bits from the extra field, in that order."""
    # Zip64's field is of kind 1, and has 8 bytes for each number that needs it, nothing for the others.
    wide = _extra_field(extra, 1)
    found = []
    for number in numbers:
        if number == _IN_EXTRA and len(wide) >= 8:
            [number], wide = struct.unpack("<Q", wide[:8]), wide[8:]
        found.append(number)
    return tuple(found)


def _extra_field(extra: bytes, wanted: int) -> bytes:
    """Find the data of the first extra field of this kind, or none."""
    while len(extra) >= 4:
        kind, length = struct.unpack("<2H", extra[:4])
        if kind == wanted:
            return extra[4 : 4 + length]
        extra = extra[4 + length :]
    return b""


def _decode(name: bytes, flags: int) -> str:
    """Decode a member's name: UTF-8 if its flags say so, or it happens to be that, as on macOS; else code page 437.

    Bytes of a name that should be UTF-8 and is not are kept, as everywhere in Python.
    """
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("utf-8", "surrogateescape") if flags & _UTF8 else name.decode("cp437")
