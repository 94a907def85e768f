"""Images in zip and tar archives, read where they lie: nothing is unpacked."""

import posixpath
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from frofa._progress import progress_bar
from frofa.images import LazyImage

COMPRESSED_TAR = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
LARGEST = 1 << 31
"""Bytes of the largest member that is decompressed."""
_MAGIC = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstandard"}
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class ArchiveMember(LazyImage):
    """A file in an archive.

    Attributes
    ----------
    archive, name : str
        The archive's path, and the member's name in it.
    """

    archive: str
    name: str

    def describe(self) -> str:
        """``photos.zip!/cats/1.jpg``."""
        return f"{self.archive}!/{self.name}"

    def read(self) -> bytes:
        """The member's bytes."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class TarMember(ArchiveMember):
    """A file in a tar archive: `size` bytes from `offset` on."""

    offset: int
    size: int

    def read(self) -> bytes:
        """The member's bytes."""
        with Path(self.archive).open("rb") as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) != self.size:
            raise OSError("the archive ends within it")
        return data


@dataclass(frozen=True, slots=True)
class ZipMember(ArchiveMember):
    """A file in a zip archive: its header at `offset`, then `packed` bytes, which become `size` bytes with this CRC."""

    offset: int
    size: int
    packed: int
    crc: int

    def read(self) -> bytes:
        """The member's bytes, decompressed and checked."""
        with Path(self.archive).open("rb") as file:
            file.seek(self.offset)
            header = file.read(_LOCAL_HEADER.size)
            if len(header) != _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
                raise OSError("the archive has no member where its directory says so: damaged or changed")
            _, _, flags, method, *_, n_name, n_extra = _LOCAL_HEADER.unpack(header)
            if flags & 1:
                raise OSError("encrypted")
            file.seek(n_name + n_extra, 1)
            data = file.read(self.packed)
        if method == zipfile.ZIP_DEFLATED:
            data = self._inflate(data)
        elif method != zipfile.ZIP_STORED:
            raise OSError(f"compressed by zip's method {method}; only stored and deflated members can be read")
        if len(data) != self.size or zlib.crc32(data) != self.crc:
            raise OSError("damaged in the archive: its checksum is wrong")
        return data

    def _inflate(self, data: bytes) -> bytes:
        if self.size > LARGEST:
            raise OSError(f"{self.size} bytes when decompressed; more than {LARGEST} are not read")
        try:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, self.size or 1)
        except zlib.error as error:
            raise OSError(f"damaged in the archive: {error}") from error


@dataclass(frozen=True, slots=True)
class MissingMember(ArchiveMember):
    """What a table or a link names, but the archive does not hold as a file."""

    reason: str

    def read(self) -> bytes:
        """Raises an OSError that says why it cannot be read."""
        raise OSError(self.reason)


Members: TypeAlias = dict[str, ArchiveMember]


def list_archive(archive: Path) -> Members:
    """The files of a zip or tar archive by name, in its order; of two with one name, the later.

    Raises
    ------
    ValueError
        If it is damaged, or a compressed tar archive.
    """
    return _list_zip(archive) if archive.suffix.lower() == ".zip" else _list_tar(archive)


def _list_zip(archive: Path) -> Members:
    try:
        with zipfile.ZipFile(archive) as opened:
            infos = [info for info in opened.infolist() if not info.is_dir()]
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive} is not a zip archive, or a damaged one: {error}") from error
    path = str(archive)
    return {
        info.filename: ZipMember(path, info.filename, info.header_offset, info.file_size, info.compress_size, info.CRC)
        for info in infos
    }


def _list_tar(archive: Path) -> Members:
    _refuse_compressed(archive)
    path = str(archive)
    members: Members = {}
    links: list[tarfile.TarInfo] = []
    end = 0
    try:
        with tarfile.open(archive, "r:") as opened:
            for info in progress_bar(
                opened, shown=None, desc=f"index {archive.name}", unit="file", delay=2, leave=False
            ):
                if info.islnk() or info.issym():
                    links.append(info)
                elif info.issparse():
                    members[info.name] = MissingMember(path, info.name, "a sparse file, which cannot be read in place")
                elif info.isreg():
                    members[info.name] = TarMember(path, info.name, info.offset_data, info.size)
                if not info.issparse():
                    stored = info.size if info.isreg() else 0
                    end = info.offset_data + -(-stored // _BLOCK) * _BLOCK
                opened.members = []  # type: ignore[attr-defined] # it would keep them all
    except tarfile.TarError as error:
        raise ValueError(f"{archive} is not a tar archive, or a damaged one: {error}") from error
    _refuse_damaged_end(archive, end, len(members))
    for info in links:
        members[info.name] = _follow(info, members, path)
    return members


def _refuse_compressed(archive: Path) -> None:
    with archive.open("rb") as file:
        kind = _MAGIC.get(file.read(2))
    if kind is not None or archive.name.lower().endswith(COMPRESSED_TAR):
        raise ValueError(
            f"{archive} is a tar archive compressed by {kind or 'some method'}, whose members cannot be read one by "
            "one. Decompress it to a .tar file (gunzip, unxz, ...), or use a zip archive; images hardly get smaller."
        )


def _refuse_damaged_end(archive: Path, end: int, n_members: int) -> None:
    """The reader takes a damaged header for the end; the real end is zeros, or the end of the file."""
    with archive.open("rb") as file:
        file.seek(end)
        if file.read(_BLOCK).strip(b"\0"):
            raise ValueError(f"{archive} is damaged: after {n_members} members, at byte {end}, there is no header.")


def _follow(link: tarfile.TarInfo, members: Members, archive: str) -> ArchiveMember:
    """The file that a link in a tar archive leads to, under the link's name."""
    target = link.linkname
    if link.issym():
        target = posixpath.normpath(posixpath.join(posixpath.dirname(link.name), target))
    found = members.get(target)
    if isinstance(found, TarMember):
        return TarMember(archive, link.name, found.offset, found.size)
    return MissingMember(archive, link.name, f"a link to {link.linkname}, which the archive does not hold as a file")
