"""frofa.FeatureStore by itself: what it reads back, and what it says of files that are not its own."""

import copy
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from store_helpers import SPEC, assert_holds, features, filled, key, keys, snapshot

from frofa import FeatureStore
from frofa.exceptions import StoreError
from frofa.store import MANIFEST, FeatureSpec
from frofa.store.disk.format import seal
from frofa.utils.files import write_atomically


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """A store with the keys 0, 1, 2, in two shards."""
    return filled(tmp_path / "store", [0, 1], [2])


@pytest.mark.parametrize("fresh", [True, False])
def test_features_come_back_in_the_order_of_the_keys(fresh: bool, store: FeatureStore) -> None:
    store = FeatureStore(str(store.path)) if fresh else store
    np.testing.assert_array_equal(store.get(SPEC, keys([2, 0, 2, 1])), features([2, 0, 2, 1]))
    as_bytes = np.array([list(bytes.fromhex(key(i))) for i in (1, 2)], np.uint8)
    np.testing.assert_array_equal(np.asarray(store.features(SPEC, as_bytes)), features([1, 2]))
    np.testing.assert_array_equal(np.asarray(store.features(SPEC)), features([0, 1, 2]))
    assert store.missing(SPEC, keys([9, 0, 8, 9, 2])) == keys([9, 8])
    assert store.missing(SPEC, []) == []
    with pytest.raises(KeyError, match=key(9)):
        store.get(SPEC, keys([0, 9]))
    with pytest.raises(KeyError, match="no keys"):
        store.get(SPEC, [])


@pytest.mark.parametrize(
    ("names", "values", "message"),
    [
        (keys([4, 5]), features([4]), "Got 2 keys, 1 rows"),
        (keys([4]), features([4])[:, :1], r"this spec's features have shape \(2, 3\). Got \(1, 3\)"),
        (keys([4]), features([4])[:, :, :0], "one value or more an image. Got shape"),
        (keys([4]), np.float32(4), "one row of features a key"),
        (keys([4]), features([4]).astype(np.float64), "expected features of float32, the spec's dtype. Got float64"),
        (["abc"], features([4]), "expected keys of 40 hexadecimal digits. Got 'abc'"),
        ([key(4)[:38] + "  "] * 20, features(range(20)), "expected keys of 40 hexadecimal digits"),
        ([key(4)[:39] + "x"], features([4]), "expected keys of 40 hexadecimal digits"),
        ([4], features([4]), "expected keys of 40 hexadecimal digits. Got 4"),
        (np.zeros((1, 8), np.uint8), features([4]), r"expected keys of shape \(n, 20\)"),
    ],
)
def test_what_does_not_fit_is_refused(names: Any, values: Any, message: str, store: FeatureStore) -> None:
    with pytest.raises(ValueError, match=message):
        store.put(SPEC, names, values)
    assert len(store.table(SPEC).shards()) == 2


def test_a_batch_that_is_refused_takes_no_other_with_it(store: FeatureStore) -> None:
    with pytest.raises(ValueError, match="Got 1 keys, 2 rows"), store.writer(SPEC) as writer:  # noqa: PT012
        writer.add(keys([3]), features([3]))
        writer.add(keys([4]), features([4, 5]))
    assert_holds(store, range(4))


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("float32", np.arange(6, dtype=">f4").reshape(2, 3)),
        ("float16", torch.arange(6, dtype=torch.float16).reshape(2, 3)),
        ("float64", np.arange(12.0).reshape(2, 6)[:, ::2]),
        ("bfloat16", torch.arange(6).reshape(3, 2).T.to(torch.bfloat16)),
        ("float32", np.arange(2, dtype=np.float32)),  # one number an image
    ],
)
def test_every_dtype_and_layout_is_stored_as_it_is(dtype: str, values: Any, tmp_path: Path) -> None:
    spec = FeatureSpec(**{**SPEC.__dict__, "dtype": dtype})
    store = FeatureStore(tmp_path)
    store.put(spec, keys(range(2)), values)
    stored = np.asarray(values.view(torch.int16) if dtype == "bfloat16" else values)
    found = np.asarray(store.table(spec).shards()[0].features)
    np.testing.assert_array_equal(found.view(np.int16) if dtype == "bfloat16" else found, stored)
    assert store.verify() == []


@pytest.mark.parametrize("wrong", [{"dtype": "int8"}, {"layer": 1.5}, {"norm": np.bool_(True)}, {"output": b"cls"}])
def test_a_spec_has_only_what_its_file_can_hold(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"as {next(iter(wrong))}. Got"):
        FeatureSpec(**{**SPEC.__dict__, **wrong})


def test_nothing_is_created_by_looking(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "store")
    assert store.missing(SPEC, [key(0)]) == [key(0)]
    assert (store.specs(), store.verify(), store.repair(), store.info()) == ({}, [], [], [])
    assert store.compact().n_after == 0
    with store.writer(SPEC):
        pass
    with pytest.raises(KeyError, match=key(0)):
        store.get(SPEC, [key(0)])
    assert not store.path.exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is read-only to this user")
