"""Files that are not read again: what changed is noticed, whatever the times of the file say."""

import mmap
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from store_helpers import filled, key

from frofa import FeatureStore, FrozenFeatureExtractor
from frofa.extraction.lookup import KnownFiles
from frofa.store.file_digests import SETTLED, STATUS, UNKNOWN_LAG, UNSAMPLED, SeenFile
from frofa.utils.blocks import BLOCK_BYTES, sample

LARGE = 10 * BLOCK_BYTES


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return filled(tmp_path / "store", range(1))


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that a test has just made count as old."""
    monkeypatch.setattr("frofa.store.file_digests.SETTLED", -1e6)


def remember(store: FeatureStore, *paths: Path) -> None:
    digests = {i: key(i) for i in range(len(paths))}
    KnownFiles(store, paths).remember(digests, {i: sample(path.read_bytes()) for i, path in enumerate(paths)})
    assert known(store, *paths) == [key(i) for i in range(len(paths))]


def known(store: FeatureStore, *paths: Path) -> list[str | None]:
    found = KnownFiles(store, paths).digests
    return [found.get(i) for i in range(len(paths))]


def seen(path: Path) -> SeenFile:
    file = SeenFile.look(path)
    assert file is not None
    return file


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize(
    ("size", "position"),
    [
        *((3 * BLOCK_BYTES, position) for position in range(0, 3 * BLOCK_BYTES, 1111)),
        *(
            (1, 0),
            (3 * BLOCK_BYTES + 1, 3 * BLOCK_BYTES),
            (LARGE, 0),
            (LARGE, BLOCK_BYTES - 1),
            (LARGE, LARGE // 2),
            (LARGE, LARGE - 1),
        ),
    ],
)
def test_a_write_through_a_map_that_is_open(size: int, position: int, store: FeatureStore, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(bytes(size))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[:] = size * b"a"
        remember(store, path)
        before = os.stat(path)  # noqa: PTH116
        mapped[position] = ord("b")
        if os.stat(path) != before:  # noqa: PTH116
            pytest.skip("this system changes a file's times with each write through a map")
        assert known(store, path) == [None]
        mapped[position] = ord("a")
        assert known(store, path) == [key(0)]


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("field", STATUS.values())
def test_every_field_of_the_status_counts(field: str, store: FeatureStore, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"content")
    remember(store, path)
    file = seen(path)
    fields = {name: getattr(file.status, name) for name in STATUS.values()}
    for change in (0, 1):
        status: Any = SimpleNamespace(**{**fields, field: fields[field] + change})
        expected = None if change else key(0)
        assert store.file_digests().find([replace(file, status=status)]) == [expected]


def rewritten(path: Path) -> None:
    times = path.stat()
    path.write_bytes(bytes(path.stat().st_size))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def copied_over(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(bytes(path.stat().st_size))
    times = path.stat()
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    shutil.copy2(other, path)


def moved_over(path: Path) -> None:
    other = path.with_name("other")
    shutil.copy2(path, other)
    rewritten(other)
    other.replace(path)


def made_again(path: Path) -> None:
    times, size = path.stat(), path.stat().st_size
    path.unlink()
    path.write_bytes(bytes(size))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def linked_elsewhere(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(bytes(path.stat().st_size))
    path.unlink()
    path.symlink_to(other)


CHANGES: dict[str, Callable[[Path], None]] = {
    "written, times restored": rewritten,
    "copied over with its times": copied_over,
    "moved over with its times": moved_over,
    "deleted and made again": made_again,
    "a link to another file": linked_elsewhere,
}


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("size", [100, LARGE])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_other_content_at_the_path(
    change: Callable[[Path], None], size: int, store: FeatureStore, tmp_path: Path
) -> None:
    path = tmp_path / "image"
    path.write_bytes(size * b"a")
    remember(store, path)
    change(path)
    assert path.stat().st_size == size
    assert known(store, path) == [None]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory at which another file system can be mounted."""
    place = tmp_path / "place"
    place.mkdir()
    yield place
    while shutil.which("umount") and not subprocess.run(["umount", "-l", place], capture_output=True).returncode:
        pass


