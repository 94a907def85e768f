"""Weights of a blend, and the folds that its members are trained on."""

from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax

from frofa.estimators.blending.weights import HELD, _gains_and_prices, choose_weights
from frofa.estimators.core.confident.folds import assign_folds
from frofa.estimators.solvers.left_out import LeftOut

K = 4


def members(n: int, *signals: float, seed: int = 0) -> tuple[Any, Any]:
    """Calibrated log-probabilities (M, n, K) of members with independent noise, and the classes (n,)."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % K
    # Logits of a Gaussian with this signal: calibrated as they are.
    logits = [s * (rng.normal(size=(n, K)) + s * np.eye(K)[codes]) for s in signals]
    return log_softmax(np.stack(logits), axis=2), codes


def loss(log_probs: Any, codes: Any, weights: Any, scale: float) -> float:
    logs = log_softmax(scale * np.tensordot(weights, log_probs, 1), axis=1)
    return float(-logs[np.arange(len(codes)), codes].mean())


def test_independent_members_are_weighed_as_bayes_would() -> None:
    # Independent evidence adds: the best blend of two equals is their mean, at twice the scale.
    log_probs, codes = members(4000, 1.0, 1.0)
    blend = choose_weights(log_probs, codes, np.ones(len(codes)))
    np.testing.assert_allclose(blend.weights, [0.5, 0.5], atol=0.05)
    assert blend.scale == pytest.approx(2, abs=0.1)


def test_a_member_that_knows_nothing_counts_exactly_nothing() -> None:
    log_probs, codes = members(4000, 1.0, 0.0, 0.7)
    blend = choose_weights(log_probs, codes, np.ones(len(codes)))
    assert blend.weights[1] == 0
    assert blend.weights[2] > 0.2


def test_gains_that_a_scale_would_give_are_none() -> None:
    # A first member that is too sure of itself; a second that is flat makes the mean of both less sure.
    log_probs, codes = members(4000, 1.0, 0.0)
    log_probs[0] = log_softmax(3 * log_probs[0], axis=1)
    log_probs[1] = -np.log(K)
    blend = choose_weights(log_probs, codes, np.ones(len(codes)))
    assert blend.weights.tolist() == [1, 0]
    assert blend.scale == 1


def test_no_weights_nearby_have_a_better_penalised_likelihood() -> None:
    log_probs, codes = members(300, 1.0, 0.8, 0.6, 0.9)
    blend = choose_weights(log_probs, codes, np.ones(len(codes)))

    def objective(weights: Any, scale: float) -> float:
        held = HELD / len(codes) / 2 * (scale - 1) ** 2
        return loss(log_probs, codes, weights, scale) + scale * float(blend.prices @ weights) + held

    best = objective(blend.weights, blend.scale)
    for i in range(4):
        for j in range(4):
            moved = blend.weights + 0.02 * (np.eye(4)[i] - np.eye(4)[j])
            assert (moved < 0).any() or objective(moved, blend.scale) >= best - 1e-6
    assert objective(blend.weights, 1.02 * blend.scale) >= best - 1e-6
    assert objective(blend.weights, 0.98 * blend.scale) >= best - 1e-6


def test_gains_are_slopes_of_the_likelihood() -> None:
    log_probs, codes = members(200, 1.0, 0.8)
    # At the first member's best scale, nothing is left for a scale to gain.
    scales = np.linspace(0.5, 2, 3001)
    best = scales[np.argmin([loss(log_probs, codes, [1, 0], scale) for scale in scales])]
    log_probs[0] = log_softmax(best * log_probs[0], axis=1)
    share, step = np.full(200, 1 / 200), 1e-5
    gains, _ = _gains_and_prices(log_probs[0], log_probs, codes, share)
    slope = (loss(log_probs, codes, [1, 0], 1) - loss(log_probs, codes, [1, step], 1)) / step
    assert gains[1] == pytest.approx(slope, rel=1e-3)


def test_chance_lets_fewer_in_where_samples_are_few() -> None:
    joined = [
        np.mean([choose_weights(*members(n, 1.0, 0.3, seed=s), np.ones(n)).weights[1] for s in range(20)])
        for n in (16, 400)
    ]
    prices = [choose_weights(*members(n, 1.0, 0.3), np.ones(n)).prices[1] for n in (16, 400)]
    assert prices[0] > 3 * prices[1]
    assert joined[1] > 0.05
    # Noise that knows nothing is let in now and then, and never counts for much.
    noise = [choose_weights(*members(40, 1.0, 0.0, seed=s), np.ones(40)).weights[1] for s in range(40)]
    assert np.mean(noise) < 0.1


def test_a_sample_that_counts_twice_is_two() -> None:
    log_probs, codes = members(60, 1.0, 0.8)
    twice = choose_weights(np.concatenate([log_probs, log_probs[:, :20]], 1), np.append(codes, codes[:20]), np.ones(80))
    counted = choose_weights(log_probs, codes, np.where(np.arange(60) < 20, 2.0, 1.0))
    # Prices differ a little, as one sample of weight two is less than two samples.
    np.testing.assert_allclose(counted.gains, twice.gains, rtol=0.01)
    np.testing.assert_allclose(counted.weights, twice.weights, atol=0.1)


def test_folds_are_stratified_and_leave_every_class_in_training() -> None:
    codes = np.repeat([0, 1, 2, 3], [1, 2, 7, 30])
    folds = assign_folds(codes, 5, np.random.RandomState(0))
    assert folds[0] == -1
    for fold in range(5):
        assert set(codes[folds != fold]) == {0, 1, 2, 3}
        assert np.bincount(codes[folds == fold], minlength=4)[3] == 6
    assert np.ptp(np.bincount(folds[folds >= 0])) <= 1


def test_left_out_samples_count_by_the_prior() -> None:
    codes, weights = np.array([0, 0, 0, 1]), np.ones(4)
    even = LeftOut.of(codes, weights, np.log([0.5, 0.5]), 2)
    np.testing.assert_allclose(even.importance[:3].sum(), even.importance[3])
    # A head that says no more than how frequent classes are is to say no more than the prior.
    logs = log_softmax(np.tile(np.log([0.75, 0.25]), (4, 1)) + even.offsets, axis=1)
    np.testing.assert_allclose(np.exp(logs), 0.5)
    assert LeftOut.of(codes, weights, None, 2).offsets.tolist() == [0, 0]


def test_temperatures_make_scores_as_sure_as_they_are_right() -> None:
    log_probs, codes = members(4000, 1.0)
    left_out = LeftOut.of(codes, np.ones(len(codes)), None, K)
    found = left_out.calibrated(5 * log_probs[0])
    assert found.scale == pytest.approx(0.2, rel=0.05)
    assert left_out.accuracy(found.log_probs) == (log_probs[0].argmax(1) == codes).mean()
    assert left_out.log_loss(found.log_probs) == pytest.approx(loss(log_probs, codes, [1], 1), rel=0.01)
