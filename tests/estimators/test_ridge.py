import re
from typing import Any

import numpy as np
import pytest
from features import CLASSES, gaussian, real_features
from sklearn.metrics import log_loss

from frofa.estimators import RidgeProbeClassifier
from frofa.estimators.ridge import DEFAULT_ALPHAS


def test_default_alphas_are_those_of_the_paper() -> None:
    assert [np.log2(alpha) for alpha in DEFAULT_ALPHAS] == list(range(-20, 11))
    errors = RidgeProbeClassifier().fit(*gaussian(20, 5)).errors_
    assert errors is not None
    assert errors.shape == (31,)


def test_chosen_alpha_is_the_one_used() -> None:
    X, y = real_features("mean").shots(5)
    head = RidgeProbeClassifier().fit(X, y)
    assert head.errors_ is not None
    assert head.alpha_ == DEFAULT_ALPHAS[head.errors_.argmin()]
    np.testing.assert_array_equal(head.coef_, RidgeProbeClassifier(head.alpha_).fit(X, y).coef_)


@pytest.mark.parametrize("alphas", [3.0, [3.0], np.array([3.0]), 3])
def test_one_alpha_is_used_as_given(alphas: Any) -> None:
    head = RidgeProbeClassifier(alphas).fit(*gaussian(20, 5))
    assert head.alpha_ == 3.0
    assert head.errors_ is None


@pytest.mark.parametrize("alphas", [0.0, -1.0, [1.0, -0.25], [1.0, float("nan")], [float("inf")], [], [[1.0, 2.0]]])
def test_bad_alphas_are_named(alphas: Any) -> None:
    with pytest.raises(ValueError, match=r"'alphas'.*Got " + re.escape(repr(alphas))):
        RidgeProbeClassifier(alphas).fit(*gaussian(20, 5))


def test_sample_weights_equal_repetition() -> None:
    X, y = gaussian(40, 60)
    counts = np.random.default_rng(1).integers(0, 4, 40)
    weighted = RidgeProbeClassifier(0.5).fit(X, y, counts)
    repeated = RidgeProbeClassifier(0.5).fit(X.repeat(counts, axis=0), y.repeat(counts))
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, atol=1e-9)
    np.testing.assert_allclose(weighted.intercept_, repeated.intercept_, atol=1e-9)


@pytest.mark.parametrize("class_weight", ["balanced", {0: 4.0, 1: 1.0}])
def test_class_weights_are_sample_weights(class_weight: Any) -> None:
    X, y = gaussian(30, 6)[0], np.where(np.arange(30) < 6, 0, 1)
    weights = np.where(y == 0, 30 / 12, 30 / 48) if class_weight == "balanced" else np.where(y == 0, 4.0, 1.0)
    weighted = RidgeProbeClassifier(class_weight=class_weight).fit(X, y)
    by_hand = RidgeProbeClassifier().fit(X, y, weights)
    np.testing.assert_allclose(weighted.coef_, by_hand.coef_, atol=1e-9)
    assert np.abs(weighted.coef_ - RidgeProbeClassifier().fit(X, y).coef_).max() > 1e-3


def test_labels_may_be_strings() -> None:
    X, y = gaussian(60, 12)
    names = np.array(["cat", "ant", "bee"])
    head, coded = RidgeProbeClassifier().fit(X, names[y]), RidgeProbeClassifier().fit(X, y)
    assert head.classes_.tolist() == ["ant", "bee", "cat"]
    np.testing.assert_array_equal(head.predict(X), names[coded.predict(X)])
    np.testing.assert_allclose(head.predict_proba(X)[:, [2, 0, 1]], coded.predict_proba(X), rtol=1e-6)


def test_tokens_are_averaged() -> None:
    tokens, y = real_features("tokens").shots(3)
    pooled = tokens.mean(1, dtype=np.float64)
    head = RidgeProbeClassifier(1.0).fit(tokens, y)
    np.testing.assert_array_equal(head.coef_, RidgeProbeClassifier(1.0).fit(pooled, y).coef_)
    np.testing.assert_array_equal(head.decision_function(tokens), head.decision_function(pooled))


@pytest.mark.parametrize("cv", [None, 5])
@pytest.mark.parametrize("classes", [(), (CLASSES[0], CLASSES[3])])
def test_temperature_improves_held_out_log_loss(cv: int | None, classes: tuple[str, ...]) -> None:
    data = real_features("mean")
    head = RidgeProbeClassifier(cv=cv).fit(*data.shots(20, *classes))
    known = np.isin(data.y_held_out, head.classes_)
    X, y = data.held_out[known], data.y_held_out[known]
    probabilities = head.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    np.testing.assert_array_equal(head.classes_[probabilities.argmax(1)], head.predict(X))
    fitted = log_loss(y, probabilities, labels=head.classes_)
    head.temperature_ = 1.0
    assert fitted < log_loss(y, head.predict_proba(X), labels=head.classes_) - 0.01


def test_temperature_is_not_zero_where_every_held_out_prediction_is_right() -> None:
    X, y = gaussian(20, 4, n_classes=2)
    head = RidgeProbeClassifier().fit(X + 100 * y[:, None], y)
    assert 0.1 < head.temperature_ < 1


def test_one_shot_has_temperature_one() -> None:
    head = RidgeProbeClassifier().fit(*real_features("mean").shots(1))
    assert head.temperature_ == 1
    assert np.isnan(head.loo_proba_).all()