@pytest.mark.usefixtures("settled")
def test_another_file_system_at_the_path(place: Path, store: FeatureStore) -> None:
    path = place / "image"
    for content in (b"a", b"b"):
        if not shutil.which("mount"):
            pytest.skip("needs mount")
        done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], capture_output=True)
        if done.returncode:
            pytest.skip(f"no mount is allowed: {done.stderr.decode().strip()}")
        path.write_bytes(content)
        os.utime(path, (1, 1))
        assert known(store, path) == [None]
        remember(store, path)


def test_a_file_that_changed_just_before_it_was_read_is_read_again(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"a")
    os.utime(path, (1, 1))  # its time of change is that of now
    file, digests = seen(path), store.file_digests()
    changed = file.status.st_ctime
    for lag, device, after, remembered in (
        (0.0, file.status.st_dev, 1.0, False),
        (0.0, file.status.st_dev, SETTLED + 0.1, True),
        (5.0, file.status.st_dev, SETTLED + 0.1, False),  # its clock is behind
        (5.0, file.status.st_dev, SETTLED + 5.1, True),
        (0.0, file.status.st_dev + 1, SETTLED + 0.1, False),  # nobody knows whether its clock is behind
        (0.0, file.status.st_dev + 1, SETTLED + UNKNOWN_LAG + 0.1, True),
    ):
        monkeypatch.setattr("frofa.store.file_digests.clock_behind", lambda _, found=(device, lag): found)
        digests.remember([file], [key(0)], [sample(b"a")], changed + after)
        assert digests.find([file]) == [key(0) if remembered else None]
        shutil.rmtree(digests.directory, ignore_errors=True)


@pytest.mark.usefixtures("settled")
def test_a_file_that_changes_while_it_is_read_is_not_remembered(store: FeatureStore, tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_bytes(b"a")
    before = KnownFiles(store, paths)
    paths[0].write_bytes(b"b")
    before.remember({0: key(0), 1: key(1)}, {0: sample(b"a"), 1: sample(b"a")})
    assert known(store, *paths) == [None, key(1)]


@pytest.mark.usefixtures("settled")
def test_odd_files(store: FeatureStore, tmp_path: Path) -> None:
    old, future, empty, fifo = (tmp_path / name for name in ("old", "future", "empty", "fifo"))
    for path, when in ((old, -1e9), (future, 2**33), (empty, 0)):
        path.write_bytes(b"" if path == empty else b"a")
        os.utime(path, (when, when))
    if hasattr(os, "mkfifo"):
        os.mkfifo(fifo)  # which nobody writes to: opening it would wait for ever
    remember(store, old, empty)
    assert known(store, old, tmp_path, fifo, tmp_path / "nothing", Path("a\0b"), empty) == [key(0), *4 * [None], key(1)]
    KnownFiles(store, [future]).remember({0: key(0)}, {0: sample(b"a")})


def test_tables_without_samples_are_not_read(store: FeatureStore, tmp_path: Path) -> None:
    old = store.path / UNSAMPLED
    old.mkdir()
    (old / "00000000-0123456789abcdef.npy").write_bytes(b"of another version")
    assert known(store, tmp_path / "image") == [None]
    assert store.verify() == []
    store.compact()
    assert not old.exists()


def test_the_same_features_as_without_a_store(small_vit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a sample misses, a large file changed elsewhere through an open map, is found by `rehash`."""
    monkeypatch.setattr("frofa.store.file_digests.SETTLED", -1e6)
    path, size = tmp_path / "image.bmp", 8 * BLOCK_BYTES
    pixels = np.zeros((128, 128, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    assert path.stat().st_size > size

    def extracted(**options: Any) -> Any:
        return FrozenFeatureExtractor(small_vit, output="mean", device="cpu", **options).transform([path])

    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[0:1] = mapped[0:1]
        mapped[2 * BLOCK_BYTES] = 0
        before = extracted(store=tmp_path / "store")
        mapped[2 * BLOCK_BYTES : 3 * BLOCK_BYTES] = BLOCK_BYTES * b"\xff"
        np.testing.assert_array_equal(extracted(store=tmp_path / "store", rehash=True), extracted())
        mapped[100:BLOCK_BYTES] = (BLOCK_BYTES - 100) * b"\xff"
        np.testing.assert_array_equal(extracted(store=tmp_path / "store"), extracted())
        assert not np.array_equal(extracted(), before)
