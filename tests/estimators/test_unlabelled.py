"""Samples without labels: which they are, and what heads make of them."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import frofa
from frofa import FeatureBlocks
from frofa.estimators import (
    BatchedSearchCV,
    FewShotClassifier,
    RidgeProbeClassifier,
    ShrinkageProbeClassifier,
    TransductiveClassifier,
)
from frofa.estimators.batched.jobs import Job, fit_many
from frofa.estimators.batched.left_out import left_out_proba
from frofa.estimators.core.unlabelled import labelled_rows
from frofa.exceptions import UnlabelledWarning

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 8)) + np.repeat(np.arange(4), 10)[:, None]
Y = np.repeat([0, 1, 2, -1], 10)
ORDER = RNG.permutation(40)
HEADS = [ShrinkageProbeClassifier, FewShotClassifier]


def known_of(y: Any, unlabeled: Any = "auto") -> list[bool] | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnlabelledWarning)
        found = labelled_rows(y, unlabeled)
    return None if found is None else found.tolist()


@pytest.mark.parametrize(
    ("y", "unlabeled", "expected"),
    [
        ([-1, 1, -1], "auto", None),
        ([-1, 0, 1], "auto", [False, True, True]),
        ([-1.0, 0.0, 1.0], "auto", [False, True, True]),
        ([-1, 0, 1], None, None),
        ([-1, 1, -1], -1, [False, True, False]),
        ([7, 1, -1], 7, [False, True, True]),
        ([True, False, True], 1, None),
        (["a", "b", ""], "auto", None),
        (["a", "b", ""], "", [True, True, False]),
        (["a", None, "b"], "auto", [True, False, True]),
        (["a", float("nan"), "b"], "auto", [True, False, True]),
        (["a", -1, "b"], "auto", [True, False, True]),
        (["a", "-1", "b"], "auto", None),
        (["a", "a", -1], "auto", [True, True, False]),
        (pd.Series(["a", pd.NA, "b"], dtype="string"), "auto", [True, False, True]),
        (pd.Series([0, pd.NA, 1], dtype="Int64"), "auto", [True, False, True]),
        (np.array(["2026-01-01", "NaT"], "datetime64[D]"), "auto", [True, False]),
        ([0.0, float("nan"), 1.0], "auto", [True, False, True]),
        (np.array([None, 0, 1, -1], object), -1, [False, True, True, False]),
        (np.array([None, "a"], object), None, None),
    ],
)
def test_which_samples_have_a_label(y: Any, unlabeled: Any, expected: Any) -> None:
    assert known_of(y, unlabeled) == expected


@pytest.mark.parametrize("head", HEADS)
def test_minus_one_among_three_numbers_is_told_once_and_silenced(head: Any) -> None:
    with pytest.warns(UnlabelledWarning, match=r"10 samples .*unlabeled=-1 .*unlabeled=None makes -1 a class") as told:
        fitted = head().fit(X, Y)
    assert len(told) == 1
    assert fitted.classes_.tolist() == [0, 1, 2]
    assert head(unlabeled=-1).fit(X, Y).classes_.tolist() == [0, 1, 2]
    assert head(unlabeled=None).fit(X, Y).classes_.tolist() == [-1, 0, 1, 2]
    assert head().fit(X[20:], Y[20:]).classes_.tolist() == [-1, 2]


@pytest.mark.parametrize("head", HEADS)
def test_samples_without_labels_are_a_background(head: Any) -> None:
    fitted = head(unlabeled=-1).fit(X[ORDER], Y[ORDER])
    expected = ShrinkageProbeClassifier(background=X[30:]).fit(X[:30], Y[:30])
    np.testing.assert_allclose(fitted.predict_proba(X), expected.predict_proba(X), atol=1e-12)
    without = ShrinkageProbeClassifier().fit(X[:30], Y[:30])
    assert np.abs(fitted.predict_proba(X) - without.predict_proba(X)).max() > 1e-3
    # A row for every sample: of NaN where there is no label.
    left_out = getattr(fitted, fitted._left_out_in)
    assert left_out.shape == (40, 3)
    np.testing.assert_allclose(left_out[Y[ORDER] >= 0], expected.loo_proba_[ORDER[Y[ORDER] >= 0]], atol=1e-12)
    assert np.isnan(left_out[Y[ORDER] < 0]).all()


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("gap", [None, float("nan"), -1])
def test_string_labels_with_gaps(head: Any, gap: Any) -> None:
    y = [["cat", "dog", "owl", gap][code] for code in Y]
    expected = head(unlabeled=-1).fit(X, Y)
    for given in (y, np.array(y, object), pd.Series(y)):
        fitted = head().fit(X, given)
        assert fitted.classes_.tolist() == ["cat", "dog", "owl"]
        np.testing.assert_array_equal(fitted.predict_proba(X), expected.predict_proba(X))
    copied = pickle.loads(pickle.dumps(clone(head()).fit(X, y)))  # noqa: S301
    np.testing.assert_array_equal(copied.predict_proba(X), expected.predict_proba(X))


@pytest.mark.parametrize(
    ("gaps", "kind"),
    [
        (pd.Series([0, 1, 2, pd.NA], dtype="Int64"), "i"),
        (pd.Series([2**53, 2**53 + 1, 2**53 + 3, pd.NA], dtype="Int64"), "i"),
        (pd.Series([0, 1, 2, None]), "i"),  # which pandas makes floats of
        (np.array([0.0, 1.0, 2.0, np.nan]), "i"),
        ([0, 1, 2, None], "i"),
        (np.array([0.0, 1.0, 2.0, -1.0]), "f"),
    ],
)
def test_whole_numbers_with_gaps_are_integers(gaps: Any, kind: str) -> None:
    y = gaps.iloc[Y].reset_index(drop=True) if isinstance(gaps, pd.Series) else np.asarray(gaps)[Y]
    expected = [int(label) for label in list(gaps)[:3]]
    given = y.tolist() if isinstance(gaps, list) else y
    for head in (ShrinkageProbeClassifier(unlabeled=-1), TransductiveClassifier(unlabeled=-1)):
        classes = head.fit(X, given).classes_
        assert classes.tolist() == expected
        assert classes.dtype.kind == kind


def test_a_name_for_none_beside_gaps_of_pandas() -> None:
    y = pd.Series(["a", "b", "unknown", pd.NA], dtype=object).iloc[Y]
    assert ShrinkageProbeClassifier(unlabeled="unknown").fit(X, y).classes_.tolist() == ["a", "b"]


def test_weights_of_samples_without_labels_are_whether_they_count() -> None:
    weights = np.where(Y < 0, 3.0, 1.0)
    weights[30:35] = 0
    fitted = ShrinkageProbeClassifier(unlabeled=-1).fit(X, Y, weights)
    expected = ShrinkageProbeClassifier(background=X[35:]).fit(X[:30], Y[:30])
    np.testing.assert_allclose(fitted.predict_proba(X), expected.predict_proba(X), atol=1e-12)
    assert fitted.loo_proba_.shape == (40, 3)


def test_blocks_with_views_and_a_background_beside() -> None:
    blocks = FeatureBlocks({"a": [X, X + 0.1], "b": [X[:, :3], X[:, 1:4]]})
    fitted = ShrinkageProbeClassifier(unlabeled=-1, background=blocks[30:33]).fit(blocks[:30], Y[:30])
    pooled = ShrinkageProbeClassifier(unlabeled=-1).fit(blocks[:33], Y[:33])
    np.testing.assert_allclose(fitted.predict_proba(blocks), pooled.predict_proba(blocks), atol=1e-12)
    with pytest.raises(ValueError, match="expected 1 views"):
        ShrinkageProbeClassifier(unlabeled=-1, background=np.asarray(blocks)[:3], block_sizes=[8, 3]).fit(blocks, Y)


def test_samples_come_bit_by_bit_and_a_saved_head_goes_on(tmp_path: Path) -> None:
    whole = ShrinkageProbeClassifier(unlabeled=-1).fit(X, Y)
    first = ShrinkageProbeClassifier().partial_fit(X[::2], Y[::2], classes=[0, 1, 2])
    frofa.save(first, tmp_path / "head.frofa")
    again: Any = frofa.load(tmp_path / "head.frofa")
    again.partial_fit(X[1::2], Y[1::2])
    np.testing.assert_allclose(again.predict_proba(X), whole.predict_proba(X), atol=1e-12)
    assert len(again.support_["labels"]) == 30
    assert again.support_["unlabelled"]["features"].shape == (10, 1, 8)
    dropped = again.drop_class(2)
    expected = ShrinkageProbeClassifier(background=X[30:]).fit(X[:20], Y[:20])
    np.testing.assert_allclose(dropped.predict_proba(X), expected.predict_proba(X), atol=1e-12)


@pytest.mark.parametrize("head", HEADS)
def test_many_fits_are_those_of_each(head: Any) -> None:
    rows = [np.arange(0, 40, 2), np.arange(1, 40, 2), np.arange(30)]
    y = np.array(["cat", "dog", "owl", None], object)[Y]
    for part, found in zip(rows, fit_many(X, y, [Job(head(), part) for part in rows]), strict=True):
        assert not isinstance(found, Exception)
        np.testing.assert_allclose(found.predict_proba(X), head().fit(X[part], y[part]).predict_proba(X), atol=1e-12)


def test_a_search_scores_samples_with_labels_alone() -> None:
    order = ORDER
    for head in (ShrinkageProbeClassifier(unlabeled=-1), make_pipeline(FunctionTransformer(), FewShotClassifier())):
        y = np.array(["cat", "dog", "owl", None], object)[Y] if hasattr(head, "steps") else Y
        name = "fewshotclassifier__class_weight" if hasattr(head, "steps") else "class_weight"
        search = BatchedSearchCV(head, {name: [None, "balanced"]}, cv=3, error_score="raise").fit(X[order], y[order])
        # By hand: folds of the samples with labels, all others to learn from.
        known = np.flatnonzero(Y[order] >= 0)
        scores = []
        for train, test in StratifiedKFold(3).split(known, Y[order][known]):
            rows = order[known[train]]
            fitted = ShrinkageProbeClassifier(background=X[30:]).fit(X[rows], Y[rows])
            scores.append(fitted.score(X[order[known[test]]], Y[order[known[test]]]))
        np.testing.assert_allclose(search.cv_results_["mean_test_score"], np.mean(scores))
        assert search.classes_.tolist() == (["cat", "dog", "owl"] if hasattr(head, "steps") else [0, 1, 2])


@pytest.mark.parametrize("head", HEADS)
def test_left_out_probabilities_are_of_samples_with_labels(head: Any) -> None:
    y = np.array(["cat", "dog", "owl", None], object)[Y]
    fitted = head().fit(X, y)
    classes, proba = left_out_proba(head(), X, y)
    assert classes.tolist() == ["cat", "dog", "owl"]
    np.testing.assert_array_equal(proba, getattr(fitted, fitted._left_out_in))
    assert np.isnan(proba[Y < 0]).all()
    assert np.isfinite(proba[Y >= 0]).all()


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="Got none with a label"):
        ShrinkageProbeClassifier(unlabeled=-1).fit(X[:4], [-1] * 4)
    with pytest.raises(ValueError, match="Got one class only: 0"):
        ShrinkageProbeClassifier(unlabeled=-1).fit(X[:4], [-1, 0, 0, 0])
    with pytest.raises(ValueError, match="expected a label of every sample"):
        ShrinkageProbeClassifier(unlabeled=None).fit(X[:4], np.array(["a", "b", None, "a"], object))
    # As in scikit-learn, where estimators that do not learn from samples without labels take -1 as a class.
    assert RidgeProbeClassifier().fit(X, Y).classes_.tolist() == [-1, 0, 1, 2]
    with pytest.raises(ValueError, match="inconsistent numbers"):
        ShrinkageProbeClassifier(unlabeled=-1).fit(X[:5], [0, 1, 2, -1])
