"""Heads and the detector that reject images of other classes: labels, shares, inputs, saving, searches."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV

import frofa
from frofa import FeatureBlocks
from frofa.estimators import (
    BatchedSearchCV,
    FewShotClassifier,
    LogisticProbeClassifier,
    MAPClassifier,
    NoveltyDetector,
    PrototypeClassifier,
    RidgeProbeClassifier,
    ShrinkageProbeClassifier,
)
from frofa.estimators.batched.jobs import Job, fit_many
from frofa.exceptions import TooFewSamplesWarning

CENTRES = 3 * np.random.default_rng(0).normal(size=(4, 24))


def draw(seed: int, shots: int, classes: Any = (0, 1, 2)) -> tuple[Any, Any]:
    codes = np.repeat(classes, shots)
    return CENTRES[codes] + np.random.default_rng(seed).normal(size=(len(codes), 24)), codes


X, CODES = draw(1, 20)
Y = np.array(["ant", "bee", "cow"])[CODES]
OTHERS = draw(2, 40, (3,))[0]
HEADS: list[Any] = [
    RidgeProbeClassifier(alphas=1.0),
    LogisticProbeClassifier(),
    PrototypeClassifier(),
    ShrinkageProbeClassifier(),
    FewShotClassifier(),
    MAPClassifier(n_steps=5, n_tokens=2, device="cpu", random_state=0),
]
each_head = pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)


@each_head
@pytest.mark.parametrize("method", ["auto", "mahalanobis", "relative", "knn"])
def test_others_are_rejected_and_probabilities_are_as_before(head: Any, method: str, tmp_path: Path) -> None:
    plain = clone(head).set_params(novelty=method).fit(X, Y)
    rejecting = clone(plain).set_params(reject=0.1).fit(X, Y)
    both = np.concatenate([X, OTHERS])
    scores = plain.novelty_score(both)
    assert roc_auc_score(np.arange(100) >= 60, scores) > 0.9
    np.testing.assert_array_equal(rejecting.novelty_score(both), scores)
    np.testing.assert_array_equal(rejecting.novelty_p_value(both), plain.novelty_p_value(both))
    np.testing.assert_array_equal(rejecting.predict_proba(both), plain.predict_proba(both))
    # A threshold and p-values say the same, and what is not rejected has the label that it had.
    found, rejected = rejecting.predict(both), scores > plain.novelty_threshold(0.1)
    np.testing.assert_array_equal(found == "none of these", rejected)
    np.testing.assert_array_equal(rejected, plain.novelty_p_value(both) < 0.1)
    np.testing.assert_array_equal(found[~rejected], plain.predict(both)[~rejected])
    assert rejected[60:].mean() > 0.6
    # Setting it later is as good.
    assert plain.set_params(reject=0.1).predict(both).tolist() == found.tolist()
    frofa.save(rejecting, tmp_path / "head.frofa")
    loaded = frofa.load(tmp_path / "head.frofa")
    assert loaded.predict(both).tolist() == found.tolist()
    np.testing.assert_array_equal(loaded.novelty_p_value(both), rejecting.novelty_p_value(both))


@each_head
def test_energy_is_that_of_the_scores(head: Any) -> None:
    head = clone(head).set_params(novelty="energy", reject=0.1).fit(X, Y)
    known, others = head.novelty_score(draw(3, 30)[0]), head.novelty_score(OTHERS)
    assert roc_auc_score(np.repeat([0, 1], [90, 40]), np.concatenate([known, others])) > 0.5
    assert 0 <= (head.predict(draw(3, 30)[0]) == "none of these").mean() < 0.3
    with pytest.raises(ValueError, match="fitted with novelty='energy': fit again"):
        head.set_params(novelty="knn").novelty_score(X)


@pytest.mark.parametrize("method", ["auto", "mahalanobis"])
@pytest.mark.parametrize("share", [0.05, 0.1])
def test_the_share_of_known_images_is_the_one_that_was_asked_for(share: float, method: Any) -> None:
    found = []
    for seed in range(60):
        head = PrototypeClassifier(reject=share, novelty=method).fit(*draw(2 * seed, 16))
        found.append((head.predict(draw(2 * seed + 1, 100)[0]) == -1).mean())
    assert np.mean(found) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize(
    ("labels", "label", "dtype", "expected"),
    [
        (Y, None, "<U13", "none of these"),
        (Y, "?", "<U3", "?"),
        (Y.astype(object), None, object, "none of these"),
        (CODES.astype(np.uint8), None, np.int64, -1),
        (CODES, 7, np.int64, 7),
        (CODES * 2.0, None, np.float64, -1),
        (pd.Series(Y), None, None, "none of these"),
    ],
)
def test_rejected_samples_have_a_label_of_the_kind_of_the_classes(
    labels: Any, label: Any, dtype: Any, expected: Any
) -> None:
    head = PrototypeClassifier(reject=0.1, reject_label=label).fit(X, labels)
    found = head.predict(np.concatenate([X, OTHERS]))
    assert dtype is None or found.dtype == np.dtype(dtype)
    assert set(found.tolist()) == {*head.classes_.tolist(), expected}


@pytest.mark.parametrize(
    ("params", "labels", "match"),
    [
        ({"reject_label": "bee"}, Y, "such as reject_label='none of these'. Got 'bee', which is one"),
        ({}, CODES - 1, "such as reject_label=-2. Got -1, which is one"),
        ({}, np.where(CODES > 0, 1, -1), "such as reject_label=-2. Got -1, which is one"),
        ({}, np.where(CODES > 0, "none of these", "a"), "such as reject_label='rejected'. Got 'none of these'"),
        ({"reject_label": "other"}, CODES, "of the kind of the classes"),
        ({"reject_label": -1}, Y, "of the kind of the classes"),
        ({"reject": 0.01}, Y, "reject=0.01 needs 99 known samples or more.* Got 60: reject=0.017 or more"),
        ({"reject": 1.0}, Y, "'reject' parameter"),
        ({"novelty": None}, Y, "reject needs a way to tell novelty"),
    ],
)
def test_what_cannot_be_is_refused(params: dict[str, Any], labels: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        PrototypeClassifier(**{"reject": 0.1, **params}).fit(X, labels)


def test_a_head_that_keeps_nothing_says_so() -> None:
    head = PrototypeClassifier(novelty=None).fit(X, Y)
    assert not hasattr(head, "novelty_")
    with pytest.raises(ValueError, match="keeps no samples to tell novelty by"):
        head.novelty_score(X)


def test_views_of_an_image_are_one_sample() -> None:
    noise = np.random.default_rng(5).normal(size=(2, 60, 24))
    views = [10 * (X + each) for each in noise]
    blocks = FeatureBlocks({"a": [view[:, :14] for view in views], "b": [1e3 * view[:, 14:] for view in views]})
    head = FewShotClassifier(reject=0.1).fit(blocks, Y)
    assert head.novelty_["rows"].shape == (60, 24)
    # Each block counts the same, whatever its scale.
    np.testing.assert_allclose(np.linalg.norm(head.novelty_["rows"][:, :14], axis=1), 0.5**0.5, atol=1e-2)
    assert (head.predict(blocks) == "none of these").mean() < 0.2


@pytest.mark.parametrize("head", [RidgeProbeClassifier(), PrototypeClassifier(), ShrinkageProbeClassifier()])
def test_searches_score_what_is_rejected_as_wrong(head: Any) -> None:
    grid = {"reject": [None, 0.3]}
    found = BatchedSearchCV(head, grid, cv=3, error_score="raise").fit(X, Y).cv_results_["mean_test_score"]
    expected = GridSearchCV(head, grid, cv=3, error_score="raise").fit(X, Y).cv_results_["mean_test_score"]
    np.testing.assert_allclose(found, expected)
    assert found[1] < found[0] - 0.1


def test_many_heads_keep_samples_where_they_are_to_reject() -> None:
    jobs = [Job(PrototypeClassifier(reject=share), np.arange(60)) for share in (None, 0.1)]
    plain, rejecting = fit_many(X, Y, jobs)
    assert not hasattr(plain, "novelty_")
    alone: Any = clone(jobs[1].estimator).fit(X, Y)
    assert rejecting.predict(OTHERS).tolist() == alone.predict(OTHERS).tolist()  # type: ignore[union-attr]


def test_weightless_samples_are_not_known() -> None:
    weights = np.tile([1.0, 1.0, 0.0, 2.0], 15)
    head, used = PrototypeClassifier().fit(X, Y, weights), weights > 0
    few = PrototypeClassifier().fit(X[used], Y[used])
    np.testing.assert_array_equal(head.novelty_score(OTHERS), few.novelty_score(OTHERS))


def test_few_samples_of_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frofa.estimators.core.confident.novelty.MOST_ROWS", 24)
    head = PrototypeClassifier().fit(X, Y)
    assert np.bincount(head.novelty_["codes"]).tolist() == [8, 8, 8]


def test_the_detector_rejects_others_and_the_stated_share(tmp_path: Path) -> None:
    detector = NoveltyDetector(reject=0.1).fit(X, Y)
    assert detector.predict(OTHERS).mean() < -0.5
    np.testing.assert_array_equal(detector.predict(OTHERS) == -1, detector.p_value(OTHERS) < 0.1)
    head = PrototypeClassifier(reject=0.1).fit(X, Y)
    np.testing.assert_array_equal(detector.predict(OTHERS) == -1, head.predict(OTHERS) == "none of these")
    assert (detector.scores_ < detector.offset_).mean() == pytest.approx(0.1, abs=0.02)
    frofa.save(detector, tmp_path / "detector.frofa")
    np.testing.assert_array_equal(frofa.load(tmp_path / "detector.frofa").p_value(OTHERS), detector.p_value(OTHERS))


def test_the_detector_takes_blocks_frames_and_no_labels() -> None:
    blocks = FeatureBlocks({"a": [X, X + 0.1], "b": [X[:, :5], X[:, 5:10]]})
    assert NoveltyDetector().fit(blocks).predict(blocks).shape == (60,)
    frame = pd.DataFrame(X, columns=[f"c{i}" for i in range(24)])
    np.testing.assert_allclose(NoveltyDetector().fit(frame, Y).p_value(frame), NoveltyDetector().fit(X, Y).p_value(X))


def test_the_detector_of_too_few_rejects_nothing_and_says_so() -> None:
    with pytest.warns(TooFewSamplesWarning, match="needs 19 known samples or more.* Got 18"):
        detector = NoveltyDetector().fit(X[:18])
    assert set(detector.predict(OTHERS)) == {1}
    assert detector.p_value(OTHERS).min() == pytest.approx(1 / 19)