def test_a_read_only_store_is_read(store: FeatureStore) -> None:
    paths = [store.path, *store.path.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        fresh = FeatureStore(store.path)
        assert_holds(fresh, range(3))
        assert fresh.verify() == []
        with pytest.raises(PermissionError, match="cannot write it"):
            fresh.put(SPEC, keys([3]), features([3]))
    finally:
        for path in paths:
            path.chmod(0o755)


def test_what_another_object_writes_is_seen(store: FeatureStore) -> None:
    other = FeatureStore(store.path)
    assert other.missing(SPEC, keys([0, 3])) == keys([3])
    store.put(SPEC, keys([3]), features([3]))
    assert_holds(other, [3, 0])
    store.compact()
    assert_holds(other, range(4))
    store.put(SPEC, keys([4]), features([4]))
    lazy = other.features(SPEC, keys(range(5)))
    store.compact()
    np.testing.assert_array_equal(np.asarray(lazy), features(range(5)))


def test_keys_that_begin_alike_are_told_apart(tmp_path: Path) -> None:
    alike = ["0" * 32 + f"{i:08x}" for i in range(40)]
    store = FeatureStore(tmp_path)
    for start in range(0, 30, 10):
        store.put(SPEC, alike[start : start + 10][::-1], features(range(start, start + 10))[::-1])
    store.put(SPEC, alike[5:15], features(range(5, 15)))
    for _ in range(3):
        order = np.random.default_rng(0).permutation(30).tolist()
        np.testing.assert_array_equal(store.get(SPEC, [alike[i] for i in order]), features(order))
        assert store.missing(SPEC, alike) == alike[30:]
        assert store.info()[0].n_images == 30
        assert store.verify() == []
        store.compact()
        store.put(SPEC, alike[:3], features(range(3)))
    assert store.compact().n_duplicates == 3


def test_without_an_index_or_with_an_old_one_all_is_found(store: FeatureStore) -> None:
    store.compact()
    store.put(SPEC, keys([3, 1]), features([3, 1]))
    [index] = store.path.glob("*/index/*")
    kept = {file.name: file.read_bytes() for file in index.iterdir()}
    store.compact()
    index.mkdir()
    for name, data in kept.items():
        (index / name).write_bytes(data)
    assert_holds(FeatureStore(store.path), range(4))
    assert_holds(store, range(4))
    for file in list(store.path.glob("*/index/*/*")):
        file.unlink()
    assert_holds(FeatureStore(store.path), range(4))
    assert_holds(store, range(4))


def test_shards_of_different_shapes_are_named(store: FeatureStore, tmp_path: Path) -> None:
    other = FeatureStore(tmp_path / "other")
    other.put(SPEC, keys([7]), features([7])[:, :1])
    [shard] = other.path.glob("*/shards/*")
    shutil.copytree(shard, store.path / SPEC.digest / "shards" / shard.name.replace("-00000000", "-00000009"))
    with pytest.raises(StoreError, match=r"shape \(1, 3\), but b-.* shape \(2, 3\): one spec has one"):
        FeatureStore(store.path).get(SPEC, keys([0, 7]))
    before = snapshot(store.path)
    with pytest.raises(StoreError, match="one spec has one"):
        store.compact()
    assert snapshot(store.path) | {".lock": b""} == before | {".lock": b""}


def test_foreign_files_are_left_alone(store: FeatureStore) -> None:
    directory = store.path / SPEC.digest
    store.compact()
    foreign = [store.path / "notes.txt", directory / "shards" / "backup", directory / "index" / "Thumbs.db"]
    for file in foreign:
        file.write_text("mine")
    store.put(SPEC, keys([3]), features([3]))
    store.compact()
    assert (store.repair(), store.verify()) == ([], [])
    assert_holds(store, range(4))
    assert [file.read_text() for file in foreign] == ["mine"] * 3


def test_copies_and_pickles_carry_only_the_path(store: FeatureStore) -> None:
    pickled = pickle.dumps(store)
    assert len(pickled) < 400
    for other in (copy.deepcopy(store), pickle.loads(pickled)):  # noqa: S301 (written two lines above)
        assert repr(other) == repr(store) == f"FeatureStore({str(store.path)!r})"
        assert_holds(other, [1])
        other.put(SPEC, keys([3]), features([3]))
    assert store.missing(SPEC, keys([3])) == []


def test_other_directories_are_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    store = FeatureStore(tmp_path)
    for call in (lambda: store.missing(SPEC, [key(0)]), lambda: store.put(SPEC, [key(0)], features([0])), store.specs):
        with pytest.raises(StoreError, match=f"is not a feature store: it has no {MANIFEST}"):
            call()
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(StoreError, match=r"thesis.txt"):
        FeatureStore(tmp_path / "thesis.txt").put(SPEC, [key(0)], features([0]))
    (tmp_path / "empty").mkdir()
    FeatureStore(tmp_path / "empty").put(SPEC, [key(0)], features([0]))


def test_a_store_in_the_making_is_a_store_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeatureStore(tmp_path / "store")
    written: list[str] = []

    def watched(path: Path, write: Any) -> None:
        assert FeatureStore(store.path).missing(SPEC, [key(0)]) == [key(0)]
        (path.parent / ".tmp-another").touch()
        assert FeatureStore(store.path).missing(SPEC, [key(0)]) == [key(0)]
        write_atomically(path, write)
        written.append(path.name)

    monkeypatch.setattr("frofa.store.directory.write_atomically", watched)
    store.put(SPEC, [key(0)], features([0]))
    assert written == [MANIFEST, "spec.json"]


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (seal({"format": 999}).decode(), "has format 999; this version of frofa reads format 2"),
        ('{\n "format": 1\n}', "has format 1; this version of frofa reads format 2: start a new one"),
        ('{"format": 2}', "is damaged"),
        ("{", "is damaged"),
        ("[]", "is damaged"),
    ],
)
def test_other_formats_are_refused(manifest: str, message: str, store: FeatureStore) -> None:
    (store.path / MANIFEST).write_text(manifest)
    with pytest.raises(StoreError, match=message):
        FeatureStore(store.path).get(SPEC, [key(0)])
    with pytest.raises(StoreError, match=message):
        store.put(SPEC, [key(3)], features([3]))
    assert len(list(store.path.glob("*/shards/*"))) == 2


