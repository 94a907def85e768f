"""frofa.images.archives.members: images in zip and tar archives, read where they lie."""

import pickle
import struct
import tarfile
import tracemalloc
import zipfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest
from archive_helpers import PNG, add_bytes, members_of
from PIL import Image

from frofa import load_images
from frofa.images.archives import zip as zip_archive
from frofa.images.archives.members import ZipMember
from frofa.images.folders import load_image_folder
from frofa.images.items import describe
from frofa.images.reading import content


def zip_folder(folder: Path, archive: Path, method: int = zipfile.ZIP_DEFLATED, prefix: str = "") -> Path:
    with zipfile.ZipFile(archive, "w", method) as opened:
        for file in sorted(folder.rglob("*"), reverse=True):
            opened.write(file, prefix + file.relative_to(folder).as_posix())
    return archive


def tar_folder(folder: Path, archive: Path, mode: str = "w", prefix: str = "") -> Path:
    with tarfile.open(archive, mode, format=tarfile.GNU_FORMAT) as opened:  # type: ignore[call-overload]
        opened.add(folder, prefix or ".")
    return archive


@pytest.fixture(params=["stored.zip", "deflated.zip", "plain.tar", "nested.zip", "nested.tar"])
def archive(request: pytest.FixtureRequest, image_folder: Path, tmp_path: Path) -> Path:
    """`image_folder` as an archive: at the top, or one directory further down."""
    path = tmp_path / request.param
    prefix = "images" if "nested" in path.name else ""
    if path.suffix == ".tar":
        return tar_folder(image_folder, path, prefix=prefix)
    method = zipfile.ZIP_STORED if "stored" in path.name else zipfile.ZIP_DEFLATED
    return zip_folder(image_folder, path, method, prefix=prefix and f"{prefix}/")


def test_an_archive_is_as_the_folder(archive: Path, image_folder: Path) -> None:
    paths, labels = load_image_folder(image_folder)
    images = load_images(archive)
    assert images.labels is not None
    assert images.labels.tolist() == labels.tolist()
    assert [content(item) for item in images.items] == [content(path) for path in paths]
    ends = [Path(path).relative_to(image_folder).as_posix() for path in paths]
    assert all(
        name.startswith(f"{archive}!/") and name.endswith(end) for name, end in zip(images.names, ends, strict=True)
    )
    assert load_images(archive, labels=False).labels is None


def test_members_are_read_from_any_thread_or_process(archive: Path) -> None:
    items = load_images(archive).items
    expected = [content(item)[1] for item in items]
    assert [content(pickle.loads(pickle.dumps(item)))[1] for item in items] == expected  # noqa: S301 (our own)
    with ThreadPoolExecutor(4) as threads:
        assert [digest for _, digest in threads.map(content, items)] == expected
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        assert [digest for _, digest in processes.map(content, items)] == expected


def test_hidden_files_and_others_are_left_out(image_folder: Path, tmp_path: Path) -> None:
    path = zip_folder(image_folder / "red", tmp_path / "red.zip")
    with zipfile.ZipFile(path, "a") as opened:
        for name in ("__MACOSX/._0.jpg", ".hidden/0.jpg", ".0.jpg", "readme.md", "sub/"):
            opened.writestr(name, b"")
    images = load_images(path)
    assert [name.partition("!/")[2] for name in images.names] == ["0.jpg", "1.png", "2.jpg", "3.png"]
    assert images.labels is None
    assert images.notes == ["1 file of other kinds ignored: .md (1)"]


def test_loose_files_beside_class_folders_are_said(image_folder: Path, tmp_path: Path) -> None:
    path = zip_folder(image_folder, tmp_path / "some.zip")
    with zipfile.ZipFile(path, "a") as opened:
        opened.writestr("loose.jpg", b"")
    images = load_images(path)
    assert len(images.items) == 12
    assert images.notes[0].startswith(f"1 file beside the class folders is ignored, such as {path}!/loose.jpg")


def test_a_table_chooses_among_the_members(archive: Path, tmp_path: Path) -> None:
    prefix = "images/" if "nested" in archive.name else "./" if archive.suffix == ".tar" else ""
    table = tmp_path / "labels.csv"
    table.write_text(f"path,label\n{prefix}red/1.png,a\n{prefix}blue/0.jpg,b\nabsent.png,c\n")
    images = load_images(archive, labels=table)
    assert images.labels is not None
    assert images.labels.tolist() == ["a", "b", "c"]
    assert [len(content(item)[1]) for item in images.items[:2]] == [40, 40]
    with pytest.raises(OSError, match=f"not in {archive}"):
        content(images.items[2])
    assert images.names[2] == f"{archive}!/absent.png"


