"""Images in zip and tar archives, read where they lie: nothing is unpacked.

Listing an archive reads its headers, and is an error if they are damaged. What is wrong with one member is that one's
error, when it is read.
"""

import io
import os
import posixpath
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

from frofa.images.archives import tar
from frofa.images.archives import zip as zip_archive
from frofa.images.archives.damaged import DamagedArchiveError
from frofa.images.items import LazyImage
from frofa.images.pixels.budget import refuse_large
from frofa.utils.progress import progress_bar

COMPRESSED_TAR = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
_MAGIC = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstandard"}
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_CHUNK = 1 << 20
"""Bytes that are decompressed at a time."""


@dataclass(frozen=True, slots=True)
class ArchiveMember(LazyImage):
    """A file in an archive: the archive's path, and the member's name in it."""

    archive: str
    name: str

    def describe(self) -> str:
        """Name the member by archive and name, such as ``photos.zip!/cats/1.jpg``."""
        return f"{self.archive}!/{self.name}"

    def read(self) -> bytes:
        """Return the member's bytes, decompressed.

        An OSError says that it is damaged, of a kind that cannot be read, or larger than `largest_file`.
        """
        refuse_large(self.n_bytes)
        with Path(self.archive).open("rb") as file:
            return self._read_from(file)

    def _read_from(self, file: BinaryIO) -> bytes:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class TarMember(ArchiveMember):
    """A file in a tar archive: `size` bytes from `offset` on."""

    offset: int
    size: int

    @property
    def n_bytes(self) -> int:
        """Bytes that `read` brings into memory."""
        return self.size

    def _read_from(self, file: BinaryIO) -> bytes:
        _go_to(file, self.offset, self.size)
        return file.read(self.size)


@dataclass(frozen=True, slots=True)
class ZipMember(ArchiveMember):
    """A file in a zip archive: its header at `offset`, then `packed` bytes, which become `size` bytes with this CRC."""

    offset: int
    size: int
    packed: int
    crc: int

    @property
    def n_bytes(self) -> int:
        """Bytes that `read` brings into memory."""
        return self.size

    def _read_from(self, file: BinaryIO) -> bytes:
        method = self._go_to_data(file)
        if method == zipfile.ZIP_DEFLATED:
            data = self._inflate(file)
        elif method == zipfile.ZIP_STORED:
            data = file.read(min(self.packed, self.size))
        else:
            raise OSError(f"compressed by zip's method {method}; only stored and deflated members can be read")
        if len(data) != self.size or zlib.crc32(data) != self.crc:
            raise OSError("damaged in the archive: its checksum is wrong")
        return data

    def _go_to_data(self, file: BinaryIO) -> int:
        """Go to the packed bytes, behind the member's header; return the method by which they are packed."""
        _go_to(file, self.offset, _LOCAL_HEADER.size)
        # Sizes and checksum are those of the directory: in a header that was written before the data, they are zero.
        signature, _, flags, method, *_, n_name, n_extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        if signature != b"PK\x03\x04":
            raise OSError("the archive has no member where its directory says so: damaged or changed")
        if flags & 1:
            raise OSError("encrypted")
        _go_to(file, self.offset + _LOCAL_HEADER.size + n_name + n_extra, self.packed)
        return int(method)

    def _inflate(self, file: BinaryIO) -> bytes:
        """Decompress chunk by chunk, and stop where the data become more than the member says to be."""
        data, left = io.BytesIO(), self.packed
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            while left and not inflater.eof:
                packed = file.read(min(left, _CHUNK))
                left = left - len(packed) if packed else 0
                # A chunk of packed bytes may become a thousand times as many: they come out piece by piece.
                while packed:
                    data.write(inflater.decompress(packed, _CHUNK))
                    if data.tell() > self.size:
                        raise OSError(f"damaged in the archive: it has more than the {self.size} bytes that it says")
                    packed = inflater.unconsumed_tail
            data.write(inflater.flush())
        except zlib.error as error:
            raise OSError(f"damaged in the archive: {error}") from error
        return data.getvalue()


def _go_to(file: BinaryIO, offset: int, n_bytes: int) -> None:
    """Go to an offset, behind which the file must have so many bytes."""
    if offset + n_bytes > os.fstat(file.fileno()).st_size:
        raise OSError("the archive ends within it, or before: damaged or changed")
    file.seek(offset)


@dataclass(frozen=True, slots=True)
class MissingMember(ArchiveMember):
    """A name in a table or a link that is no readable file in the archive; to read it is an OSError of this reason."""

    reason: str

    def read(self) -> bytes:
        """Raise the OSError."""
        raise OSError(self.reason)


Members: TypeAlias = dict[str, ArchiveMember]


def list_archive(archive: Path) -> Members:
    """List the files of a zip or tar archive by name, in its order; of two with one name, the later.

    A ValueError says that it is damaged, or a compressed tar archive.
    """
    try:
        return _list_zip(archive) if archive.suffix.lower() == ".zip" else _list_tar(archive)
    except DamagedArchiveError as error:
        raise ValueError(f"{archive} is {error}") from error


def _list_zip(archive: Path) -> Members:
    path = str(archive)
    return {
        entry.name: ZipMember(path, entry.name, entry.offset, entry.size, entry.packed, entry.crc)
        for entry in zip_archive.walk(archive)
        if not entry.name.endswith("/")
    }


def _list_tar(archive: Path) -> Members:
    _refuse_compressed(archive)
    path = str(archive)
    members: Members = {}
    links: list[tar.TarEntry] = []
    options = {"desc": f"index {archive.name}", "unit": "file", "delay": 2, "leave": False}
    for entry in progress_bar(tar.walk(archive), shown=None, **options):
        if entry.fault:
            members[entry.name] = MissingMember(path, entry.name, entry.fault)
        elif entry.kind in (tarfile.LNKTYPE, tarfile.SYMTYPE):
            links.append(entry)
        elif entry.kind in tarfile.REGULAR_TYPES:
            members[entry.name] = TarMember(path, entry.name, entry.offset, entry.size)
    # A link may come before the file that it leads to.
    for link in links:
        members[link.name] = _follow(link, members, path)
    return members


def _refuse_compressed(archive: Path) -> None:
    with archive.open("rb") as file:
        kind = _MAGIC.get(file.read(2))
    if kind is not None or archive.name.lower().endswith(COMPRESSED_TAR):
        raise ValueError(
            f"{archive} is a tar archive compressed by {kind or 'some method'}, whose members cannot be read one by "
            "one. Decompress it to a .tar file (gunzip, unxz, ...), or use a zip archive; images hardly get smaller."
        )


def _follow(link: tar.TarEntry, members: Members, archive: str) -> ArchiveMember:
    """Find the file that a link in a tar archive leads to, and give it the link's name."""
    target = link.link
    if link.kind == tarfile.SYMTYPE:
        # A symbolic link counts from its own directory, a hard one from the root of the archive.
        target = posixpath.normpath(posixpath.join(posixpath.dirname(link.name), target))
    found = members.get(target)
    if isinstance(found, TarMember):
        return TarMember(archive, link.name, found.offset, found.size)
    return MissingMember(archive, link.name, f"a link to {link.link}, which the archive does not hold as a file")
