"""Laws, their posterior, and points with noise: against closed forms and simulated truths."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from frofa.learning_curves.averaging import KEPT, average_laws
from frofa.learning_curves.laws import EXPONENTIAL, LAWS, PIECEWISE, POWER, Law
from frofa.learning_curves.points import OF_SUPPORT, Points, points_of
from frofa.learning_curves.posterior import sample_posterior

SHOTS = np.array([1.0, 2, 4, 8, 16, 32, 64])


def standardised(law: Law, *values: float) -> np.ndarray:
    return (np.array([values]) - law.location) / law.scale


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_accuracy_rises_from_guessing_to_one(law: Law) -> None:
    z = 2 * np.random.default_rng(0).standard_normal((500, law.n_parameters))
    accuracy = law.accuracy(z, SHOTS, 0.9)
    assert accuracy.shape == (500, 7)
    assert (accuracy >= 0.1 - 1e-12).all()
    assert (accuracy <= 1).all()
    assert (np.diff(accuracy, axis=1) >= -1e-12).all()


def test_laws_are_their_formulas() -> None:
    guessing, n = 0.8, SHOTS
    # Log-odds of a half: half the error of guessing at one shot, of which a half stays.
    power = 1 - POWER.accuracy(standardised(POWER, 0.0, np.log(0.5), 0.0), n, guessing)
    assert power[0] == pytest.approx(0.2 + 0.2 * n**-0.5)
    exponential = 1 - EXPONENTIAL.accuracy(standardised(EXPONENTIAL, 0.0, np.log(3), 0.0), n, guessing)
    assert exponential[0] == pytest.approx(0.2 + 0.2 * np.exp(-(n - 1) / 3))


def test_the_piecewise_law_is_quadratic_and_then_straight_without_a_kink() -> None:
    x = np.linspace(0, 5, 501)
    z = standardised(PIECEWISE, 0.0, np.log(0.2), np.log(0.6), np.log(2.0))
    log_error = np.log(1 - PIECEWISE.accuracy(z, np.exp(x), 0.9))[0]
    slopes = np.gradient(log_error, x)
    assert slopes[1] == pytest.approx(-0.2, abs=0.01)
    assert slopes[-2] == pytest.approx(-0.6)
    curvature = np.diff(log_error, 2)
    assert curvature[:198] == pytest.approx(curvature[0], rel=1e-3)
    assert curvature[202:] == pytest.approx(0, abs=1e-9)
    assert np.abs(np.diff(slopes)).max() < 0.01


def test_the_posterior_of_a_normal_likelihood_is_known() -> None:
    rng = np.random.default_rng(0)
    # A normal prior and one noisy sum of two parameters: posterior and evidence in closed form.
    direction, noise, seen = np.array([1.0, 2.0]), 0.1, 3.0
    posterior = sample_posterior(lambda z: -0.5 * ((z @ direction - seen) / noise) ** 2, 2, rng)
    weights = np.exp(posterior.log_weights)
    variance = direction @ direction + noise**2
    assert weights.sum() == pytest.approx(1)
    assert weights @ posterior.z == pytest.approx(direction * seen / variance, abs=0.05)
    evidence = multivariate_normal(0, variance).logpdf(seen) + np.log(noise * np.sqrt(2 * np.pi))
    assert posterior.log_evidence == pytest.approx(evidence, abs=0.05)


def test_points_of_independent_images_have_binomial_noise() -> None:
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1], 2000)
    hits = (rng.random((1, 4000)) < np.where(codes, 0.5, 0.9)).astype(float)
    counts = np.ones((1, 4000))
    points = points_of(np.array([5.0]), hits, counts, codes, np.array([10**6]), np.array([10**9]))
    assert points.accuracy == pytest.approx(0.7, abs=0.02)
    # Classes are strata: what they differ by is no noise. Another support of as many labels would add a little.
    assert points.spread == pytest.approx(np.sqrt(((0.09 + 0.25) / 2 + OF_SUPPORT * 0.21) / 4000), rel=0.02)


def test_points_weigh_classes_as_they_are_among_the_labels() -> None:
    codes = np.array([0] * 8 + [1] * 2)
    counts = np.array([[1.0] * 4 + [0] * 4 + [1.0, 1]])  # half of the large class was left out, all of the small one
    hits = np.array([[1.0] * 4 + [0] * 4 + [0, 0]])
    points = points_of(np.array([2.0]), hits, counts, codes, np.array([1]), np.array([5]))
    assert points.accuracy[0] == pytest.approx(0.8)


def test_a_law_that_made_the_points_gets_the_weight_and_covers_the_truth() -> None:
    truth = standardised(POWER, 0.0, np.log(0.7), -3.0)
    at = np.array([1.0, 2, 4, 8, 16, 32])
    rng = np.random.default_rng(3)
    inside = []
    for _ in range(20):
        accuracy = POWER.accuracy(truth, at, 0.9)[0]
        seen = accuracy + 0.02 * np.sqrt(accuracy * (1 - accuracy)) * rng.standard_normal(len(at))
        points = Points(at, seen, 0.02**2 * np.eye(len(at)), np.zeros(len(at), bool))
        laws = average_laws(points, 10, rng)
        assert sum(map(len, laws.parameters.values())) == KEPT
        assert laws.weights["exponential"] < 0.1
        low, high = np.quantile(laws.accuracy(100), [0.05, 0.95])
        inside.append(low <= POWER.accuracy(truth, np.array([100.0]), 0.9)[0, 0] <= high)
    assert np.mean(inside) >= 0.8


def test_more_images_make_narrower_curves() -> None:
    accuracy = POWER.accuracy(standardised(POWER, 0.0, np.log(0.5), -2.0), SHOTS[:4], 0.9)[0]
    widths = []
    for n in (50, 5000):
        points = Points(SHOTS[:4], accuracy, (0.5 + 0.5 * np.eye(4)) / n, np.zeros(4, bool))
        laws = average_laws(points, 10, np.random.default_rng(0))
        widths.append(float(np.ptp(np.quantile(laws.accuracy(20), [0.05, 0.95]))))
    assert widths[1] < widths[0] / 3