def test_names_that_lead_out_of_an_archive_do_no_harm(image_folder: Path, tmp_path: Path) -> None:
    data = (image_folder / "red" / "1.png").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened_zip, tarfile.open(tmp_path / "a.tar", "w") as opened_tar:
        for name in ("../../out.png", "/etc/absolute.png"):
            opened_zip.writestr(zipfile.ZipInfo(name), data)
            add_bytes(opened_tar, name, data)
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        opened_tar.addfile(link)
    before = sorted(tmp_path.rglob("*"))
    for name in ("a.zip", "a.tar"):
        images = load_images(tmp_path / name, labels=False)
        found = {describe(item).partition("!/")[2]: item for item in images.items}
        assert content(found["../../out.png"])[0] == content(found["/etc/absolute.png"])[0] == data
    with pytest.raises(OSError, match="a link to /etc/hostname, which the archive does not hold"):
        content(found["link.png"])
    assert sorted(tmp_path.rglob("*")) == before


def test_links_within_a_tar_archive_are_followed(image_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "links.tar"
    data = (image_folder / "red" / "1.png").read_bytes()
    with tarfile.open(path, "w") as opened:
        add_bytes(opened, "a/1.png", data)
        for name, kind, target in (
            ("b/hard.png", tarfile.LNKTYPE, "a/1.png"),
            ("b/soft.png", tarfile.SYMTYPE, "../a/1.png"),
        ):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, target
            opened.addfile(link)
    images = load_images(path)
    assert [content(item)[0] for item in images.items] == [data] * 3
    assert images.names[1:] == [f"{path}!/b/hard.png", f"{path}!/b/soft.png"]


@pytest.mark.parametrize(
    ("mode", "name"), [("w:gz", "a.tar.gz"), ("w:gz", "a.tar"), ("w:xz", "a.tar.xz"), ("w:bz2", "a.tgz")]
)
def test_compressed_tar_archives_are_refused(mode: str, name: str, image_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"compressed by (gzip|xz|bzip2).*Decompress it"):
        load_images(tar_folder(image_folder, tmp_path / name, mode))


def test_damaged_archives_are_named(image_folder: Path, tmp_path: Path) -> None:
    whole = tar_folder(image_folder, tmp_path / "whole.tar").read_bytes()
    end = len(whole.rstrip(b"\0"))
    for start in (end - 700, end - 5000):  # within the last image, and some images before
        (tmp_path / "cut.tar").write_bytes(whole[:start])
        with pytest.raises(ValueError, match=r"cut.tar is (not a tar archive, or a damaged one|damaged)"):
            load_images(tmp_path / "cut.tar")
    members = load_images(tmp_path / "whole.tar", labels=False).items
    offset = max(item.offset for item in members) - 512  # type: ignore[union-attr]
    (tmp_path / "bad.tar").write_bytes(whole[:offset] + b"x" * 512 + whole[offset + 512 :])
    with pytest.raises(ValueError, match=r"bad.tar is damaged: after 1\d members, at byte \d+"):
        load_images(tmp_path / "bad.tar")
    for name in ("bad.zip", "no.tar"):
        (tmp_path / name).write_bytes(b"no archive" * 100)
        with pytest.raises(ValueError, match=f"{name} is not a"):
            load_images(tmp_path / name)


def test_an_archive_that_changes_is_noticed(image_folder: Path, tmp_path: Path) -> None:
    path = tar_folder(image_folder, tmp_path / "some.tar")
    item = load_images(path).items[0]
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(OSError, match="the archive ends within it"):
        content(item)
    path = zip_folder(image_folder, tmp_path / "some.zip")
    item = load_images(path).items[0]
    path.write_bytes(b"x" * 100_000)
    with pytest.raises(OSError, match="no member where its directory says so"):
        content(item)


@pytest.mark.parametrize(
    ("method", "damage"), [(zipfile.ZIP_STORED, "checksum"), (zipfile.ZIP_DEFLATED, "damaged in the")]
)
def test_a_damaged_member_is_one_error(method: int, damage: str, image_folder: Path, tmp_path: Path) -> None:
    path = zip_folder(image_folder, tmp_path / "some.zip", method)
    items = load_images(path).items
    data = bytearray(path.read_bytes())
    member = items[0]
    assert isinstance(member, ZipMember)
    data[member.offset + 60 : member.offset + 80] = bytes(range(20))
    path.write_bytes(data)
    with pytest.raises(OSError, match=damage):
        content(member)
    content(items[1])


def test_what_cannot_be_read_of_a_zip_archive_says_why(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zip_folder(image_folder / "red", tmp_path / "lzma.zip", zipfile.ZIP_LZMA)
    with pytest.raises(OSError, match="method 14; only stored and deflated"):
        content(load_images(path).items[0])
    path = zip_folder(image_folder / "red", tmp_path / "red.zip")
    member = load_images(path).items[0]
    assert isinstance(member, ZipMember)
    data = bytearray(path.read_bytes())
    data[member.offset + 6] |= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match="encrypted"):
        content(member)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    huge = replace(member, size=801)
    with pytest.raises(OSError, match="it has 801 bytes; more than 800 are not read"):
        content(huge)


def change_last_entry(archive: Path, at: int, data: bytes, at_member: int | None = None) -> Path:
    """Write into a zip archive's last entry of the directory, and perhaps into the header of its member."""
    changed = bytearray(archive.read_bytes())
    entry = changed.rfind(b"PK\x01\x02")
    [member] = struct.unpack_from("<L", changed, entry + 42)
    if at_member is not None:
        changed[member + at_member : member + at_member + len(data)] = data
    changed[entry + at : entry + at + len(data)] = data
    archive.write_bytes(changed)
    return archive


@pytest.mark.parametrize(
    ("at", "data", "at_member", "reason"),
    [
        (6, struct.pack("<H", 99), 4, None),  # the version that is said to be needed
        (10, struct.pack("<H", 99), 8, "method 99"),
        (8, struct.pack("<H", 0x41), 6, "encrypted"),
        (8, struct.pack("<H", 0x800), None, None),
        (16, b"\1\2\3\4", None, "checksum"),
        (20, struct.pack("<L", 2**31), None, "ends within it"),
        (24, struct.pack("<L", 30), None, "more than the 30 bytes that it says"),
        (24, struct.pack("<L", 700 << 20), None, "734003200 bytes; more than 715827880 are not read"),
        (42, struct.pack("<L", 2**32 - 2), None, "ends within it"),
        (42, struct.pack("<L", 0), None, None),  # two entries share their data
        (46, b"\xff.png", None, None),
    ],
)
def test_an_odd_member_of_a_zip_archive_costs_itself(
    at: int, data: bytes, at_member: int | None, reason: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "some.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("a.png", PNG)
        opened.writestr("b.png", PNG)
    items = load_images(change_last_entry(path, at, data, at_member), labels=False).items
    assert sorted(content(item)[0] == PNG for item in items if describe(item).endswith("a.png")) == [True]
    [odd] = (item for item in items if not describe(item).endswith("a.png"))
    if reason is None:
        assert content(odd)[0] == PNG
    else:
        with pytest.raises(OSError, match=reason):
            content(odd)


def test_names_of_zip_members_are_text(tmp_path: Path) -> None:
    path = tmp_path / "names.zip"
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("caf\u00e9/0.png", PNG)
    flagged = path.read_bytes()
    mac = tmp_path / "mac.zip"  # which writes UTF-8, but does not say so
    mac.write_bytes(flagged.replace(b"\x14\0\0\x08", bytes([0x14, 0, 0, 0])))
    assert mac.read_bytes() != flagged
    dos = tmp_path / "dos.zip"
    dos.write_bytes(mac.read_bytes().replace("caf\u00e9".encode(), b"caf\x82_"))
    wrong = tmp_path / "wrong.zip"
    wrong.write_bytes(flagged.replace("caf\u00e9".encode(), b"caf\x82_"))
    names = {file.stem: members_of(load_images(file)) for file in (path, mac, dos, wrong)}
    assert names == {
        "names": ["caf\u00e9/0.png"],
        "mac": ["caf\u00e9/0.png"],
        "dos": ["caf\u00e9_/0.png"],
        "wrong": ["caf\udc82_/0.png"],
    }


def test_zip_archives_as_zipfile_lists_them(tmp_path: Path) -> None:
    many = tmp_path / "many.zip"
    with zipfile.ZipFile(many, "w") as opened:
        for row in range(65_600):  # of which the directory's end can count 65,535
            opened.writestr(f"{row}.png", b"")
        opened.comment = b"a comment"
    wide = tmp_path / "wide.zip"
    with zipfile.ZipFile(wide, "w") as opened, opened.open("0.png", "w", force_zip64=True) as member:
        member.write(PNG)
    for archive in (many, wide):
        with zipfile.ZipFile(archive) as opened:
            expected = [(info.filename, info.header_offset, info.file_size) for info in opened.infolist()]
        assert [(entry.name, entry.offset, entry.size) for entry in zip_archive.walk(archive)] == expected
    behind = tmp_path / "behind.zip"
    behind.write_bytes(b"#!/bin/sh" * 100 + wide.read_bytes())
    assert [content(item)[0] for item in load_images(behind).items] == [PNG]


@pytest.mark.parametrize("keep", [0, 21, 100, -1, -30])
def test_a_zip_archive_without_its_directory_is_named(keep: int, image_folder: Path, tmp_path: Path) -> None:
    whole = zip_folder(image_folder, tmp_path / "whole.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:keep])
    with pytest.raises(ValueError, match=r"cut.zip is (not a zip archive|damaged)"):
        load_images(tmp_path / "cut.zip")


def test_what_a_member_decompresses_to_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("0.png", bytes(1 << 26))
    [honest] = load_images(path).items
    assert isinstance(honest, ZipMember)
    assert honest.n_bytes == 1 << 26
    for item, largest in ((replace(honest, size=1000), 2**31), (honest, 1 << 20)):
        tracemalloc.start()
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Image, "MAX_IMAGE_PIXELS", largest // 8)
                with pytest.raises(OSError, match=r"more than (the 1000 bytes that it says|1048576 are not read)"):
                    content(item)
            assert tracemalloc.get_traced_memory()[1] < 1 << 23
        finally:
            tracemalloc.stop()
