"""frofa.FeatureStore by itself: what it reads back, and what it says of files that are not its own or damaged."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frofa import FeatureStore
from frofa._files import write_atomically
from frofa.exceptions import StoreError
from frofa.store import MANIFEST, FeatureSpec

SPEC = FeatureSpec("weights", "architecture", "{}", "decoder", "tokens", 1, True, "float32", "float32")


def rows(*values: float) -> Any:
    """Features (n, 2, 3), one row for each value."""
    return np.broadcast_to(np.array(values, np.float32)[:, None, None], (len(values), 2, 3))


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """A store with the keys a, b, c, in two files."""
    store = FeatureStore(tmp_path / "store")
    store.put(SPEC, ["a", "b"], rows(1, 2))
    store.put(SPEC, ["c"], rows(3))
    return store


@pytest.fixture
def shard(store: FeatureStore) -> Path:
    """The larger of its two files."""
    return max(store.path.glob("*/*.safetensors"), key=lambda file: file.stat().st_size)


@pytest.mark.parametrize("fresh", [True, False])
def test_features_come_back_in_the_order_of_the_keys(fresh: bool, store: FeatureStore) -> None:
    store = FeatureStore(str(store.path)) if fresh else store
    np.testing.assert_array_equal(store.get(SPEC, ["c", "a", "c", "b"]), rows(3, 1, 3, 2))
    assert store.missing(SPEC, ["x", "a", "y", "x", "c"]) == ["x", "y"]
    with pytest.raises(KeyError, match="x"):
        store.get(SPEC, ["a", "x"])
    with pytest.raises(KeyError, match="no keys"):
        store.get(SPEC, [])
    with pytest.raises(ValueError, match="Got 2 keys, 1 rows"):
        store.put(SPEC, ["d", "e"], rows(4))


def test_nothing_is_created_by_looking(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "store")
    assert store.missing(SPEC, ["a"]) == ["a"]
    assert store.specs() == {}
    assert not store.path.exists()


def test_what_another_object_writes_is_seen(store: FeatureStore) -> None:
    other = FeatureStore(store.path)
    assert other.missing(SPEC, ["a", "d"]) == ["d"]
    store.put(SPEC, ["d"], rows(4))
    np.testing.assert_array_equal(other.get(SPEC, ["d", "a"]), rows(4, 1))


def test_copies_and_pickles_carry_only_the_path(store: FeatureStore) -> None:
    pickled = pickle.dumps(store)
    assert len(pickled) < 400
    for other in (copy.deepcopy(store), pickle.loads(pickled)):  # noqa: S301 (written two lines above)
        assert repr(other) == repr(store) == f"FeatureStore({str(store.path)!r})"
        np.testing.assert_array_equal(other.get(SPEC, ["b"]), rows(2))
        other.put(SPEC, ["d"], rows(4))
    assert store.missing(SPEC, ["d"]) == []


@pytest.mark.parametrize("size", [0, 7, 60, -1])
def test_a_truncated_file_is_named_and_may_be_deleted(size: int, store: FeatureStore, shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:size])
    for reader in (FeatureStore(store.path), store):  # `store` knows the keys already, and meets the damage reading
        with pytest.raises(StoreError, match=f"{shard.name} is damaged .*delete this file") as caught:
            reader.get(SPEC, ["a", "c"])
        assert isinstance(caught.value, OSError)
    shard.unlink()
    for reader in (FeatureStore(store.path), store):
        assert reader.missing(SPEC, ["a", "b", "c"]) == ["a", "b"]
    store.put(SPEC, ["a", "b"], rows(5, 6))
    np.testing.assert_array_equal(store.get(SPEC, ["a", "b", "c"]), rows(5, 6, 3))


def test_other_directories_are_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    store = FeatureStore(tmp_path)
    for call in (lambda: store.missing(SPEC, ["a"]), lambda: store.put(SPEC, ["a"], rows(1)), store.specs):
        with pytest.raises(StoreError, match=f"is not a feature store: it has no {MANIFEST}"):
            call()
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(StoreError, match=r"thesis.txt"):
        FeatureStore(tmp_path / "thesis.txt").put(SPEC, ["a"], rows(1))
    (tmp_path / "empty").mkdir()
    FeatureStore(tmp_path / "empty").put(SPEC, ["a"], rows(1))


def test_a_store_in_the_making_is_a_store_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeatureStore(tmp_path / "store")
    written: list[str] = []

    def watched(path: Path, write: Any) -> None:
        assert FeatureStore(store.path).missing(SPEC, ["a"]) == ["a"]
        (path.parent / ".tmp-another").touch()
        assert FeatureStore(store.path).missing(SPEC, ["a"]) == ["a"]
        write_atomically(path, write)
        written.append(path.name)

    monkeypatch.setattr("frofa.store.write_atomically", watched)
    store.put(SPEC, ["a"], rows(1))
    assert written[:2] == [MANIFEST, "spec.json"]
    assert len(written) == 3


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ('{"format": 999}', "has format 999; this version of frofa reads format 1"),
        ("{", "is damaged"),
        ("[]", "is damaged"),
    ],
)
def test_other_formats_are_refused(manifest: str, message: str, store: FeatureStore) -> None:
    (store.path / MANIFEST).write_text(manifest)
    with pytest.raises(StoreError, match=message):
        FeatureStore(store.path).get(SPEC, ["a"])
    with pytest.raises(StoreError, match=message):
        store.put(SPEC, ["d"], rows(4))
    assert len(list(store.path.glob("*/*.safetensors"))) == 2


def test_specs_list_what_there_is(store: FeatureStore) -> None:
    other = FeatureSpec("weights", "architecture", "{}", "decoder", "mean", 1, True, "float32", "float32")
    store.put(other, ["a"], rows(7)[:, 0])
    store.put(SPEC, ["b", "d"], rows(2, 4))  # b once more, as another process may write it
    found = FeatureStore(store.path).specs()
    assert {spec["output"]: spec["n_images"] for spec in found.values()} == {"tokens": 4, "mean": 1}
    assert set(found) == {SPEC.digest, other.digest}
    assert json.loads((store.path / SPEC.digest / "spec.json").read_text())["weights"] == "weights"
    np.testing.assert_array_equal(store.get(other, ["a"]), rows(7)[:, 0])
