"""Calibration of heads: temperatures, vector scaling, class priors, and that all predictions agree."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import approx_fprime
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV, CalibrationDisplay
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV

import frofa
from frofa.estimators import (
    BatchedSearchCV,
    FewShotClassifier,
    LogisticProbeClassifier,
    MAPClassifier,
    PrototypeClassifier,
    RidgeProbeClassifier,
    ShrinkageProbeClassifier,
    SoftMoEClassifier,
)
from frofa.estimators.batched.jobs import Job, fit_many
from frofa.estimators.solvers.calibration import Scaling, fit_scaling, fit_vectors, vector_pays
from frofa.estimators.solvers.left_out import LeftOut

Array = npt.NDArray[Any]
TRAINED: dict[str, Any] = {"n_steps": 5, "device": "cpu", "random_state": 0}
HEADS: list[Any] = [
    RidgeProbeClassifier(),
    RidgeProbeClassifier(10.0, cv=3),
    PrototypeClassifier(),
    LogisticProbeClassifier(C=0.1, device="cpu", calibrate=True),
    ShrinkageProbeClassifier(device="cpu"),
    FewShotClassifier(device="cpu"),
    MAPClassifier(calibrate=True, **TRAINED),
    SoftMoEClassifier(calibrate=True, **TRAINED),
]
OWN_PRIOR = (ShrinkageProbeClassifier, FewShotClassifier)
every_head = pytest.mark.parametrize(
    "head", HEADS, ids=lambda head: type(head).__name__ + str(head.get_params().get("cv", ""))
)


def samples(n: int, n_classes: int = 3, seed: int = 0) -> tuple[Array, Array]:
    """Noisy classes, so that nobody can be sure: features (n * n_classes, 16) and labels."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(n_classes, 16))
    y = np.repeat(np.arange(n_classes), n)
    return 0.6 * centres[y] + rng.normal(size=(len(y), 16)), np.array(["ant", "bee", "cow", "dog"])[y]


def agree(head: Any, X: Array) -> None:
    """Check that all predictions are one."""
    proba, decisions = head.predict_proba(X), head.decision_function(X)
    ranked = decisions.argmax(1) if decisions.ndim == 2 else (decisions > 0).astype(int)
    np.testing.assert_array_equal(head.predict(X), head.classes_[proba.argmax(1)])
    np.testing.assert_array_equal(head.predict(X), head.classes_[ranked])
    np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-6)


@every_head
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("calibrate", [False, "temperature", "vector"])
def test_predictions_agree(head: Any, n_classes: int, calibrate: Any) -> None:
    X, y = samples(8, n_classes)
    fitted = clone(head).set_params(calibrate=calibrate, class_prior=[0.6, 0.4, 0.2][:n_classes]).fit(X, y)
    assert (fitted.class_scales_ is not None) == (calibrate == "vector")
    agree(fitted, samples(20, n_classes, 1)[0])


@pytest.mark.parametrize("head", HEADS[:4], ids=lambda head: type(head).__name__)
def test_calibration_lowers_the_log_loss_of_other_samples(head: Any) -> None:
    X, y = samples(25)
    others, truth = samples(300, seed=1)
    before, after = (clone(head).set_params(calibrate=on).fit(X, y) for on in (False, "temperature"))
    np.testing.assert_array_equal(before.predict(others), after.predict(others))
    assert after.temperature_ != before.temperature_
    assert log_loss(truth, after.predict_proba(others)) < log_loss(truth, before.predict_proba(others))


def test_prototypes_are_left_out_as_by_hand() -> None:
    X, y = samples(5)
    weights = np.random.default_rng(0).uniform(0.5, 2, len(y))
    head = PrototypeClassifier(calibrate="temperature").fit(X, y, weights)
    rows = X - head.mean_
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for i in range(len(y)):
        rest = np.arange(len(y)) != i
        means = [np.average(rows[rest & (y == c)], axis=0, weights=weights[rest & (y == c)]) for c in head.classes_]
        scores = np.array([-0.5 * ((rows[i] - mean) ** 2).sum() for mean in means])
        np.testing.assert_allclose(head.loo_proba_[i], softmax(scores / head.temperature_), rtol=1e-9)


