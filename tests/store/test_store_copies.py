"""Features that are there several times, of which some copies are damaged: a whole one is kept."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from store_helpers import SPEC, STEP, Child, Faults, assert_holds, filled, forks, key, keys, kill

from frofa import FeatureStore

N = 6
BATCHES: dict[str, list[list[int]]] = {
    "twice": [[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]],
    "thrice": [[0, 1, 2], [2, 3, 4, 5], [5, 2]],
    "one each": [[0], [0], [1, 2, 3, 4, 5]],
    "the last of a shard": [[0, 1, 2, 3, 4, 5], [5]],
}


@pytest.fixture(autouse=True)
def small_and_unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr("frofa.store.maintenance.compact.SHARD_BYTES", 4 * 24)


def damage(shard: Path, row: int) -> None:
    """Change a byte of a feature."""
    file = shard / "features.npy"
    data = bytearray(file.read_bytes())
    start = data.index(b"\n") + 1
    data[start + 24 * row + 5] ^= 64
    file.write_bytes(data)


def shards(path: Path) -> list[Path]:
    return sorted(path.glob("*/shards/*"))


def damaged_store(path: Path, batches: list[list[int]], at: int, image: int, *, compacted: bool) -> FeatureStore:
    """A store with a shard for each batch, of which one has a damaged copy of an image.

    With `compacted`, that of the first batches was compacted before the others were written.
    """
    if compacted:
        filled(path, *batches[: at + 1]).compact()
        filled(path, *batches[at + 1 :])
        shard = next(one for one in shards(path) if one.name.startswith("a-") and image in held(one))
    else:
        filled(path, *batches)
        shard = shards(path)[at]
    damage(shard, held(shard).index(image))
    return FeatureStore(path)


def held(shard: Path) -> list[int]:
    """The images of a shard, row by row."""
    names = {key(i): i for i in range(N)}
    rows = np.load(shard / "rows.npy")["key"]
    return [names[row.tobytes().hex()] for row in rows]


def cases() -> list[tuple[list[list[int]], int, int]]:
    """For all stores, each copy of an image that is there again."""
    found = []
    for batches in BATCHES.values():
        written = [image for batch in batches for image in batch]
        found += [
            (batches, at, image) for at, batch in enumerate(batches) for image in batch if written.count(image) > 1
        ]
    return found


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize(("batches", "at", "image"), cases())
def test_compact_keeps_the_whole_copy(
    batches: list[list[int]], at: int, image: int, compacted: bool, tmp_path: Path
) -> None:
    if compacted and not any(image in batch for batch in batches[at + 1 :]):
        return  # the compaction before has dropped all other copies
    store = damaged_store(tmp_path / "store", batches, at, image, compacted=compacted)
    [damage] = store.verify()
    assert damage.n_lost == 0
    store.compact()
    assert store.verify() == []
    assert_holds(store, range(N))
    store.compact()
    assert_holds(FeatureStore(store.path), range(N))
    assert len(store.features(SPEC)) == N


@pytest.mark.parametrize(("batches", "at", "image"), cases())
def test_repair_keeps_the_whole_copy(batches: list[list[int]], at: int, image: int, tmp_path: Path) -> None:
    store = damaged_store(tmp_path / "store", batches, at, image, compacted=False)
    assert [damage.n_lost for damage in store.repair()] == [0]
    assert store.verify() == []
    assert_holds(store, range(N))
    store.compact()
    assert_holds(store, range(N))


def test_of_copies_that_are_all_damaged_one_stays_to_be_reported(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", range(3), range(2, N))
    for shard in shards(store.path):
        damage(shard, held(shard).index(2))
    store.compact()
    assert [damage.n_lost for damage in store.verify()] == [1]
    store.repair()
    assert store.missing(SPEC, keys(range(N))) == [key(2)]
    assert_holds(store, [i for i in range(N) if i != 2])


def test_two_shards_complete_each_other(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", range(N), range(N))
    for shard, image in zip(shards(store.path), (1, 4), strict=True):
        damage(shard, image)
    whole = store.path.with_name("again")
    shutil.copytree(store.path, whole)
    store.compact()
    assert store.verify() == []
    assert_holds(store, range(N))
    again = FeatureStore(whole)
    assert [damage.n_lost for damage in again.repair()] == [0, 0]
    assert_holds(again, range(N))


@forks
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("compacted", [False, True])
def test_a_killed_compaction_does_not_lose_it_either(compacted: bool, tmp_path: Path) -> None:
    path, template = tmp_path / "store", tmp_path / "template"
    damaged_store(template, BATCHES["the last of a shard"], 0, 5, compacted=compacted)
    for at in range(1, 1000, STEP):
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(template, path)

        def work(report: Callable[[int], None], at: int = at) -> None:
            Faults(at, kill)
            FeatureStore(path).compact()
            report(1)

        finished = Child(work).wait()[1]
        FeatureStore(path).compact()
        assert FeatureStore(path).verify() == []
        assert_holds(FeatureStore(path), range(N))
        if finished:
            break
    assert at > STEP
