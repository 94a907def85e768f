"""FeatureBlocks in heads, searches and scikit-learn's tools: as the array that they are, rows whole, lazy or not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from store_helpers import SPEC, keys

from frofa import FeatureBlocks, FeatureStore
from frofa.estimators import (
    BatchedSearchCV,
    LogisticProbeClassifier,
    MAPClassifier,
    PrototypeClassifier,
    RidgeProbeClassifier,
    ShrinkageProbeClassifier,
)

N, VIEWS = 24, 3
rng = np.random.default_rng(0)
POOLED = rng.normal(size=(VIEWS, N, 5)).astype(np.float32)
MEAN = rng.normal(size=(VIEWS, N, 3)).astype(np.float32)
TOKENS = rng.normal(size=(VIEWS, N, 4, 3)).astype(np.float32)
y = np.array(["a", "b", "c"] * 8)
POOLED[:, y == "b"] += 0.8
TOKENS[:, y == "b"] += 0.4
HEADS = [PrototypeClassifier(), RidgeProbeClassifier(), LogisticProbeClassifier(C=0.1)]


@pytest.fixture(params=["in memory", "lazy"])
def blocks(request: pytest.FixtureRequest, tmp_path: Path) -> FeatureBlocks:
    parts = {"pooled": POOLED, "mean": MEAN, "tokens": TOKENS}
    if request.param == "in memory":
        return FeatureBlocks({name: list(views) for name, views in parts.items()})
    store = FeatureStore(tmp_path / "store")
    return FeatureBlocks(
        {name: [_stored(store, name, v, values) for v, values in enumerate(views)] for name, views in parts.items()}
    )


def _stored(store: FeatureStore, name: str, view: int, values: Any) -> Any:
    spec = replace(SPEC, output=name, preprocessing=str(view))
    store.put(spec, keys(range(N)), values)
    return store.features(spec, keys(range(N)))


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_probes_take_blocks_as_the_array_that_they_are(head: Any, blocks: FeatureBlocks) -> None:
    array = np.asarray(blocks)
    fitted, expected = clone(head).fit(blocks, y), clone(head).fit(array, y)
    assert fitted.n_features_in_ == 8
    np.testing.assert_array_equal(fitted.predict_proba(blocks), expected.predict_proba(array))
    np.testing.assert_array_equal(
        cross_val_predict(clone(head), blocks, y, cv=3), cross_val_predict(clone(head), array, y, cv=3)
    )


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_probes_average_the_tokens_of_plain_images_where_there_is_nothing_else(
    head: Any, blocks: FeatureBlocks
) -> None:
    tokens = blocks.select(["tokens"])
    expected = clone(head).fit(TOKENS[0], y).predict_proba(TOKENS[0])
    np.testing.assert_allclose(clone(head).fit(tokens, y).predict_proba(tokens), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", [BatchedSearchCV, GridSearchCV])
@pytest.mark.parametrize("scaled", [False, True])
def test_searches_find_what_they_find_on_the_array(kind: Any, scaled: bool, blocks: FeatureBlocks) -> None:
    head = RidgeProbeClassifier()
    model = make_pipeline(StandardScaler(), head) if scaled else head
    grid = {("ridgeprobeclassifier__" if scaled else "") + "alphas": [(0.1,), (10.0,)]}
    found = kind(model, grid, cv=3).fit(blocks, y)
    expected = kind(model, grid, cv=3).fit(np.asarray(blocks), y)
    np.testing.assert_array_equal(found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(found.predict(blocks), expected.predict(np.asarray(blocks)))


@pytest.mark.parametrize("head", HEADS[:2], ids=lambda head: type(head).__name__)
@pytest.mark.parametrize("given", ["blocks", "array"])
def test_searches_average_lazy_tokens(head: Any, given: str, blocks: FeatureBlocks) -> None:
    tokens: Any = blocks.select(["tokens"]) if given == "blocks" else blocks.views("tokens")[0]
    name, values = (
        ("temperature", [1.0, 10.0]) if isinstance(head, PrototypeClassifier) else ("alphas", [(0.1,), (10.0,)])
    )
    found = BatchedSearchCV(head, {name: values}, cv=3).fit(tokens, y)
    expected = BatchedSearchCV(head, {name: values}, cv=3).fit(TOKENS[0], y)
    np.testing.assert_array_equal(found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"])


def test_other_scorers_get_whole_blocks(blocks: FeatureBlocks) -> None:
    seen: list[Any] = []

    def scorer(model: Any, X: Any, labels: Any) -> float:
        seen.append(X)
        return float(model.score(X, labels))

    BatchedSearchCV(RidgeProbeClassifier(), {"alphas": [(1.0,)]}, cv=3, scoring=scorer).fit(blocks, y)
    assert {type(X) for X in seen} == {FeatureBlocks}
    assert [(len(X), X.n_views, X.names) for X in seen] == [(8, VIEWS, blocks.names)] * 3


def test_searches_with_a_checkpoint_know_their_blocks(blocks: FeatureBlocks, tmp_path: Path) -> None:
    file = tmp_path / "search.jsonl"

    def search(X: Any) -> Any:
        return BatchedSearchCV(RidgeProbeClassifier(), {"alphas": [(0.1,), (10.0,)]}, cv=3, checkpoint=file).fit(X, y)

    first, lines = search(blocks), file.read_bytes()
    again = search(blocks)
    assert file.read_bytes() == lines
    np.testing.assert_array_equal(first.cv_results_["mean_test_score"], again.cv_results_["mean_test_score"])
    with pytest.raises(ValueError, match="X"):
        search(blocks.select(n_views=2))


def test_features_of_several_steps_stand_side_by_side(blocks: FeatureBlocks) -> None:
    union = make_union(StandardScaler(), FunctionTransformer())
    array = np.asarray(blocks)
    np.testing.assert_array_equal(union.fit_transform(blocks, y), union.fit_transform(array, y))
    model = make_pipeline(union, LogisticRegression())
    np.testing.assert_array_equal(model.fit(blocks, y).predict(blocks), model.fit(array, y).predict(array))


def test_searches_over_token_heads_train_on_all_views(blocks: FeatureBlocks) -> None:
    head = MAPClassifier(augment=None, num_heads=1, n_steps=4, batch_size=8, random_state=0, device="cpu")
    found = BatchedSearchCV(head, {"lr": [0.01, 0.1]}, cv=3).fit(blocks, y)
    expected = GridSearchCV(head, {"lr": [0.01, 0.1]}, cv=3).fit(blocks, y)
    np.testing.assert_array_equal(found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"])
    probabilities = found.predict_proba(blocks)
    np.testing.assert_allclose(probabilities, expected.predict_proba(blocks), atol=1e-4)
    plain = found.predict_proba(blocks.select(n_views=1))
    assert np.abs(probabilities - plain).max() > 1e-3


@pytest.mark.parametrize("kind", [BatchedSearchCV, GridSearchCV])
def test_searches_over_the_shrinkage_probe_keep_blocks_apart(kind: Any, blocks: FeatureBlocks) -> None:
    """It normalises each block by itself, and so must not be given the array that other probes are."""
    found = kind(ShrinkageProbeClassifier(), {"class_weight": [None, "balanced"]}, cv=3).fit(blocks, y)
    assert found.best_estimator_.blocks_ == {"pooled": 5, "mean": 3}
    expected = ShrinkageProbeClassifier().fit(blocks, y).predict_proba(blocks)
    np.testing.assert_allclose(found.predict_proba(blocks), expected, atol=1e-9)
