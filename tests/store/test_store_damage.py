"""Every byte of a store's files changed in turn, files cut and lengthened: an error or the right data."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from store_helpers import SPEC, STEP, assert_holds, features, filled, key, keys

from frofa import FeatureStore
from frofa.exceptions import StoreError
from frofa.store import MANIFEST, FeatureSpec
from frofa.store.disk.format import seal

N = 5
FILES = {
    "manifest": MANIFEST,
    "spec": f"{SPEC.digest}/spec.json",
    "index": f"{SPEC.digest}/index/*/index.json",
    "prefixes": f"{SPEC.digest}/index/*/prefixes.npy",
    "places": f"{SPEC.digest}/index/*/places.npy",
    "shard": f"{SPEC.digest}/shards/*/shard.json",
    "rows": f"{SPEC.digest}/shards/*/rows.npy",
    "features": f"{SPEC.digest}/shards/*/features.npy",
}
PATTERNS = (0x01, 0x80, 0xFF)


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A store of two shards, one of them in the index."""
    store = filled(tmp_path / "whole", range(3))
    store.compact()
    store.put(SPEC, keys(range(3, N)), features(range(3, N)))
    return store.path


def look(path: Path) -> None:
    """Use all that reads: an error of ours, or what was written."""
    found = FeatureStore(path)
    calls: list[Callable[[], object]] = [
        lambda: np.testing.assert_array_equal(found.get(SPEC, keys(range(N))), features(range(N))),
        lambda: np.testing.assert_array_equal(np.asarray(found.features(SPEC)), features(range(N))),
        lambda: found.missing(SPEC, [key(1), key(99)]) == [key(99)] or pytest.fail("wrong keys are missing"),
        lambda: found.specs() == {SPEC.digest: SPEC} or pytest.fail("wrong specs"),
        lambda: found.info()[0].n_images == N or pytest.fail("wrong number"),
    ]
    for call in calls:
        try:
            call()
        except StoreError as error:
            assert "damaged" in str(error)  # noqa: PT017 (no error is right as well)


def reported_and_repaired(path: Path, *, n_lost: int, harmless: bool = False) -> None:
    store = FeatureStore(path)
    found = store.verify()
    if not found and harmless:
        return assert_holds(store, range(N))
    assert found != []
    assert sum(damage.n_lost for damage in store.repair()) <= n_lost
    assert store.verify() == []
    absent = store.missing(SPEC, keys(range(N)))
    assert len(absent) <= n_lost
    assert_holds(store, [i for i in range(N) if key(i) not in absent])
    assert store.specs() == {SPEC.digest: SPEC}
    store.put(SPEC, absent, features([i for i in range(N) if key(i) in absent]))
    return assert_holds(store, range(N))


def copies(whole: Path, name: str) -> Iterator[tuple[Path, bytes]]:
    """The files of that kind, in a copy of the store that is made anew for each."""
    path, files = whole.with_name("copy"), sorted(whole.glob(FILES[name]))
    assert files
    for file in files:
        restore(whole, path)
        yield path / file.relative_to(whole), file.read_bytes()


