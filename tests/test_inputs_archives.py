"""frofa.inputs.archives: images in zip and tar archives, read where they lie."""

import io
import json
import pickle
import tarfile
import zipfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from frofa import load_images
from frofa.images import content, describe, load_image_folder
from frofa.inputs.archives import ZipMember


def zip_folder(folder: Path, archive: Path, method: int = zipfile.ZIP_DEFLATED, prefix: str = "") -> Path:
    with zipfile.ZipFile(archive, "w", method) as opened:
        for file in sorted(folder.rglob("*"), reverse=True):
            opened.write(file, prefix + file.relative_to(folder).as_posix())
    return archive


def tar_folder(folder: Path, archive: Path, mode: str = "w", prefix: str = "") -> Path:
    with tarfile.open(archive, mode, format=tarfile.GNU_FORMAT) as opened:  # type: ignore[call-overload]
        opened.add(folder, prefix or ".")
    return archive


def add_bytes(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


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


def test_webdataset_layout(image_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "shard-000.tar"
    data = (image_folder / "red" / "1.png").read_bytes()
    with tarfile.open(path, "w") as opened:
        add_bytes(opened, "b/002.png", data)
        add_bytes(opened, "b/002.cls", b"7\n")
        add_bytes(opened, "b/002.txt", b"a caption")
        add_bytes(opened, "a/001.json", json.dumps({"label": "cat", "colour": "red"}).encode())
        add_bytes(opened, "a/001.seg.png", data)
        add_bytes(opened, "a/001.png", data)
        add_bytes(opened, "a/003.json", json.dumps({"width": 3}).encode())
        add_bytes(opened, "a/003.txt", b"dog")
        add_bytes(opened, "a/003.png", data)
        add_bytes(opened, "a/004.png", data)
    images = load_images(path)
    assert [name.partition("!/")[2] for name in images.names] == [
        "b/002.png",
        "a/001.seg.png",
        "a/001.png",
        "a/003.png",
        "a/004.png",
    ]
    assert images.labels is not None
    assert images.labels.tolist() == ["7", "cat", "cat", "dog", ""]
    coloured = load_images(path, label_column="colour").labels
    assert coloured is not None
    assert coloured.tolist() == ["7", "red", "red", "dog", ""]


def test_a_damaged_label_is_named(image_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "shard.tar"
    with tarfile.open(path, "w") as opened:
        add_bytes(opened, "001.png", (image_folder / "red" / "1.png").read_bytes())
        add_bytes(opened, "001.json", b"{")
    with pytest.raises(ValueError, match=r"cannot read the label .*shard.tar!/001.json"):
        load_images(path)


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


def test_what_cannot_be_read_of_a_zip_archive_says_why(image_folder: Path, tmp_path: Path) -> None:
    path = zip_folder(image_folder / "red", tmp_path / "lzma.zip", zipfile.ZIP_LZMA)
    with pytest.raises(OSError, match="method 14; only stored and deflated"):
        content(load_images(path).items[0])
    path = zip_folder(image_folder / "red", tmp_path / "bomb.zip")
    member = load_images(path).items[0]
    assert isinstance(member, ZipMember)
    huge = ZipMember(member.archive, member.name, member.offset, LARGEST + 1, member.packed, member.crc)
    with pytest.raises(OSError, match="more than 2147483648 are not read"):
        content(huge)
    data = bytearray(path.read_bytes())
    data[member.offset + 6] |= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match="encrypted"):
        content(member)