def test_ridge_is_left_out_as_by_hand() -> None:
    X, y = samples(6)
    head = RidgeProbeClassifier(5.0, calibrate="temperature").fit(X, y)
    Z = np.hstack([(X - X.mean(0)) / (X.std(0) + 1e-5), np.full((len(X), 1), 100.0)])
    targets = 2.0 * (y[:, None] == head.classes_) - 1
    for i in range(len(y)):
        rest = np.arange(len(y)) != i
        w = np.linalg.solve(Z[rest].T @ Z[rest] + 5 * np.eye(17), Z[rest].T @ targets[rest])
        np.testing.assert_allclose(head.loo_proba_[i], softmax(Z[i] @ w / head.temperature_), rtol=1e-6)


@every_head
def test_class_priors_are_those_of_bayes(head: Any) -> None:
    X, y = samples(10)
    X, y = X[5:], y[5:]  # 5, 10 and 10 samples
    others = samples(20, seed=1)[0]
    if isinstance(head, OWN_PRIOR):
        start: Any = "uniform"
        prior = np.full(3, 1 / 3)
    else:
        start, prior = None, np.full(3, 1 / 3) if isinstance(head, PrototypeClassifier) else np.array([0.2, 0.4, 0.4])
    wanted = {"ant": 0.7, "bee": 0.2, "cow": 0.1}
    base = clone(head).set_params(calibrate=False, class_prior=start).fit(X, y)
    moved = clone(head).set_params(calibrate=False, class_prior=wanted).fit(X, y)
    if not isinstance(head, OWN_PRIOR):  # whose members are weighed with the prior
        expected = base.predict_proba(others) * (np.array([0.7, 0.2, 0.1]) / prior)
        expected /= expected.sum(1, keepdims=True)
        np.testing.assert_allclose(moved.predict_proba(others), expected, rtol=1e-5, atol=1e-6)
    assert (moved.predict(others) == "ant").sum() > (base.predict(others) == "ant").sum()
    agree(moved, others)


@every_head
def test_empirical_priors_are_the_frequencies(head: Any) -> None:
    X, y = samples(10)
    X, y, others = X[5:], y[5:], samples(20, seed=1)[0]
    found = clone(head).set_params(calibrate=False, class_prior="empirical").fit(X, y).predict_proba(others)
    given = clone(head).set_params(calibrate=False, class_prior=[0.2, 0.4, 0.4]).fit(X, y).predict_proba(others)
    # Left-out samples of probes with priors of their own find their class rarer.
    np.testing.assert_allclose(found, given, rtol=0.2 if isinstance(head, OWN_PRIOR) else 1e-6, atol=0.02)


@every_head
def test_one_shot_and_single_samples_have_probabilities(head: Any) -> None:
    X, y = samples(1)
    one = clone(head).set_params(cv=None) if "cv" in head.get_params() else clone(head)
    others = samples(5, seed=1)[0]
    for shots in ([0, 1, 2], [0, 1, 2, 2, 2]):
        rows = samples(3, seed=2)[0][shots] if len(shots) > 3 else X
        fitted = one.fit(rows, y[shots])
        assert np.isfinite(fitted.predict_proba(others)).all()
        assert 0 < fitted.temperature_ < 1e6
        agree(fitted, others)


@every_head
def test_samples_without_weight_change_nothing(head: Any) -> None:
    X, y = samples(6)
    weights = np.ones(len(y))
    weights[[2, 7, 15]] = 0
    if head.get_params().get("cv") is not None:
        pytest.skip(
            "a splitter of the user's deals all samples, also those without weight, and then deals others differently"
        )
    weighted, without = clone(head).fit(X, y, weights), clone(head).fit(X[weights > 0], y[weights > 0])
    others = samples(10, seed=1)[0]
    np.testing.assert_allclose(weighted.predict_proba(others), without.predict_proba(others), rtol=1e-4, atol=1e-6)


@every_head
def test_heads_fitted_together_are_calibrated_as_alone(head: Any) -> None:
    X, y = samples(8)
    rows = [np.arange(24), np.r_[0:6, 8:14, 16:23]]
    jobs = [Job(clone(head).set_params(calibrate=kind), part) for part in rows for kind in ("temperature", "vector")]
    others = samples(10, seed=1)[0]
    for job, found in zip(jobs, fit_many(X, y, jobs), strict=True):
        assert not isinstance(found, Exception)
        alone = clone(job.estimator).fit(X[job.rows], y[job.rows])
        np.testing.assert_allclose(found.predict_proba(others), alone.predict_proba(others), rtol=1e-4, atol=1e-6)
        assert (found.class_scales_ is None) == (alone.class_scales_ is None)


