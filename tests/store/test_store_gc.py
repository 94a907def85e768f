"""What others do to a store between any two steps of a writer or reader: both go on, and nothing unreadable stays."""

import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_helpers import KILLS, SPEC, STEP, Child, features, forks, key, keys

from frofa import FeatureStore
from frofa.exceptions import StoreError

pytestmark = [forks, pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")]
KEPT = replace(SPEC, weights="kept")
MOMENTS = max(1, STEP // 3)
"""Of these moments, every how many-th is tried."""
EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.listdir", "os.scandir"}


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)


class Between:
    """Acts before the k-th call of the system that has to do with files, from 1; to be used in a `Child`."""

    def __init__(self, at: int, act: Callable[[], object]):
        self.fired, n_calls = False, 0

        def audited(event: str, _: tuple[Any, ...]) -> None:
            nonlocal n_calls
            if event not in EVENTS or self.fired:
                return
            n_calls += 1
            if n_calls == at:
                self.fired = True
                act()

        sys.addaudithook(audited)


def collect(path: Path) -> None:
    FeatureStore(path).gc([KEPT.digest])


def collect_and_write(path: Path) -> None:
    collect(path)
    FeatureStore(path).put(SPEC, keys([9]), features([9]))


OTHERS: dict[str, Callable[[Path], object]] = {
    "gc": collect,
    "gc and another writer": collect_and_write,
    "compact": lambda path: FeatureStore(path).compact(),
    "repair": lambda path: FeatureStore(path).repair(),
    "another writer": lambda path: FeatureStore(path).put(SPEC, keys([9]), features([9])),
}


def start(path: Path) -> FeatureStore:
    store = FeatureStore(path)
    for spec in (KEPT, SPEC):
        store.put(spec, keys([0]), features([0]))
        store.put(spec, keys([1]), features([1]))
    return store


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("first", [False, True])
def test_between_any_two_steps_of_a_writer(first: bool, name: str, tmp_path: Path) -> None:
    """With `first`, the writer makes the directory of its spec."""
    for at in range(1, 10_000, MOMENTS):
        path = tmp_path / str(at)
        start(path)
        if first:
            collect(path)

        def write(report: Callable[[int], None], path: Path = path, at: int = at) -> None:
            between = Between(at, lambda: OTHERS[name](path))
            with FeatureStore(path).writer(SPEC, report) as writer:
                writer.add(keys([5, 6]), features([5, 6]))
            report(int(between.fired))

        status, reported, error = Child(write).wait()
        assert (status, reported[:1]) == (0, [2]), error
        found = FeatureStore(path)
        assert set(found.specs().values()) in ({KEPT, SPEC}, {KEPT})
        assert found.verify() == []
        absent = set(found.missing(SPEC, keys([5, 6])))
        assert absent in (set(), set(keys([5, 6])))
        assert not absent or name.startswith("gc")
        found.put(SPEC, keys([7]), features([7]))
        np.testing.assert_array_equal(FeatureStore(path).get(SPEC, keys([7])), features([7]))
        np.testing.assert_array_equal(FeatureStore(path).get(KEPT, keys([0, 1])), features([0, 1]))
        if reported == [2, 0]:
            break
    assert at > 10


READERS: dict[str, Callable[[FeatureStore], object]] = {
    "specs": lambda store: set(store.specs().values()) - {KEPT, SPEC} and pytest.fail("unknown specs"),
    "info": lambda store: [part for part in store.info() if part.spec is None] and pytest.fail("damaged"),
    "verify": lambda store: store.verify() and pytest.fail("damaged"),
    "missing": lambda store: set(store.missing(SPEC, keys([0, 1]))) - set(keys([0, 1])) and pytest.fail("wrong keys"),
    "kept": lambda store: np.testing.assert_array_equal(store.get(KEPT, keys([1, 0])), features([1, 0])),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["gc", "gc and another writer"])
def test_between_any_two_steps_of_a_reader(name: str, reader: str, tmp_path: Path) -> None:
    for at in range(1, 10_000, MOMENTS):
        path = tmp_path / str(at)
        start(path)

        def read(report: Callable[[int], None], path: Path = path, at: int = at) -> None:
            between = Between(at, lambda: OTHERS[name](path))
            READERS[reader](FeatureStore(path))
            report(int(between.fired))

        status, reported, error = Child(read).wait()
        assert status == 0, error
        if reported == [0]:
            break
    assert at > 3


def test_features_that_go_while_they_are_read_are_our_error(tmp_path: Path) -> None:
    for at in range(1, 10_000, MOMENTS):
        path = tmp_path / str(at)
        start(path)

        def read(report: Callable[[int], None], path: Path = path, at: int = at) -> None:
            between = Between(at, lambda: collect(path))
            with contextlib.suppress(StoreError, KeyError):
                np.testing.assert_array_equal(FeatureStore(path).get(SPEC, keys([0, 1])), features([0, 1]))
            report(int(between.fired))

        status, reported, error = Child(read).wait()
        assert status == 0, error
        if reported == [0]:
            break
    assert at > 3


def test_a_writer_beside_a_collection_all_the_time(tmp_path: Path) -> None:
    path, stop = tmp_path / "store", tmp_path / "stop"
    start(path)

    def write(report: Callable[[int], None]) -> None:
        for i in range(20 * KILLS):
            FeatureStore(path).put(SPEC, [key(i)], features([i]))
            report(i)

    def repeat(function: Callable[[], object]) -> Callable[[Callable[[int], None]], None]:
        def work(report: Callable[[int], None]) -> None:
            rounds, end = 0, time.monotonic() + 120
            while not stop.exists() and time.monotonic() < end:
                function()
                rounds += 1
            report(rounds)

        return work

    others = [Child(repeat(lambda: collect(path))), Child(repeat(lambda: FeatureStore(path).specs()))]
    status, reported, error = Child(write).wait()
    stop.touch()
    ends = [other.wait() for other in others]
    assert (status, error, len(reported)) == (0, "", 20 * KILLS)
    assert [(end[0], end[2]) for end in ends] == [(0, ""), (0, "")]
    assert FeatureStore(path).verify() == []


def test_a_directory_without_description_is_repaired(tmp_path: Path) -> None:
    """As an older version may have left it: the shard has the spec, too."""
    store = start(tmp_path / "store")
    (store.path / SPEC.digest / "spec.json").unlink()
    empty = replace(SPEC, weights="empty")
    (store.path / empty.digest / "shards").mkdir(parents=True)
    with pytest.raises(StoreError, match="it is not there"):
        store.specs()
    assert len(store.verify()) == 2
    store.repair()
    assert store.verify() == []
    assert set(store.specs().values()) == {KEPT, SPEC}
    np.testing.assert_array_equal(store.get(SPEC, keys([0, 1])), features([0, 1]))