def test_all_is_synced_before_it_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of events: each file's data, the shard's directory, its name, and the names above it."""
    fsync, rename = os.fsync, Path.rename
    events: list[tuple[str, int]] = []

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        events.append(("sync", os.fstat(descriptor).st_ino))

    def renamed(source: Path, target: Path) -> Path:
        events.append(("rename", source.stat().st_ino))
        return rename(source, target)

    monkeypatch.setattr("os.fsync", synced)
    monkeypatch.setattr("pathlib.Path.rename", renamed)
    path = tmp_path / "new" / "store"
    with FeatureStore(path).writer(SPEC, lambda n: events.append(("commit", n))) as writer:
        writer.add(keys([0, 1]), features([0, 1]))
    [shard] = path.glob("*/shards/*")
    *before, committed = events
    assert committed == ("commit", 2)
    named = before.index(("rename", shard.stat().st_ino))
    for file in (*shard.iterdir(), shard):
        assert ("sync", file.stat().st_ino) in before[:named], file
    assert ("sync", shard.parent.stat().st_ino) in before[named:]
    for directory in (shard.parents[1], path, path.parent, tmp_path):  # each has got a new entry
        assert ("sync", directory.stat().st_ino) in before, directory
    for file in (path / MANIFEST, shard.parents[1] / "spec.json"):
        assert ("sync", file.stat().st_ino) in before[:named], file


def test_specs_and_info_list_what_there_is(store: FeatureStore) -> None:
    other = FeatureSpec(**{**SPEC.__dict__, "output": "mean"})
    store.put(other, keys([0]), features([7])[:, 0])
    store.put(SPEC, keys([1, 3]), features([1, 3]))  # 1 once more, as another process may write it
    found = FeatureStore(store.path)
    assert found.specs() == {SPEC.digest: SPEC, other.digest: other}
    by_digest = {info.digest: info for info in found.info()}
    assert [(by_digest[spec.digest].n_images, by_digest[spec.digest].n_shards) for spec in (SPEC, other)] == [
        (4, 3),
        (1, 1),
    ]
    assert json.loads((store.path / SPEC.digest / "spec.json").read_text())["weights"] == "weights"
    np.testing.assert_array_equal(store.get(other, keys([0])), features([7])[:, 0])


def test_gc_keeps_what_it_is_told_to(store: FeatureStore) -> None:
    other = FeatureSpec(**{**SPEC.__dict__, "output": "mean"})
    store.put(other, keys([0]), features([7])[:, 0])
    for keep in ([], [""], ["x"], [SPEC.digest, "0" * 40]):
        with pytest.raises(ValueError, match="expected the digest of"):
            store.gc(keep)
    would = store.gc([SPEC.digest[:8]], dry_run=True)
    assert set(store.specs()) == {SPEC.digest, other.digest}
    assert store.gc([SPEC.digest[:8]]) == would > 0
    assert set(store.specs()) == {SPEC.digest}
    assert store.missing(other, keys([0])) == keys([0])
    assert_holds(store, range(3))
    store.put(other, keys([0]), features([7])[:, 0])
    np.testing.assert_array_equal(store.get(other, keys([0])), features([7])[:, 0])