def restore(whole: Path, path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(whole, path)


@pytest.mark.parametrize("name", FILES)
def test_every_byte_changed_in_turn(name: str, whole: Path) -> None:
    for file, data in copies(whole, name):
        header = data.find(b"\n") + 1 if file.suffix == ".npy" else 0
        for position in range(len(data) if name != "features" else header):
            for number, pattern in enumerate(PATTERNS):
                if (position - number) % STEP % len(PATTERNS):
                    continue
                changed = bytearray(data)
                changed[position] ^= pattern
                file.write_bytes(changed)
                look(whole.with_name("copy"))
                if position % STEP**2 == 0:
                    reported_and_repaired(whole.with_name("copy"), n_lost=1, harmless=position < header)
                    restore(whole, whole.with_name("copy"))
            file.write_bytes(data)


@pytest.mark.parametrize("name", FILES)
def test_cut_at_every_length_and_with_something_behind(name: str, whole: Path) -> None:
    for file, data in copies(whole, name):
        for length in [*range(0, len(data), STEP), len(data) + 1, len(data) + 100]:
            file.write_bytes((data + bytes(100))[:length])
            look(whole.with_name("copy"))
            if length % STEP**3 == 0 or length > len(data):
                reported_and_repaired(whole.with_name("copy"), n_lost=3)
                restore(whole, whole.with_name("copy"))


@pytest.mark.parametrize("name", FILES)
def test_files_and_directories_that_are_gone(name: str, whole: Path) -> None:
    for file, _ in copies(whole, name):
        file.unlink()
        look(whole.with_name("copy"))
        reported_and_repaired(whole.with_name("copy"), n_lost=3)
    for file, _ in copies(whole, name):
        if name not in ("manifest", "spec"):  # a shard or an index removed as a whole is no damage, only not there
            shutil.rmtree(file.parent)
            store = FeatureStore(whole.with_name("copy"))
            absent = store.missing(SPEC, keys(range(N)))
            assert len(absent) <= 3
            assert_holds(store, [i for i in range(N) if key(i) not in absent])


def test_what_was_read_before_is_not_believed(whole: Path) -> None:
    """A process that has a shard open finds out that it was cut or removed."""
    for file, data in copies(whole, "features"):
        store = FeatureStore(whole.with_name("copy"))
        assert_holds(store, range(N))
        file.write_bytes(data[:-1])
        with pytest.raises(StoreError, match="is damaged"):
            store.get(SPEC, keys(range(N)))
        shutil.rmtree(file.parent)
        absent = store.missing(SPEC, keys(range(N)))
        assert 2 <= len(absent) <= 3
        assert_holds(store, [i for i in range(N) if key(i) not in absent])


@pytest.mark.parametrize("position", range(0, 5 * 24, STEP))
def test_a_changed_feature_costs_one_image(position: int, whole: Path) -> None:
    store = FeatureStore(whole)
    first, second = sorted(whole.glob(FILES["features"]))
    file, offset = (first, position) if position < 3 * 24 else (second, position - 3 * 24)
    data = bytearray(file.read_bytes())
    data[len(data) - (3 if file == first else 2) * 24 + offset] ^= 1 << position % 8
    file.write_bytes(data)
    [damage] = store.verify()
    assert (damage.path, damage.n_lost) == (file, 1)
    assert [damage.n_lost for damage in store.repair()] == [1]
    assert store.verify() == []
    assert store.missing(SPEC, keys(range(N))) == [key(position // 24)]
    assert_holds(store, [i for i in range(N) if i != position // 24])
    assert (whole / "damaged" / file.relative_to(whole)).read_bytes() == data


@pytest.mark.parametrize("name", ["features", "rows"])
def test_verify_knows_what_a_repair_will_lose(name: str, whole: Path) -> None:
    first = sorted(whole.glob(FILES[name]))[0]
    first.write_bytes(first.read_bytes()[:-30])
    store = FeatureStore(whole)
    told = [damage.n_lost for damage in store.verify()]
    assert told == [damage.n_lost for damage in store.repair()]
    assert sum(told) == len(store.missing(SPEC, keys(range(N)))) == 2


def test_a_shard_of_another_spec_is_not_served(whole: Path) -> None:
    other = FeatureSpec(**{**SPEC.__dict__, "weights": "others"})
    FeatureStore(whole).put(other, [key(7)], features([7]))
    [shard] = whole.glob(f"{other.digest}/shards/*")
    shutil.copytree(shard, whole / SPEC.digest / "shards" / shard.name.replace("-00000000", "-00000007"))
    store = FeatureStore(whole)
    with pytest.raises(StoreError, match=f"it is a shard of spec {other.digest}"):
        store.get(SPEC, [key(7)])
    assert [damage.n_lost for damage in store.repair()] == [1]
    assert store.verify() == []
    assert store.missing(SPEC, [key(7), key(1)]) == [key(7)]
    assert store.missing(other, [key(7)]) == []


@pytest.mark.parametrize("version", [1, 3])
def test_another_version_is_not_repaired(version: int, whole: Path) -> None:
    data = b'{\n "format": 1\n}' if version == 1 else seal({"format": version})
    (whole / MANIFEST).write_bytes(data)
    store = FeatureStore(whole)
    for call in (store.verify, store.repair, store.compact, store.info, lambda: store.get(SPEC, [key(0)])):
        with pytest.raises(StoreError, match=f"has format {version}; this version of frofa reads format 2"):
            call()
    assert (whole / MANIFEST).read_bytes() == data
