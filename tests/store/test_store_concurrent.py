"""Processes that write, read, index and compact one store at the same time."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from store_helpers import KILLS, SPEC, Child, assert_holds, features, forks, key, keys

from frofa import FeatureStore

pytestmark = [forks, pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")]
N = 20 * KILLS


@pytest.fixture(autouse=True)
def small_and_unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch is a commit, and an index is written all the time."""
    monkeypatch.setattr("frofa.store.writer.COMMIT_SECONDS", 0.0)
    monkeypatch.setattr("frofa.store.disk.table.LOOSE_ROWS", 30)
    monkeypatch.setattr("frofa.store.maintenance.compact.SHARD_BYTES", 50 * 24)
    monkeypatch.setattr("os.fsync", lambda _: None)


def write(path: Path, seed: int) -> Callable[[Callable[[int], None]], None]:
    """Write all images in an order of its own, and report those that are done."""

    def work(report: Callable[[int], None]) -> None:
        store = FeatureStore(path)
        order = np.random.default_rng(seed).permutation(N).tolist()
        while order:
            batch, order = order[:5], order[5:]
            absent = store.missing(SPEC, keys(batch))
            new = [i for i in batch if key(i) in absent]
            with store.writer(SPEC) as writer:
                writer.add(keys(new), features(new))
            for i in batch:
                report(i)

    return work


def read(path: Path, stop: Path) -> Callable[[Callable[[int], None]], None]:
    """Read all the time: what was there once is there ever after, with the right values."""

    def work(report: Callable[[int], None]) -> None:
        store, seen = FeatureStore(path), set[int]()
        rng = np.random.default_rng(0)
        last, rounds = False, 0
        while not last:
            last, rounds = stop.exists(), rounds + 1
            if last or rng.random() < 0.2:
                store = FeatureStore(path)
            absent = set(store.missing(SPEC, keys(range(N))))
            now = {i for i in range(N) if key(i) not in absent}
            assert seen <= now, f"{len(seen - now)} features have vanished"
            seen = now
            if seen:
                some = rng.permutation(sorted(seen))[:40].tolist()
                lazy = store.features(SPEC, keys(some))
                np.testing.assert_array_equal(np.asarray(lazy), features(some))
                assert store.specs() == {SPEC.digest: SPEC}
        report(rounds)

    return work


def compact(path: Path, stop: Path) -> Callable[[Callable[[int], None]], None]:
    def work(report: Callable[[int], None]) -> None:
        rounds = 0
        while not stop.exists():
            FeatureStore(path).compact()
            rounds += 1
        report(rounds)

    return work


def verify(path: Path, stop: Path) -> Callable[[Callable[[int], None]], None]:
    def work(report: Callable[[int], None]) -> None:
        rounds = 0
        while not stop.exists():
            found = FeatureStore(path).verify()
            assert found == [], found
            rounds += 1
        report(rounds)

    return work


@pytest.mark.parametrize("n_writers", [2, 4])
def test_writers_readers_and_a_compaction_do_not_disturb_each_other(n_writers: int, tmp_path: Path) -> None:
    path, stop = tmp_path / "store", tmp_path / "stop"
    writers = [Child(write(path, seed)) for seed in range(n_writers)]
    others = [Child(work(path, stop)) for work in (read, compact, verify)]
    ends = [writer.wait() for writer in writers]
    stop.touch()
    ends += [other.wait() for other in others]
    assert [(status, error) for status, _, error in ends] == [(0, "")] * len(ends)
    assert all(sorted(reported) == list(range(N)) for _, reported, _ in ends[:n_writers])
    assert all(reported for _, reported, _ in ends)
    store = FeatureStore(path)
    assert_holds(store, range(N))
    assert store.verify() == []
    store.compact()
    assert len(store.features(SPEC)) == N
    assert_holds(store, range(N))


def test_killed_writers_do_not_disturb_the_others(tmp_path: Path) -> None:
    path, stop = tmp_path / "store", tmp_path / "stop"
    others = [Child(work(path, stop)) for work in (read, compact)]
    done = set[int]()
    rng = np.random.default_rng(0)
    for seed in range(KILLS):
        writer = Child(write(path, seed))
        time.sleep(rng.uniform(0, 0.1))
        writer.kill()
        done.update(writer.wait()[1])
        assert FeatureStore(path).missing(SPEC, keys(sorted(done))) == []
    stop.touch()
    assert [other.wait()[::2] for other in others] == [(0, ""), (0, "")]
    assert FeatureStore(path).verify() == []
    assert_holds(FeatureStore(path), done)


def create(path: Path, i: int) -> Callable[[Callable[[int], None]], None]:
    return lambda _: FeatureStore(path).put(SPEC, [key(i)], features([i]))


def test_the_first_write_by_many_at_once(tmp_path: Path) -> None:
    for trial in range(KILLS):
        path = tmp_path / str(trial)
        children = [Child(create(path, i)) for i in range(4)]
        assert [child.wait()[::2] for child in children] == [(0, "")] * 4
        assert_holds(FeatureStore(path), range(4))
        assert FeatureStore(path).verify() == []
