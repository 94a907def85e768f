"""A process that writes, compacts, repairs or indexes a store is killed at every moment: nothing is lost."""

import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from store_helpers import (
    KILLS,
    SPEC,
    STEP,
    Child,
    Faults,
    assert_holds,
    features,
    filled,
    forks,
    keys,
    kill,
    snapshot,
)

from frofa import FeatureStore
from frofa.store import MANIFEST

pytestmark = [forks, pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")]
Report = Callable[[int], None]
N = 12


@pytest.fixture(autouse=True)
def small_and_impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch is a commit, an index pays at once, five images are a large shard, leftovers are old at once.

    Nothing is synced, for speed: who kills a process does not take away what it gave to the system.
    """
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr("frofa.store.writer.COMMIT_SECONDS", 0.0)
    monkeypatch.setattr("frofa.store.disk.table.LOOSE_ROWS", 0)
    monkeypatch.setattr("frofa.store.maintenance.compact.SHARD_BYTES", 5 * 24)
    monkeypatch.setattr("frofa.utils.files.STALE_AFTER", -1.0)


def write(path: Path, report: Report, n: int = N, batch: int = 3) -> None:
    """Write what is missing, as an extraction does, and report how many images are done."""
    store = FeatureStore(path)
    absent = set(store.missing(SPEC, keys(range(n))))
    left = [i for i, name in enumerate(keys(range(n))) if name in absent]
    done = n - len(left)

    def committed(number: int) -> None:
        nonlocal done
        done += number
        report(done)

    with store.writer(SPEC, committed) as writer:
        for start in range(0, len(left), batch):
            part = left[start : start + batch]
            writer.add(keys(part), features(part))


def damage(store: FeatureStore) -> None:
    """Change a byte of one file of each kind."""
    store.compact()
    filled(store.path, range(N, N + 3), range(N + 3, N + 6))
    directory = store.path / SPEC.digest
    shards = sorted((directory / "shards").iterdir())
    index = next((directory / "index").iterdir())
    for file, position in (
        (shards[0] / "features.npy", -30),
        (shards[1] / "rows.npy", -30),
        (shards[2] / "shard.json", 20),
        (shards[-1] / "features.npy", 20),
        (index / "places.npy", -1),
        (directory / "spec.json", 20),
        (store.path / MANIFEST, 20),
    ):
        data = bytearray(file.read_bytes())
        data[position] ^= 1
        file.write_bytes(data)


@dataclass(frozen=True)
class Scenario:
    """What is done to a store that was prepared; `finish` is what its user does next, killed or not."""

    prepare: Callable[[Path], object]
    act: Callable[[Path, Report], object]
    finish: Callable[[Path], object]
    kept: range
    """The images that are there before, and at every moment after."""
    whole: bool = True
    """Whether nothing is damaged in between."""


def silent(_: int) -> None: ...


def complete(path: Path) -> None:
    write(path, silent)
    FeatureStore(path).compact()


def mend(path: Path) -> None:
    FeatureStore(path).repair()
    complete(path)


def compacted_and_more(path: Path) -> None:
    filled(path, range(4), range(4, 7)).compact()
    filled(path, range(5, 9), range(8, N), range(2))


SCENARIOS = {
    "write": Scenario(lambda _: None, write, complete, range(0)),
    "compact": Scenario(
        lambda path: filled(path, range(4), range(2, 7), range(7, N), range(3)),
        lambda path, _: FeatureStore(path).compact(),
        complete,
        range(N),
    ),
    "compact again": Scenario(compacted_and_more, lambda path, _: FeatureStore(path).compact(), complete, range(N)),
    "index": Scenario(
        lambda path: filled(path, range(4), range(4, N)),
        lambda path, _: FeatureStore(path).table(SPEC).write_index(),
        complete,
        range(N),
    ),
    "repair": Scenario(
        lambda path: damage(filled(path, range(4), range(4, N))),
        lambda path, _: FeatureStore(path).repair(),
        mend,
        range(0),
        whole=False,
    ),
}


@pytest.fixture(params=SCENARIOS)
def scenario(request: pytest.FixtureRequest) -> Scenario:
    return SCENARIOS[request.param]


class Trial:
    """A scenario with the store it starts from and the one it leads to if nothing disturbs it."""

    def __init__(self, scenario: Scenario, folder: Path):
        self.scenario, self.start, self.path = scenario, folder / "start", folder / "store"
        scenario.prepare(self.start)
        self.reset()
        scenario.act(self.path, silent)
        scenario.finish(self.path)
        self.undisturbed = snapshot(self.path)
        assert not any(".tmp-" in name for name in self.undisturbed)

    def reset(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        if self.start.exists():
            shutil.copytree(self.start, self.path)

    def check(self, reported: list[int]) -> None:
        """See that nothing is lost; then go on, and come to the same end."""
        store = FeatureStore(self.path)
        if self.scenario.whole:
            assert store.verify() == []
            assert_holds(store, range(max([len(self.scenario.kept), *reported])))
        self.scenario.finish(self.path)
        assert snapshot(self.path) == self.undisturbed
        assert FeatureStore(self.path).verify() == []
        assert_holds(FeatureStore(self.path), range(N))


def test_killed_at_every_call_of_the_system(scenario: Scenario, tmp_path: Path) -> None:
    trial = Trial(scenario, tmp_path)
    for at in range(1, 10_000, STEP):
        trial.reset()

        def act(report: Report, at: int = at) -> None:
            Faults(at, kill)
            scenario.act(trial.path, report)

        status, reported, error = Child(act).wait()
        if status == 0:
            break
        assert status == -signal.SIGKILL, error
        trial.check(reported)
    assert at > 10  # so many calls there are at least


def moments(number: int, longest: float) -> Iterator[float]:
    rng = random.Random(0)
    return (rng.uniform(0, longest) for _ in range(number))


def test_killed_at_random_moments(scenario: Scenario, tmp_path: Path) -> None:
    trial = Trial(scenario, tmp_path)
    trial.reset()
    begin = time.perf_counter()
    assert Child(lambda report: scenario.act(trial.path, report)).wait()[0] == 0
    duration = time.perf_counter() - begin
    killed = 0
    for moment in moments(10 * KILLS, duration):
        trial.reset()
        child = Child(lambda report: scenario.act(trial.path, report))
        time.sleep(moment)
        child.kill()
        status, reported, error = child.wait()
        assert status in (0, -signal.SIGKILL), error
        trial.check(reported)
        killed += status != 0
        if killed * len(SCENARIOS) >= KILLS:
            break
    assert killed * len(SCENARIOS) >= KILLS


def test_killed_again_and_again_a_run_comes_to_its_end(tmp_path: Path) -> None:
    undisturbed = tmp_path / "undisturbed"
    write(undisturbed, silent, 40, 2)
    FeatureStore(undisturbed).compact()
    path, done, n_killed = tmp_path / "store", 0, 0
    rng = random.Random(1)
    while True:
        child = Child(lambda report: write(path, report, 40, 2))
        time.sleep(rng.uniform(0, 0.05))
        child.kill()
        status, reported, error = child.wait()
        assert status in (0, -signal.SIGKILL), error
        done = max([done, *reported])
        assert FeatureStore(path).verify() == []
        assert_holds(FeatureStore(path), range(done))
        if status == 0:
            break
        n_killed += 1
    FeatureStore(path).compact()
    assert snapshot(path) == snapshot(undisturbed)
    assert n_killed > 0
