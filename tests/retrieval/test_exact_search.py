"""Exact search finds what float64 would, whatever the features are and wherever they lie."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from retrieval_helpers import POOLED, rows, stored
from scipy.sparse import csr_matrix
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from frofa import FeatureIndex
from frofa.retrieval import exact
from frofa.retrieval import rows as rows_module
from frofa.store import FeatureStore

CDIST = {"cosine": "cosine", "euclidean": "euclidean"}


def by_hand(features: Any, queries: Any, k: int, metric: str) -> tuple[Any, Any]:
    features, queries = np.asarray(features, np.float64), np.asarray(queries, np.float64)
    all_ = -queries @ features.T if metric == "inner_product" else cdist(queries, features, CDIST[metric])
    order = np.argsort(all_, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(all_, order, 1), order


@pytest.fixture(params=["one chunk", "many chunks"])
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "many chunks":
        for module in (rows_module, exact):
            monkeypatch.setattr(module, "CHUNK", 16 * 70)
        monkeypatch.setattr(exact, "SCORES", 70 * 7)
    return str(request.param)


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "inner_product"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.usefixtures("chunks")
def test_neighbours_are_those_of_float64(metric: Any, dtype: str) -> None:
    features, queries = rows(301, 16, dtype=dtype), rows(23, 16, seed=1, dtype="float64")
    distances, indices = FeatureIndex(features, metric=metric).kneighbors(queries, 7)
    expected = by_hand(features, queries, 7, metric)
    np.testing.assert_array_equal(indices, expected[1])
    np.testing.assert_allclose(distances, expected[0], rtol=1e-9, atol=1e-12)
    assert (distances.dtype, indices.dtype) == (np.float64, np.int64)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_it_answers_as_scikit_learn(metric: Any) -> None:
    features, queries = rows(80, 5, dtype="float64"), rows(9, 5, seed=1, dtype="float64")
    ours, theirs = FeatureIndex(features, metric=metric), NearestNeighbors(metric=metric, algorithm="brute")
    theirs.fit(features)
    for X in (queries, None):
        for one, other in zip(ours.kneighbors(X, 4), theirs.kneighbors(X, 4), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-7)
        for mode in ("connectivity", "distance"):
            one, other = ours.kneighbors_graph(X, 4, mode), theirs.kneighbors_graph(X, 4, mode)
            np.testing.assert_allclose(one.toarray(), other.toarray(), atol=1e-7)
    assert ours.kneighbors(queries, return_distance=False).shape == (9, 5)


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "inner_product"])
@pytest.mark.usefixtures("chunks")
def test_of_equal_rows_those_come_first_that_come_first(metric: Any) -> None:
    rng = np.random.default_rng(0)
    distinct = rng.standard_normal((4, 16)).astype(np.float16)
    which = rng.integers(0, 4, 500)
    found = FeatureIndex(distinct[which], metric=metric).kneighbors(distinct.astype(np.float64), 30)
    nearest = by_hand(distinct, distinct, 1, metric)[1][:, 0]
    for query, indices in enumerate(found[1]):
        np.testing.assert_array_equal(indices, np.flatnonzero(which == nearest[query])[:30])


@pytest.mark.usefixtures("chunks")
def test_gaps_below_the_error_of_float32_are_seen() -> None:
    # A far offset: float32 has 1e-7 of it, the distances differ by 1e-9 of it.
    features = 1000 + 1e-6 * np.random.default_rng(0).standard_normal((200, 16))
    found = FeatureIndex(features, metric="euclidean").kneighbors(features[:20], 3)
    np.testing.assert_array_equal(found[1], by_hand(features, features[:20], 3, "euclidean")[1])


def test_each_row_has_others_as_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frofa.retrieval.base.QUERIES", 7)
    features = np.repeat(rows(10, 4), 8, axis=0)
    indices = FeatureIndex(features).kneighbors(n_neighbors=5, return_distance=False)
    assert not (indices == np.arange(80)[:, None]).any()
    np.testing.assert_array_equal(indices // 8, np.repeat(np.arange(10), 8)[:, None].repeat(5, 1))


def test_rows_of_zeros_are_at_cosine_distance_one() -> None:
    found = FeatureIndex(np.array([[0, 0], [1, 0], [-1, 0]], np.float32)).kneighbors([[1.0, 0], [0, 0]], 3)
    np.testing.assert_array_equal(found[0], [[0, 1, 2], [1, 1, 1]])
    np.testing.assert_array_equal(found[1], [[1, 0, 2], [0, 1, 2]])


@pytest.mark.parametrize("kind", ["tensor", "bfloat16", "read-only map", "reversed", "list", "integers"])
def test_rows_of_all_kinds(kind: str, tmp_path: Path) -> None:
    values = np.round(4 * rows(40, 6, dtype="float32"))
    np.save(tmp_path / "rows.npy", values)
    features: Any = {
        "tensor": torch.from_numpy(values),
        "bfloat16": torch.from_numpy(values).bfloat16(),
        "read-only map": np.load(tmp_path / "rows.npy", mmap_mode="r"),
        "reversed": np.ascontiguousarray(values[::-1])[::-1],
        "list": values.tolist(),
        "integers": values.astype(int),
    }[kind]
    found = FeatureIndex(features).kneighbors(values[:5], 4)
    np.testing.assert_array_equal(found[1], by_hand(values, values[:5], 4, "cosine")[1])


def test_a_store_is_searched_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = rows(200, 16)
    store = stored(tmp_path / "store", values)
    monkeypatch.setattr(exact, "CHUNK", 16 * 32)
    expected = by_hand(values, values[:9], 6, "cosine")[1]
    for source in (store, tmp_path / "store", str(tmp_path / "store"), store.features(POOLED)):
        index = FeatureIndex(source)
        np.testing.assert_array_equal(index.kneighbors(values[:9], 6, return_distance=False), expected)
        assert index.spec == POOLED
        assert index.keys is not None
        assert len(index.keys) == 200
    store.compact()
    np.testing.assert_array_equal(index.kneighbors(values[:9], 6, return_distance=False), expected)


def test_an_image_stored_twice_is_found_once(tmp_path: Path) -> None:
    values = rows(30, 8)
    store = stored(tmp_path, values)
    stored(tmp_path, values[:10], 1)
    assert len(FeatureIndex(store)) == 30


def test_filters_by_mask_and_label() -> None:
    features, labels = rows(120, 8), np.array(["cat", "dog", "owl"])[np.arange(120) % 3]
    index = FeatureIndex(features, labels=labels)
    for where, mask in (
        ("dog", labels == "dog"),
        (["dog", "owl"], labels != "cat"),
        (np.arange(120) > 50, np.arange(120) > 50),
    ):
        found = index.kneighbors(features[:9], 4, where=where)
        positions = np.flatnonzero(mask)
        expected = by_hand(features[positions], features[:9], 4, "cosine")
        np.testing.assert_array_equal(found[1], positions[expected[1]])
        np.testing.assert_allclose(found[0], expected[0], atol=1e-12)
    with pytest.raises(ValueError, match=r"rows that 'where' lets through = 40"):
        index.kneighbors(features[:1], 41, where="cat")
    with pytest.raises(ValueError, match=r"Got 'bat', which no row has"):
        index.kneighbors(features[:1], where="bat")
    with pytest.raises(ValueError, match=r"mask of shape \(120,\)"):
        index.kneighbors(features[:1], where=np.ones(3, bool))
    with pytest.raises(ValueError, match="needs an index with labels"):
        FeatureIndex(features).kneighbors(features[:1], where="cat")


def test_labels_and_names_by_key(tmp_path: Path) -> None:
    store = stored(tmp_path, rows(6, 4))
    keys = [key.tobytes().hex() for key in store.features(POOLED).keys]
    index = FeatureIndex(store, labels={key: i % 2 for i, key in enumerate(keys)}, names={keys[3]: "a.png"})
    assert index.labels is not None
    assert index.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert index.names is not None
    assert index.names.tolist() == [None, None, None, "a.png", None, None]
    with pytest.raises(ValueError, match="one of labels for each of 6 rows"):
        FeatureIndex(store, labels=[1, 2])
    with pytest.raises(ValueError, match="names by the keys of images, such as"):
        FeatureIndex(store, names={"a.png": "a"})


def test_what_cannot_be_searched_is_said() -> None:
    features = rows(10, 4)
    for wrong, error in (
        (np.zeros((3, 4, 5)), "pool tokens first"),
        (np.zeros((0, 4)), "one row or more"),
        (np.array([["a", "b"]]), "Got 'a': texts are embedded by FrozenTextExtractor"),
        (["a.png", "b.png"], "features as vectors"),
        (np.zeros((2, 2), complex), "float16, float32 or float64"),
        (csr_matrix(np.eye(2)), "dense features"),
        (torch.eye(2).to_sparse(), "dense features"),
        (None, "a store or its path"),
    ):
        with pytest.raises((ValueError, TypeError), match=error):
            FeatureIndex(wrong)
    index = FeatureIndex(features)
    with pytest.raises(ValueError, match="X has 3 features, but FeatureIndex is expecting 4"):
        index.kneighbors(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="n_neighbors = 11, n_samples_fit = 10"):
        index.kneighbors(features, 11)
    with pytest.raises(ValueError, match="Expected n_neighbors < n_samples_fit"):
        index.kneighbors(None, 10)
    with pytest.raises(ValueError, match="Expected n_neighbors > 0"):
        index.kneighbors(features, 0)
    for words in (["a red car"], "a red car", np.array(["a red car"])):
        with pytest.raises(TypeError, match=r"queries as vectors.*Got 'a red car'"):
            index.kneighbors(words)
    with pytest.raises(TypeError, match="enter integer value"):
        index.kneighbors(features, 2.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="NaN"):
        index.kneighbors([[np.nan] * 4])
    with pytest.raises(ValueError, match="'metric' to be one of"):
        FeatureIndex(features, metric="manhattan")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'method' to be one of"):
        FeatureIndex(features, method="tree")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="device"):
        FeatureIndex(features, device="toaster")


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("kind", [list, np.float32, torch.tensor])
@pytest.mark.usefixtures("chunks")
def test_rows_that_are_not_finite_are_refused_at_once(wrong: float, kind: Any) -> None:
    features = rows(200, 4, dtype="float32")
    features[150, 2] = wrong
    with pytest.raises(ValueError, match=r"finite.*at row 150"):
        FeatureIndex(features.tolist() if kind is list else kind(features))


@pytest.mark.usefixtures("chunks")
def test_rows_in_files_are_checked_when_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = rows(200, 4, dtype="float32")
    features[150, 2] = np.nan
    np.save(tmp_path / "rows.npy", features)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    store = stored(tmp_path / "store", features[:149].astype(np.float16))
    read: list[int] = []
    whole = rows_module.Rows.read
    monkeypatch.setattr(rows_module.Rows, "read", lambda self, at: read.append(len(at)) or whole(self, at))  # type: ignore[func-returns-value]
    of_files = [FeatureIndex(one) for one in (mapped, mapped[:, 1:], np.asarray(mapped), store, str(store.path))]
    assert not read
    for index in of_files[:3]:
        with pytest.raises(ValueError, match=r"finite.*at row 150"):
            index.kneighbors(np.ones((1, index.n_features_in_)), 1)
        with pytest.raises(ValueError, match=r"finite.*at row 150"):
            index.near_duplicates(0.1)


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ([], "one label or more"),
        (np.zeros(10, bool), "lets through = 0"),
        ((True,) * 3, "mask of shape"),
        (np.zeros((10, 1), bool), "mask of shape"),
        ([["a"]], r"Got shape \(1, 1\)"),
        (["a", "c"], "Got 'c', which no row has"),
        ("", "Got '', which no row has"),
        ([0, 1, 2], r"mask of bools, shape \(10,\). Got 0, which no row has"),
        ({"a": 1}, "which no row has"),
    ],
)
def test_wheres_that_let_nothing_through(where: Any, error: str) -> None:
    index = FeatureIndex(rows(10, 4), labels=list("aaaaabbbbb"))
    with pytest.raises(ValueError, match=error):
        index.kneighbors(index.features, 2, where=where)


def test_wheres_of_all_kinds() -> None:
    index = FeatureIndex(rows(10, 4), labels=list("aaaaabbbbb"))
    expected = index.kneighbors(index.features, 2, where="a")[1]
    for where in (["a"], ("a",), {"a"}, np.array(["a"]), pd.Series(["a"]), (True,) * 5 + (False,) * 5):
        np.testing.assert_array_equal(index.kneighbors(index.features, 2, where=where)[1], expected)


def test_the_spec_is_chosen_or_asked_for(tmp_path: Path) -> None:
    values = rows(12, 4)
    store = stored(tmp_path, values)
    other = POOLED.__class__(**{**vars(POOLED), "weights": "others"})
    stored(tmp_path, values[:5], 1, other)
    with pytest.raises(ValueError, match=r"one kind of vectors.*12 images.*5 images|5 images.*12 images"):
        FeatureIndex(store)
    assert len(FeatureIndex(store, spec=other)) == 5
    assert len(FeatureIndex(store, spec=POOLED.digest[:6])) == 12
    with pytest.raises(ValueError, match="'spec' to be one that"):
        FeatureIndex(store, spec="no such")
    with pytest.raises(OSError, match="no feature store"):
        FeatureIndex(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="There are: nothing"):
        FeatureIndex(FeatureStore(tmp_path / "empty"))
    with pytest.raises(ValueError, match="differ in weights"):
        FeatureIndex(store, spec=POOLED).kneighbors(store.features(other))
