"""Penalties, scales and weights far from the ordinary: scikit-learn's minimum, or a lower one, in bounded time."""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from frofa.estimators import BatchedSearchCV, LogisticProbeClassifier
from frofa.estimators.solvers.logistic import _steps_to
from frofa.estimators.solvers.preconditioner import DENSE
from frofa.estimators.solvers.stages import Stage

Array = npt.NDArray[Any]
SHAPES = {"dense": (60, 16, 3), "many classes": (120, 40, 20), "n < d": (60, 200, 5), "two classes": (80, 12, 2)}


def samples(name: str, shift: float = 2.0) -> tuple[Array, Array]:
    n, channels, n_classes = SHAPES[name]
    y = np.arange(n) % n_classes
    X = np.random.default_rng(0).normal(size=(n, channels))
    X[np.arange(n), y] += shift
    return X, y


def mean_loss(head: Any, X: Array, y: Array, C: float) -> float:
    scores = X @ head.coef_.T + head.intercept_
    scores = np.hstack([np.zeros_like(scores), scores]) if scores.shape[1] == 1 else scores
    square = ((head.coef_ / np.sqrt(C)) ** 2).sum()
    return float((-log_softmax(scores, 1)[np.arange(len(y)), y].sum() + 0.5 * square) / len(y))


def scikit_learn(X: Array, y: Array, C: float) -> LogisticRegression:
    """The better of its two ways to get there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits = [
            LogisticRegression(C=C, max_iter=10_000, tol=1e-9, solver=solver).fit(X, y)
            for solver in ("lbfgs", "newton-cholesky")
        ]
    return min(fits, key=lambda fit: mean_loss(fit, X, y, C))


def assert_no_worse(X: Array, y: Array, C: float = 1.0) -> LogisticProbeClassifier:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # where the loss is next to zero, all is rounding
        ours = LogisticProbeClassifier(C).fit(X, y)
    theirs = mean_loss(scikit_learn(X, y, C), X, y, C)
    assert mean_loss(ours, X, y, C) <= theirs * (1 + 1e-6) + 1e-8
    return ours


def test_shapes_take_both_ways() -> None:
    sizes = {name: (n_classes if n_classes > 2 else 1) * (min(n, d) + 1) for name, (n, d, n_classes) in SHAPES.items()}
    assert {size > DENSE for size in sizes.values()} == {True, False}
    assert sizes["many classes"] > DENSE


@pytest.mark.parametrize("C", [1e-12, 1e8, 1e9, 1e12, 1e100, 1e300, np.inf])
@pytest.mark.parametrize("name", SHAPES)
def test_any_penalty(name: str, C: float) -> None:
    X, y = samples(name)
    ours = assert_no_worse(X, y, C)
    assert ours.score(X, y) >= scikit_learn(X, y, C).score(X, y) or C < 1


@pytest.mark.parametrize("C", [1e8, 1e12, np.inf])
@pytest.mark.parametrize("name", ["dense", "many classes", "two classes"])
def test_large_penalty_without_separation_is_the_minimum_of_scikit_learn(name: str, C: float) -> None:
    X, y = samples(name, shift=0.5)
    X = X[:, :3]
    ours, theirs = LogisticProbeClassifier(C).fit(X, y), scikit_learn(X, y, C)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)
    shift = 0 if len(ours.coef_) == 1 else theirs.coef_.mean(0)  # which changes no probability, and is of little cost
    np.testing.assert_allclose(ours.coef_, theirs.coef_ - shift, atol=1e-3 * np.abs(theirs.coef_).max())


def test_smallest_penalties_leave_weights_inversely_proportional_to_them() -> None:
    X, y = samples("dense")
    small, smaller = (LogisticProbeClassifier(C).fit(X, y).coef_ for C in (1e-20, 1e-40))
    np.testing.assert_allclose(smaller, small * 1e-20, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e4, 1e7, 5e7, 1e10, 1e20])
@pytest.mark.parametrize("name", ["dense", "many classes"])
def test_a_channel_on_another_scale(name: str, scale: float) -> None:
    X, y = samples(name)
    X[:, -1] *= scale
    head = assert_no_worse(X, y)
    assert head.score(X, y) > 0.95


@pytest.mark.parametrize("scale", [1e-40, 1e-20, 1e-10, 1e5, 1e8, 1e20, 1e40, 1e70])
@pytest.mark.parametrize("name", SHAPES)
def test_all_channels_on_another_scale(name: str, scale: float) -> None:
    X, y = samples(name)
    assert_no_worse(X * scale, y)


@pytest.mark.parametrize("scale", [2.0**-60, 2.0**60])
def test_scale_and_penalty_together_change_nothing(scale: float) -> None:
    X, y = samples("dense")
    plain = LogisticProbeClassifier(tol=1e-9).fit(X, y)
    scaled = LogisticProbeClassifier(scale**-2, tol=1e-9).fit(X * scale, y)
    np.testing.assert_allclose(scaled.coef_ * scale, plain.coef_, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weight", [1e-90, 1e-20, 1e20, 1e90])
def test_weights_of_any_size_are_a_penalty(weight: float) -> None:
    X, y = samples("dense")
    weighted = LogisticProbeClassifier(1 / weight).fit(X, y, np.full(len(y), weight))
    np.testing.assert_allclose(weighted.coef_, LogisticProbeClassifier().fit(X, y).coef_, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("C", [1.0, 1e12, np.inf])
def test_collinear_constant_and_single_channels_and_duplicates(C: float) -> None:
    X, y = samples("dense")
    assert_no_worse(np.hstack([X, X, X[:, :1] * 1e3, np.full((len(X), 1), 1e6)]), y, C)
    assert_no_worse(X[:, :1], y, C)
    assert_no_worse(np.repeat(X[:20], 3, axis=0), y, C)


def test_search_over_penalties_without_end() -> None:
    X, y = samples("dense")
    grid = {"C": [1e-300, 1e-12, 1.0, 1e12, 1e100, np.inf]}
    search = BatchedSearchCV(LogisticProbeClassifier(), grid, cv=3).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.cv_results_["mean_test_score"][2:].min() > 0.7


def test_the_way_to_a_stage_is_bounded() -> None:
    for C in (1e308, np.inf):
        path = _steps_to([Stage(C, 1e-6, 10)], 1e10, 3)
        assert path[-1].C == C
        assert len(path) < 25
    assert len(_steps_to([Stage(1.0, 1e-6, 10)], 1e300, 3)) < 25


def test_few_steps_are_few_on_any_scale() -> None:
    X, y = samples("dense")
    X[:, -1] *= 1e20
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        head = LogisticProbeClassifier(max_iter=5).fit(X, y)
    assert head.n_iter_ <= 5
    assert np.isfinite(head.predict_proba(X)).all()
