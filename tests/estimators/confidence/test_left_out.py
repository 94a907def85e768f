"""Probabilities of samples by fits that did not see them."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import KFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from frofa.estimators import (
    FewShotClassifier,
    LogisticProbeClassifier,
    PrototypeClassifier,
    RidgeProbeClassifier,
    ShrinkageProbeClassifier,
)
from frofa.estimators.batched.left_out import left_out_proba
from frofa.estimators.core.confident.folds import assign_weighted

Array = npt.NDArray[Any]


def samples(seed: int = 0) -> tuple[Array, Array]:
    """Two classes of 10 and 8 samples, and one of a single one."""
    rng = np.random.default_rng(seed)
    y = np.repeat(["ant", "bee", "cow"], [10, 8, 1])
    return rng.normal(size=(19, 6)) + np.repeat([0, 2, 4], [10, 8, 1])[:, None], y


@pytest.mark.parametrize("head", [RidgeProbeClassifier(), PrototypeClassifier(), ShrinkageProbeClassifier()])
def test_closed_forms_are_used(head: Any) -> None:
    X, y = samples()
    classes, proba = left_out_proba(head, X, y)
    assert classes.tolist() == ["ant", "bee", "cow"]
    assert not hasattr(head, "classes_")
    np.testing.assert_array_equal(proba, head.fit(X, y).loo_proba_)
    assert np.isnan(proba[-1]).all()
    assert np.isfinite(proba[:-1]).all()


def test_the_blend_gives_its_own() -> None:
    X, y = samples()
    head = FewShotClassifier()
    np.testing.assert_array_equal(left_out_proba(head, X, y)[1], head.fit(X, y).out_of_fold_proba_)


@pytest.mark.parametrize(
    "classifier",
    [
        LogisticProbeClassifier(C=0.1),
        RidgeProbeClassifier(1.0, cv=KFold(3), calibrate=False),
        LogisticRegression(C=0.1),
        make_pipeline(StandardScaler(), LogisticRegression()),
    ],
    ids=lambda one: type(one).__name__,
)
@pytest.mark.parametrize("frame", [False, True])
def test_others_are_fitted_to_folds(classifier: Any, frame: bool) -> None:
    X, y = samples()
    given: Any = pd.DataFrame(X, columns=list("abcdef")) if frame else X
    proba = left_out_proba(classifier, given, y, n_folds=3, random_state=1)[1]
    folds = assign_weighted(np.unique(y, return_inverse=True)[1], np.ones(19), 3, np.random.RandomState(1))
    for fold in range(3):
        expected = classifier.fit(X[folds != fold], y[folds != fold]).predict_proba(X[folds == fold])
        np.testing.assert_allclose(proba[folds == fold], expected, rtol=1e-4, atol=1e-7)
    assert np.isnan(proba[-1]).all()


@pytest.mark.parametrize("classifier", [ShrinkageProbeClassifier(), LogisticRegression()])
def test_samples_without_weight_are_predicted_by_the_others(classifier: Any) -> None:
    X, y = samples()
    weights = np.ones(19)
    weights[[0, 12]] = 0
    proba = left_out_proba(classifier, X, y, sample_weight=weights)[1]
    whole = classifier.fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(proba[[0, 12]], whole.predict_proba(X[[0, 12]]), rtol=1e-9)
    without = left_out_proba(classifier, X[weights > 0], y[weights > 0])[1]
    np.testing.assert_allclose(proba[weights > 0], without, rtol=1e-6)


def test_more_folds_than_samples_are_leave_one_out() -> None:
    X, y = samples()
    proba = left_out_proba(LogisticRegression(), X, y, n_folds=50)[1]
    rest = np.arange(19) != 3
    expected = LogisticRegression().fit(X[rest], y[rest]).predict_proba(X[3:4])
    np.testing.assert_allclose(proba[3:4], expected, rtol=1e-6)


def test_what_cannot_be_done_is_said() -> None:
    X, y = samples()
    with pytest.raises(ValueError, match=r"expected a classifier with predict_proba\. Got RidgeClassifier"):
        left_out_proba(RidgeClassifier(), X, y)
    with pytest.raises(ValueError, match=r"KNeighborsClassifier takes no sample_weight\. Got some"):
        left_out_proba(KNeighborsClassifier(2), X, y, sample_weight=np.ones(19))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        left_out_proba(PrototypeClassifier(), X, y[:-1])
    with pytest.raises(ValueError, match="parameter of RidgeProbeClassifier must be"):
        left_out_proba(RidgeProbeClassifier(-1.0), X, y)