@pytest.mark.parametrize("scoring", ["neg_log_loss", "accuracy", "roc_auc_ovr"])
def test_searches_score_calibrated_heads(scoring: str) -> None:
    X, y = samples(10)
    grid = {"calibrate": [False, "temperature", "vector"], "class_prior": [None, [0.8, 0.1, 0.1]]}
    for head in (RidgeProbeClassifier(1.0), PrototypeClassifier()):
        ours, theirs = (kind(head, grid, scoring=scoring, cv=3).fit(X, y) for kind in (BatchedSearchCV, GridSearchCV))
        for name in ("mean_test_score", "std_test_score"):
            np.testing.assert_allclose(ours.cv_results_[name], theirs.cv_results_[name], rtol=1e-9)


@every_head
def test_scikit_learn_calibrates_on_top(head: Any) -> None:
    X, y = samples(9)
    calibrated = CalibratedClassifierCV(clone(head), method="temperature", ensemble=False, cv=3).fit(X, y)
    found = calibrated.predict_proba(samples(10, seed=1)[0])
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)
    assert (found > 0).all()


@every_head
def test_curves_of_two_classes_are_drawn(head: Any) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    X, y = samples(8, 2)
    display = CalibrationDisplay.from_estimator(clone(head).fit(X, y), *samples(40, 2, 1), n_bins=4)
    assert display.prob_true.shape == display.prob_pred.shape


def test_calibrated_heads_are_saved(tmp_path: Any) -> None:
    X, y = samples(8)
    for head in (RidgeProbeClassifier(calibrate="vector", class_prior=[0.5, 0.3, 0.2]), ShrinkageProbeClassifier()):
        fitted = head.fit(X, y)
        frofa.save(fitted, tmp_path / "head.frofa")
        loaded = frofa.load(tmp_path / "head.frofa")
        np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
        np.testing.assert_array_equal(loaded.decision_function(X), fitted.decision_function(X))


def logits(n: int, seed: int, n_classes: int = 4) -> tuple[Array, Array]:
    """Calibrated log-probabilities, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    found = log_softmax(rng.normal(scale=2, size=(n, n_classes)), axis=1)
    return found, (rng.uniform(size=(n, 1)) > np.exp(found).cumsum(1)).sum(1).clip(0, n_classes - 1)


def seen_of(codes: Array, n_classes: int = 4) -> LeftOut:
    return LeftOut(codes, np.ones(len(codes)), np.zeros(n_classes))


def test_vector_scaling_pays_where_classes_are_off_and_not_where_they_are_not() -> None:
    calibrated = [vector_pays(found, seen_of(codes)) for found, codes in (logits(200, seed) for seed in range(20))]
    assert np.mean(calibrated) < 0.5
    off = np.array([1.5, 0, 0, -1.5])
    shifted = [
        vector_pays(log_softmax(f + off, axis=1), seen_of(c)) for f, c in (logits(200, seed) for seed in range(20))
    ]
    assert np.mean(shifted) > 0.9


def test_vector_scaling_takes_back_what_was_done() -> None:
    found, codes = logits(4000, 0)
    off = np.array([1.0, 0, 0, -1.0])
    scaling = fit_scaling(3 * (found + off), seen_of(codes), True)
    assert scaling.scales is not None
    others, truth = logits(4000, 1)
    before = log_loss(truth, np.exp(others))
    after = log_loss(truth, softmax(scaling.logits(3 * (others + off)), axis=1))
    assert after == pytest.approx(before, abs=0.01)
    assert Scaling(2.0).logits(found) == pytest.approx(found / 2)


def test_vector_scaling_is_at_its_minimum() -> None:
    found, codes = logits(60, 0)
    seen = seen_of(codes)
    importance = np.stack([np.ones(60), np.arange(60) % 2 + 0.5])
    fitted = fit_vectors(found, seen, importance)

    def objective(flat: Array, weights: Array) -> float:
        scales, offsets = flat.reshape(2, 4)
        share = weights / weights.sum()
        own = log_softmax(scales * found + offsets, axis=1)[np.arange(60), codes]
        pull = (((scales - 1) / 0.1) ** 2).sum() + ((offsets / 0.3) ** 2).sum()
        return float(-share @ own + 0.5 * (share**2).sum() * pull)

    for one, weights in zip(fitted, importance, strict=True):
        assert np.abs(approx_fprime(one.ravel(), objective, 1e-7, weights)).max() < 1e-4
