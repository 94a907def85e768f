"""Indices are saved, loaded, and updated, and never serve what is not theirs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from retrieval_helpers import POOLED, rows, stored
from store_helpers import keys

from frofa import FeatureIndex
from frofa.exceptions import StoreError
from frofa.store import FeatureSpec

N, WIDTH = 1500, 16
OTHER = FeatureSpec(**{**vars(POOLED), "weights": "others"})
METHODS: list[Any] = ["exact", "approximate"]


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "approximate":
        pytest.importorskip("faiss")
        monkeypatch.setattr("frofa.retrieval.approximate.building.TRIALS", 64)
    return request.param


def same(one: FeatureIndex, other: FeatureIndex, queries: Any) -> None:
    for left, right in zip(one.kneighbors(queries, 5), other.kneighbors(queries, 5), strict=True):
        np.testing.assert_array_equal(left, right)


def test_it_comes_back_as_it_was(tmp_path: Path, method: Any) -> None:
    values = rows(N, WIDTH)
    store = stored(tmp_path / "store", values)
    labels, names = [("cat", 3, None)[i % 3] for i in range(N)], [f"{i}é.png" if i else None for i in range(N)]
    index = FeatureIndex(store, method=method, labels=labels, names=names)
    folder = index.save()
    assert folder == tmp_path / "store" / "index" / POOLED.digest / "cosine"
    store.compact()
    again = FeatureIndex.load(tmp_path / "store")
    same(index, again, values[:20])
    assert again.method_ == method
    assert again.recall_ == index.recall_
    assert again.labels is not None
    assert again.labels.tolist() == labels
    assert again.names is not None
    assert again.names.tolist() == names
    assert not store.verify()


def test_features_of_an_array_are_known_again(tmp_path: Path, method: Any) -> None:
    values = rows(N, WIDTH, dtype="float32")
    index = FeatureIndex(values, method=method, metric="euclidean")
    with pytest.raises(ValueError, match="expected 'path'"):
        index.save()
    index.save(tmp_path / "index")
    same(index, FeatureIndex.load(values, tmp_path / "index", metric="euclidean"), values[:20])
    with pytest.raises(ValueError, match="an index of these features"):
        FeatureIndex.load(values[::-1], tmp_path / "index", metric="euclidean")
    with pytest.raises(ValueError, match="an index of these features, by 'cosine'"):
        FeatureIndex.load(values, tmp_path / "index")


def test_added_images_are_taken_in(tmp_path: Path, method: Any) -> None:
    values = rows(N + 100, WIDTH)
    store = stored(tmp_path, values[:N])
    FeatureIndex(store, method=method, labels=[0] * N).save()
    store.put(POOLED, keys(range(N, N + 100)), values[N:])
    store.compact()
    index = FeatureIndex.load(store)
    assert len(index) == N
    assert index.update(labels=[1] * 100) == 100
    assert index.update() == 0
    same(index, FeatureIndex(values, method="exact"), values[N - 5 : N + 5])
    assert index.labels is not None
    assert index.labels.tolist() == [0] * N + [1] * 100
    index.save()
    same(FeatureIndex.load(store), index, values[N - 5 : N + 5])


def test_an_index_that_has_grown_much_is_built_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr("frofa.retrieval.approximate.building.TRIALS", 64)
    values = rows(3 * N, WIDTH)
    store = stored(tmp_path, values[:N])
    index = FeatureIndex(store, method="approximate").build()
    store.put(POOLED, keys(range(N, 3 * N)), values[N:])
    index.update()
    index.build()
    assert index._approximate is not None
    assert index._approximate.n_built == 3 * N


def test_another_spec_has_another_index(tmp_path: Path) -> None:
    values = rows(60, WIDTH)
    store = stored(tmp_path, values)
    stored(tmp_path, values[::-1], 1, OTHER)
    folder = FeatureIndex(store, spec=POOLED).save()
    with pytest.raises(StoreError, match="save one first"):
        FeatureIndex.load(store, spec=OTHER)
    # Put in the place of the other's, it is refused.
    moved = tmp_path / "index" / OTHER.digest / "cosine"
    moved.parent.mkdir()
    folder.rename(moved)
    with pytest.raises(ValueError, match=f"Got one of {POOLED.digest[:12]}"):
        FeatureIndex.load(store, spec=OTHER)


def test_images_that_are_gone_are_noticed(tmp_path: Path) -> None:
    store = stored(tmp_path, rows(60, WIDTH))
    elsewhere = FeatureIndex(store).save(tmp_path.with_name("elsewhere"))
    stored(tmp_path, rows(6, WIDTH), 1, OTHER)
    store.gc([OTHER.digest])
    with pytest.raises(ValueError, match="expected 'spec' to be one that"):
        FeatureIndex.load(store, elsewhere, spec=POOLED)
    store.put(POOLED, keys(range(30)), rows(30, WIDTH))
    with pytest.raises(StoreError, match="were removed from"):
        FeatureIndex.load(store, elsewhere, spec=POOLED)


def test_an_index_goes_with_its_features(tmp_path: Path) -> None:
    store = stored(tmp_path, rows(60, WIDTH))
    stored(tmp_path, rows(6, WIDTH), 1, OTHER)
    going, kept = (FeatureIndex(store, spec=spec).save() for spec in (POOLED, OTHER))
    size = sum(file.stat().st_size for file in going.rglob("*") if file.is_file())
    assert store.gc([OTHER.digest], dry_run=True) > size
    assert going.exists()
    store.gc([OTHER.digest])
    assert not going.parent.exists()
    assert len(FeatureIndex.load(store, kept, spec=OTHER)) == 6
    assert FeatureIndex.load(store).spec == OTHER


def test_damage_is_noticed(tmp_path: Path, method: Any) -> None:
    values = rows(N, WIDTH)
    folder = FeatureIndex(values, method=method, labels=[0] * N).save(tmp_path / "index")
    description = folder / "index.json"
    arrays = next(folder.glob("*.safetensors"))
    whole, content = arrays.read_bytes(), json.loads(description.read_bytes())

    def refused(match: str) -> None:
        with pytest.raises(StoreError, match=match):
            FeatureIndex.load(values, folder)

    for damaged in (whole[:-1], whole[:20], b"", whole[:-4] + bytes([whole[-4] ^ 1]) + whole[-3:]):
        arrays.write_bytes(damaged)
        refused("is damaged")
    arrays.unlink()
    refused("it has no arrays-")
    arrays.write_bytes(whole)
    changes: list[dict[str, Any]] = [
        {"shape": [3, 3]},
        {"arrays": "../x"},
        {"format": 9},
        {"labels": []},
        {"method": "tree"},
    ]
    for change in changes:
        description.write_text(json.dumps({**content, **change}))
        refused("is damaged|format 9")
    description.write_text("{")
    refused("is damaged")
    description.unlink()
    refused("save one first")


def test_a_crash_leaves_the_index_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = rows(60, WIDTH)
    FeatureIndex(values, labels=[0] * 60).save(tmp_path)
    monkeypatch.setattr("frofa.retrieval.files.json.dumps", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        FeatureIndex(values, labels=[1] * 60).save(tmp_path)
    monkeypatch.undo()
    index = FeatureIndex.load(values, tmp_path)
    assert index.labels is not None
    assert set(index.labels.tolist()) == {0}


def test_what_cannot_be_saved_or_updated_is_said(tmp_path: Path) -> None:
    values = rows(30, WIDTH)
    with pytest.raises(TypeError, match="labels of text, numbers or None"):
        FeatureIndex(values, labels=np.array([1j] * 30)).save(tmp_path)
    with pytest.raises(TypeError, match="an index of a store to update"):
        FeatureIndex(values).update()
