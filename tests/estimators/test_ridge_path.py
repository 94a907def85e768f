"""The closed form against independent ones; what the probe makes of it is in test_ridge.py."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from features import SHOTS, gaussian, real_features
from sklearn.model_selection import ShuffleSplit, StratifiedKFold

from frofa.estimators import RidgeProbeClassifier
from frofa.estimators.ridge import DEFAULT_ALPHAS
from frofa.estimators.solvers.ridge import decompose

Array = npt.NDArray[Any]
BIAS = 100.0


def one_hot(y: Array) -> Array:
    targets: Array = 2.0 * (y[:, None] == np.unique(y)) - 1
    return targets


def standardised(X: Array, fitted_to: Array) -> Array:
    """With the few-shot mean and deviation, and the bias feature."""
    fitted_to = fitted_to.astype(np.float64)
    z = (X - fitted_to.mean(0)) / (fitted_to.std(0) + 1e-5)
    return np.hstack([z, np.full((len(z), 1), BIAS)])


def big_vision(Z: Array, targets: Array, alpha: float) -> Array:
    """Weights (C + 1, n_targets) as in evaluators/fewshot_lsr.py."""
    if len(Z) >= Z.shape[1]:
        eigenvalues, q = np.linalg.eigh(Z.T @ Z)
        lhs, rhs = q, q.T @ Z.T @ targets
    else:
        eigenvalues, q = np.linalg.eigh(Z @ Z.T)
        lhs, rhs = Z.T @ q, q.T @ targets
    solution: Array = lhs * (1 / (eigenvalues + alpha)) @ rhs
    return solution


def least_squares(Z: Array, targets: Array, alpha: float) -> Array:
    """The same minimum without squaring the condition: penalties as further samples."""
    penalties = np.sqrt(alpha) * np.eye(Z.shape[1])
    targets = np.vstack([targets, np.zeros((Z.shape[1], targets.shape[1]))])
    solution: Array = np.linalg.lstsq(np.vstack([Z, penalties]), targets, rcond=None)[0]
    return solution


def leave_one_out(Z: Array, y: Array, alpha: float, weights: Array) -> float:
    """Mean squared error of samples under fits to all others."""
    root, errors = np.sqrt(weights)[:, None], []
    for i in range(len(y)):
        rest = np.arange(len(y)) != i
        w = least_squares((Z * root)[rest], (one_hot(y) * root)[rest], alpha)
        errors.append(((Z[i] @ w - one_hot(y)[i]) ** 2).mean())
    return float(np.average(errors, weights=weights))


def case(name: str) -> tuple[Array, Array]:
    if name.startswith("random"):
        return gaussian(60, 12) if name == "random n > d" else gaussian(20, 50)
    return real_features("mean").shots(SHOTS if name == "real n > d" else 4)


def errors(head: RidgeProbeClassifier) -> Array:
    assert head.errors_ is not None
    return head.errors_


def assert_close(actual: Array, expected: Array, tolerance: float) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("solver", [big_vision, least_squares])
@pytest.mark.parametrize("name", ["random n > d", "random n < d", "real n > d", "real n < d"])
def test_weights_are_those_of_the_formula(name: str, solver: Any) -> None:
    X, y = case(name)
    Z = standardised(X, X)
    for alpha in DEFAULT_ALPHAS[::5]:
        w = solver(Z, one_hot(y), alpha)
        head = RidgeProbeClassifier(alpha, calibrate="temperature").fit(X, y)
        coef = w[:-1] / (X.std(0, dtype=np.float64) + 1e-5)[:, None]
        # One direction of layer-normalised features is constant; there the published formula loses digits.
        tolerance = 1e-4 if solver is big_vision and name == "real n > d" and alpha < 2**-12 else 1e-6
        assert_close(head.coef_, coef.T, tolerance)
        assert_close(head.intercept_, BIAS * w[-1] - X.mean(0, dtype=np.float64) @ coef, tolerance)
        assert_close(head.decision_function(X), Z @ w, 1e-6)


@pytest.mark.parametrize("name", ["random n > d", "random n < d", "real n < d"])
def test_leave_one_out_errors_equal_refits(name: str) -> None:
    X, y = case(name)
    alphas = [2.0**-20, 2.0**-10, 1.0, 100.0, 1024.0]
    head = RidgeProbeClassifier(alphas).fit(X, y)
    expected = [leave_one_out(standardised(X, X), y, alpha, np.ones(len(y))) for alpha in alphas]
    np.testing.assert_allclose(errors(head), np.array(expected), rtol=1e-5)
    assert head.alpha_ == alphas[int(np.argmin(expected))]


@pytest.mark.parametrize("channels", [8, 50])
def test_a_sample_is_left_out_with_all_its_weight(channels: int) -> None:
    X, y = gaussian(30, channels)
    weights = np.random.default_rng(1).uniform(0.5, 2, 30)
    mean = np.average(X, axis=0, weights=weights)
    deviation = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weights))
    Z = np.hstack([(X - mean) / (deviation + 1e-5), np.full((30, 1), BIAS)])
    alphas = [0.001, 0.5, 50.0]
    expected = [leave_one_out(Z, y, alpha, weights) for alpha in alphas]
    head = RidgeProbeClassifier(alphas).fit(X, y, weights)
    np.testing.assert_allclose(errors(head), np.array(expected), rtol=1e-6)


@pytest.mark.parametrize("channels", [6, 40, 200])  # fewer than samples, than rows, and more than both
@pytest.mark.parametrize("n_classes", [2, 3])
def test_groups_left_out_equal_refits(channels: int, n_classes: int) -> None:
    size, rng = 4, np.random.default_rng(2)
    X, y = gaussian(18, channels, n_classes)
    rows = (X[:, None] + rng.normal(size=(18, size, channels)) * [[0], [1], [1], [3]]).reshape(-1, channels)
    weights = rng.uniform(0.5, 2, 18 * size)
    targets = one_hot(y)[:, n_classes == 2 :]
    path = decompose(rows, targets.repeat(size, axis=0), weights)
    Z = np.hstack([(rows - path.mean) / path.scale, np.full((len(rows), 1), BIAS)])
    root = np.sqrt(weights)[:, None]
    for alpha in (1e-3, 0.5, 50.0):
        expected = []
        for i in range(18):
            rest = np.arange(len(rows)) // size != i
            w = least_squares((Z * root)[rest], (targets.repeat(size, axis=0) * root)[rest], alpha)
            expected.append(Z[i * size] @ w)
        assert_close(path.leave_one_out(targets, alpha, size), np.array(expected), 1e-6)


@pytest.mark.parametrize("channels", [8, 50])
def test_a_group_of_one_is_a_sample(channels: int) -> None:
    X, y = gaussian(30, channels)
    path = decompose(X, one_hot(y), np.random.default_rng(1).uniform(0.5, 2, 30))
    fitted = X @ path.solve(0.5)[0] + path.solve(0.5)[1]
    assert_close(path._leave_groups_out(one_hot(y), fitted, 0.5, 1), path.leave_one_out(one_hot(y), 0.5), 1e-10)


@pytest.mark.parametrize("cv", [4, ShuffleSplit(3, test_size=0.3, random_state=0)])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_cross_validated_errors_equal_refits(cv: Any, n_classes: int) -> None:
    X, y = gaussian(40, 10, n_classes)
    alphas = [0.01, 1.0, 30.0, 1000.0]
    head = RidgeProbeClassifier(alphas, cv=cv).fit(X, y)
    splitter = StratifiedKFold(cv) if isinstance(cv, int) else cv
    expected = []
    for alpha in alphas:
        residuals = [
            (standardised(X[valid], X[train]) @ big_vision(standardised(X[train], X[train]), one_hot(y[train]), alpha))
            - one_hot(y)[valid]
            for train, valid in splitter.split(X, y)
        ]
        expected.append((np.vstack(residuals) ** 2).mean())
    np.testing.assert_allclose(errors(head), np.array(expected), rtol=1e-8)
    assert head.alpha_ == alphas[int(np.argmin(expected))]


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e8 / 3, -1e15 / 7])
@pytest.mark.parametrize("n", [20, 60])
def test_constant_channels_change_nothing(n: int, constant: float) -> None:
    X, y = gaussian(n, 30)
    plain = RidgeProbeClassifier().fit(X, y)
    padded = RidgeProbeClassifier().fit(np.insert(X, 7, constant, axis=1), y)
    assert padded.coef_[:, 7].tolist() == [0, 0, 0]
    assert padded.alpha_ == plain.alpha_
    scores = padded.decision_function(np.insert(X, 7, constant + 1, axis=1))
    np.testing.assert_allclose(scores, plain.decision_function(X), atol=1e-9)


def test_two_classes_have_one_row_with_the_sign_of_the_second() -> None:
    X, y = gaussian(40, 6, n_classes=2)
    head = RidgeProbeClassifier(1.0).fit(X, y)
    w = big_vision(standardised(X, X), one_hot(y), 1.0)
    assert head.coef_.shape == (1, 6)
    assert head.intercept_.shape == (1,)
    scores = head.decision_function(X)
    assert_close(scores, standardised(X, X) @ w[:, 1], 1e-9)
    np.testing.assert_array_equal(head.predict(X), (scores > 0).astype(int))
    odds = np.log(head.predict_proba(X)) @ [-1, 1]
    np.testing.assert_allclose(odds, 2 * scores / head.temperature_, rtol=1e-9)
