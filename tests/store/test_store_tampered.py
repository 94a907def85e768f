"""JSON of a store that somebody has changed and sealed again: the store's own error, reported and repaired."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_helpers import SPEC, features, filled, key, keys

from frofa import FeatureStore
from frofa.exceptions import StoreError
from frofa.store import MANIFEST
from frofa.store.disk.format import seal

FILES = {
    "manifest": MANIFEST,
    "spec": f"{SPEC.digest}/spec.json",
    "index": f"{SPEC.digest}/index/*/index.json",
    "shard": f"{SPEC.digest}/shards/*/shard.json",
}
NESTED: list[Any] = []
for _ in range(500):
    NESTED = [NESTED]
VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    2**63,
    10**400,
    1.5,
    float("nan"),
    "O",
    "|O",
    "x",
    "é",
    [],
    {},
    [[]],
    [{}],
    NESTED,
]
SHAPES = [
    [],
    [3],
    [3, 2, -3],
    [3, 2, 3.0],
    [3, 0, 3],
    [3, 2, True],
    [2**62, 2, 3],
    [3] * 70,
    [3, "2", 3],
    [3, 3, 2],
    [4, 2, 3],
]
RAW = [
    b"",
    b"[",
    b"null",
    b"3",
    b'"x"',
    b"[]",
    b"{}",
    b"\xff\xfe",
    b"\x80",
    100_000 * b"[",
    9999 * b"1",
    b'{"format": 2}',
]


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """A store of one shard, with an index."""
    store = filled(tmp_path / "store", range(3))
    store.compact()
    return FeatureStore(store.path)


def file_of(store: FeatureStore, name: str) -> Path:
    [file] = store.path.glob(FILES[name])
    return file


def changes(file: Path) -> list[dict[str, Any]]:
    """What the file may be changed to: each field of another type or value, and none."""
    content = json.loads(file.read_text())
    found = [{**content, name: value} for name in content for value in VALUES if value != content[name]]
    found += [{kept: content[kept] for kept in content if kept != name} for name in content]
    if "shape" in content:
        found += [{**content, "shape": shape} for shape in SHAPES]
    if "spec" in content:
        found += [{**content, "spec": {**content["spec"], name: value}} for name in content["spec"] for value in VALUES]
        found += [{**content, "spec": {**content["spec"], "more": 1}}]
    if "shards" in content:
        found += [{**content, "shards": [name]} for name in (1, None, "../x")]
    return found


def sealed(content: dict[str, Any]) -> bytes:
    try:
        return seal({name: value for name, value in content.items() if name != "checksum"})
    except RecursionError:
        return json.dumps({**content, "x": None}).encode() if NESTED not in content.values() else 1000 * b'{"format":'


def look(path: Path) -> None:
    calls: list[Callable[[FeatureStore], object]] = [
        lambda found: np.testing.assert_array_equal(found.get(SPEC, keys(range(3))), features(range(3))),
        lambda found: np.testing.assert_array_equal(np.asarray(found.features(SPEC)), features(range(3))),
        lambda found: found.missing(SPEC, [key(1), key(9)]) == [key(9)] or pytest.fail("wrong keys are missing"),
        lambda found: found.specs() == {SPEC.digest: SPEC} or pytest.fail("wrong specs"),
        lambda found: found.info()[0].n_images == 3 or pytest.fail("wrong number"),
        lambda found: found.gc([SPEC.digest], dry_run=True) == 0 or pytest.fail("something would go"),
    ]
    for call in calls:
        try:
            call(FeatureStore(path))
        except StoreError as error:
            assert str(path) in str(error)  # noqa: PT017 (no error is right as well)


def repaired(store: FeatureStore) -> None:
    store.repair()
    assert store.verify() == []
    absent = store.missing(SPEC, keys(range(3)))
    store.put(SPEC, absent, features([i for i in range(3) if key(i) in absent]))
    np.testing.assert_array_equal(store.get(SPEC, keys(range(3))), features(range(3)))


@pytest.mark.parametrize("name", FILES)
def test_each_field_changed_and_sealed_again(name: str, store: FeatureStore) -> None:
    file = file_of(store, name)
    whole = file.read_bytes()
    for content in changes(file):
        if name == "manifest" and type(content.get("format")) is int and content["format"] != 2:
            continue  # another version, which is not repaired
        file.write_bytes(sealed(content) if name != "spec" else json.dumps(content).encode())
        look(store.path)
        harmless = json.loads(file.read_bytes()) == json.loads(whole) if len(file.read_bytes()) < 5000 else False
        assert harmless or store.verify() != [], content
    repaired(store)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("data", RAW)
def test_what_is_no_object_of_ours(name: str, data: bytes, store: FeatureStore) -> None:
    file_of(store, name).write_bytes(data)
    look(store.path)
    assert store.verify() != []
    repaired(store)


@pytest.mark.parametrize("name", FILES)
def test_a_directory_in_its_place(name: str, store: FeatureStore) -> None:
    file = file_of(store, name)
    file.unlink()
    file.mkdir()
    look(store.path)
    assert store.verify() != []
    repaired(store)


@pytest.mark.parametrize("name", ["shard", "index"])
def test_a_file_in_the_place_of_its_directory(name: str, store: FeatureStore) -> None:
    directory = file_of(store, name).parent
    directory.rename(store.path / "elsewhere")
    directory.write_bytes(b"")
    look(store.path)
    assert store.verify() != []
    repaired(store)
