"""A disk that is full at any moment: a clear error, nothing half-written, and a later run that completes."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from store_helpers import (
    SPEC,
    STEP,
    Act,
    Child,
    Faults,
    assert_holds,
    features,
    filled,
    forks,
    full,
    full_once,
    key,
    keys,
    snapshot,
)

from frofa import FeatureStore

N = 10
OPERATIONS: dict[str, Callable[[FeatureStore], object]] = {
    "first write": lambda store: store.put(SPEC, keys(range(N)), features(range(N))),
    "write": lambda store: store.put(SPEC, keys(range(6, N)), features(range(6, N))),
    "compact": lambda store: store.compact(),
    "repair": lambda store: store.repair(),
    "index": lambda store: store.table(SPEC).write_index(),
}


@pytest.fixture(autouse=True)
def small_and_unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr("frofa.store.disk.table.LOOSE_ROWS", 0)
    monkeypatch.setattr("frofa.store.maintenance.compact.SHARD_BYTES", 4 * 24)


def start(path: Path, name: str) -> int:
    """What is there before; returns the number of images that it has, of which a repair finds one damaged."""
    shutil.rmtree(path, ignore_errors=True)
    if name == "first write":
        return 0
    filled(path, range(3), range(3, 6))
    if name == "repair":
        file = max(path.glob("*/shards/*/features.npy"))
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        return 5
    return 6


@forks
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::frofa.exceptions.StoreNotWrittenWarning")
@pytest.mark.parametrize("act", [full, full_once])
@pytest.mark.parametrize("name", OPERATIONS)
def test_full_at_every_call_of_the_system(name: str, act: Act, tmp_path: Path) -> None:
    path, failures = tmp_path / "store", 0
    for at in range(1, 10_000, STEP):
        before = start(path, name)

        def work(report: Callable[[int], None], at: int = at) -> None:
            faults = Faults(at, act, removals=False)
            OPERATIONS[name](FeatureStore(path))
            report(int(faults.fired))

        status, reported, error = Child(work).wait()
        if reported == [0]:
            break
        store = FeatureStore(path)
        if status:
            assert (status, "No space left on device" in error) == (3, True), error
            failures += 1
        elif act is full:  # what failed is the index, which nothing depends on
            assert name.endswith("write")
            assert store.missing(SPEC, keys(range(0 if name == "first write" else 6, N))) == []
        assert not list(path.rglob(".tmp-*"))  # room was not even left for what is half-written
        if name != "repair":
            assert store.verify() == []
        absent = store.missing(SPEC, keys(range(N)))
        assert_holds(store, [i for i in range(N) if key(i) not in absent and (name, i) != ("repair", 5)])
        assert not set(absent) & set(keys(range(before)))
        store.repair()
        OPERATIONS[name](store)
        assert store.verify() == []
        absent = store.missing(SPEC, keys(range(N)))
        store.put(SPEC, absent, features([i for i in range(N) if key(i) in absent]))
        store.compact()
        assert store.verify() == []
        assert_holds(store, range(N))
    assert failures > 0


def test_the_error_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path / "store", range(3))
    before = snapshot(store.path)

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(OSError, match=r"cannot write it: No space left on device: '.*store"):
        store.put(SPEC, keys([3]), features([3]))
    assert snapshot(store.path) == before


def test_a_batch_that_did_not_fit_can_be_added_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeatureStore(tmp_path / "store")
    committed: list[int] = []
    with store.writer(SPEC, committed.append) as writer:
        writer.add(keys([0]), features([0]))
        with monkeypatch.context() as patch:
            patch.setattr("pathlib.Path.rename", lambda *_: full(None))  # type: ignore[arg-type]
            with pytest.raises(OSError, match="No space left"):
                writer.commit()
        assert committed == []
        writer.add(keys([1]), features([1]))
    assert_holds(store, range(len(store.missing(SPEC, [key(0)])), 2))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB, where mounting one is allowed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs mount")
    if done.returncode:
        pytest.skip(f"no mount is allowed: {done.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_real_disk_that_is_full(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frofa.store.maintenance.compact.SHARD_BYTES", 2**30)
    store = FeatureStore(small_disk / "store")
    done: list[int] = []
    big = np.ones((64, 2, 300), np.float32)  # 150 KiB

    def fill() -> None:
        for start in range(0, 64 * 20, 64):
            store.put(SPEC, keys(range(start, start + 64)), big * start)
            done.append(start)

    with pytest.raises(OSError, match=r"cannot write it: No space left on device"):
        fill()
    assert 3 < len(done) < 8
    assert not list(small_disk.rglob(".tmp-*"))
    assert store.verify() == []
    for start in done:
        np.testing.assert_array_equal(store.get(SPEC, keys(range(start, start + 64))), big * start)
    with pytest.raises(OSError, match="No space left on device"):
        store.compact()
    assert store.verify() == []
    assert store.missing(SPEC, keys(range(64 * len(done)))) == []
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    store.put(SPEC, keys([9999]), big[:1] * 7)
    store.compact()
    assert store.verify() == []
    for start in done:
        np.testing.assert_array_equal(store.get(SPEC, keys(range(start, start + 64))), big * start)
    np.testing.assert_array_equal(store.get(SPEC, keys([9999])), big[:1] * 7)
