"""frofa.images.archives.tar: headers of tar archives, whole, odd and tampered."""

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from archive_helpers import PNG

from frofa import load_images
from frofa.images.archives import tar
from frofa.images.items import describe
from frofa.images.reading import content


def header(name: str, kind: bytes = b"0", size: int = 0, more: int | None = None) -> bytes:
    """One of any size and kind with its right checksum; `more` is a byte to set, as a sparse file's are."""
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    block[156:157] = kind
    block[124:136] = (b"\x80" if size >= 0 else b"\xff") + (size % 256**11).to_bytes(11, "big")
    if more is not None:
        block[more] = 1
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def member(name: str, data: bytes = PNG) -> bytes:
    return header(name, b"0", len(data)) + padded(data)


def extended(kind: bytes, data: bytes) -> bytes:
    return header("extended", kind, len(data)) + padded(data)


def record(key: str, value: str) -> bytes:
    length = len(f" {key}={value}\n")
    while len(f"{length} {key}={value}\n") != length:
        length += 1
    return f"{length} {key}={value}\n".encode()


def write(path: Path, *parts: bytes) -> Path:
    path.write_bytes(b"".join(parts) + bytes(1024))
    return path


def read_all(archive: Path) -> dict[str, str]:
    """What happens to each member of an archive: its error, or ``"read"``."""
    found = {}
    for item in load_images(archive, labels=False).items:
        name = describe(item).partition("!/")[2]
        try:
            assert content(item)[0] == PNG
            found[name] = "read"
        except OSError as error:
            found[name] = str(error)
    return found


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_that_tarfile_finds(layout: int, tmp_path: Path) -> None:
    names = ["a.png", "größe/b.png"]
    if layout != tarfile.USTAR_FORMAT:
        names += [f"{'x' * 90}/{'y' * 90}/c.png", f"{'z' * 200}.png"]
    path = tmp_path / "some.tar"
    with tarfile.open(path, "w", format=layout, pax_headers={"comment": "of all"}) as opened:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(PNG)
            opened.addfile(info, io.BytesIO(PNG))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, names[-1]
        opened.addfile(link)
        folder = tarfile.TarInfo("folder/")
        folder.type = tarfile.DIRTYPE
        opened.addfile(folder)
    with tarfile.open(path) as opened:
        expected = [(info.name, info.linkname, info.offset_data, info.size, info.type) for info in opened]
    assert [entry[:5] for entry in tar.walk(path)] == expected
    assert read_all(path) == dict.fromkeys([*sorted(names), "link.png"], "read")


@pytest.mark.skipif(shutil.which("tar") is None, reason="takes GNU tar")
@pytest.mark.parametrize("form", ["gnu", "pax --sparse-version=0.1", "pax --sparse-version=1.0"])
def test_sparse_files_cannot_be_read_and_cost_themselves(form: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    with (tmp_path / "holes.png").open("wb") as file:
        for _ in range(30):  # more than a header has room for
            file.write(b"x" * 4096)
            file.seek(1 << 16, os.SEEK_CUR)
        file.write(PNG)
    (tmp_path / "last.png").write_bytes(PNG)
    command = ["tar", "-S", *f"--format={form}".split(), "-cf", "all.tar", "a.png", "holes.png", "last.png"]
    if subprocess.run(command, cwd=tmp_path, capture_output=True).returncode:
        pytest.skip("this tar has no sparse files")
    found = read_all(tmp_path / "all.tar")
    assert found == {"a.png": "read", "holes.png": "a sparse file, which cannot be read in place", "last.png": "read"}


@pytest.mark.parametrize(
    ("kind", "size"), [(b"0", -512), (b"x", -512), (b"0", 2**62), (b"x", 2**62), (b"L", 2**70), (b"Z", 10_000)]
)
def test_a_member_that_is_not_within_the_file_is_an_error(kind: bytes, size: int, tmp_path: Path) -> None:
    path = write(tmp_path / "evil.tar", member("first.png"), header("second.png", kind, size))
    with pytest.raises(ValueError, match=rf"evil.tar is damaged: at byte 1024, a member of {size} bytes begins"):
        load_images(path)


def test_a_size_in_a_pax_header_is_checked_too(tmp_path: Path) -> None:
    path = write(tmp_path / "evil.tar", member("a.png"), extended(b"x", record("size", "-512")), member("b.png"))
    with pytest.raises(ValueError, match=r"evil.tar is damaged: at byte 2048, a member of -512 bytes"):
        load_images(path)
    path = write(tmp_path / "global.tar", extended(b"g", record("size", "-512")), member("a.png"))
    assert read_all(path) == {"a.png": "read"}


def test_headers_that_extend_others_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "long.tar"
    with path.open("wb") as file:
        file.write(header("pax", b"x", 1 << 30))
        file.truncate((1 << 30) + 2048)
    with pytest.raises(ValueError, match=r"long.tar is damaged: at byte 0, a PAX header of 1073741824 bytes"):
        load_images(path)


@pytest.mark.parametrize(
    ("parts", "names"),
    [
        ([extended(b"x", record("comment", "?"))] * 3000, ["a.png", "b.png"]),
        ([extended(b"L", b"c.png\0")] * 3000, ["a.png", "c.png"]),
        ([extended(b"K", b"away\0"), extended(b"x", record("path", "d.png"))], ["a.png", "d.png"]),
    ],
)
def test_chains_of_headers_end(parts: list[bytes], names: list[str], tmp_path: Path) -> None:
    path = write(tmp_path / "chain.tar", member("a.png"), *parts, member("b.png"))
    assert read_all(path) == dict.fromkeys(names, "read")


@pytest.mark.parametrize("data", [b"0 path=x\n", b"-9 path=x\n", b"99 path=x\n", b"path=x\n", b"14 size=many\n"])
def test_a_damaged_pax_header_costs_its_member(data: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "odd.tar", member("a.png"), extended(b"x", data), member("b.png"), member("c.png"))
    assert read_all(path) == {"a.png": "read", "b.png": "its PAX header is damaged", "c.png": "read"}


def test_maps_of_sparse_files_are_not_followed(tmp_path: Path) -> None:
    keys = "".join(record(f"GNU.sparse.{key}", value).decode() for key, value in [("major", "1"), ("name", "s.png")])
    endless = extended(b"x", keys.encode()) + member("x", b"99999999999\n")
    chain = header("t.png", b"S", more=482) + (bytes(504) + b"\1" + bytes(7)) * 100
    found = read_all(write(tmp_path / "sparse.tar", member("a.png"), endless, chain))
    assert found["a.png"] == "read"
    assert found["s.png"] == found["t.png"] == "a sparse file, which cannot be read in place"
