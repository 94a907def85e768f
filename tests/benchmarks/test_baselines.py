from pathlib import Path

import baselines
import numpy as np
import pytest
from baselines.head import Head
from baselines.logistic_grid import POWERS
from baselines.oracle import SETTINGS, oracle_accuracies
from heads import Cell, measure, summarise, table
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import NearestCentroid

HEADS = [
    baselines.FixedRidge,
    baselines.LedoitWolfDiscriminant,
    baselines.LogisticGrid,
    baselines.NearestMean,
    baselines.ShrunkDiscriminant,
    baselines.WeightedNeighbours,
]


def clouds(
    n: int, seed: int, channels: int = 12, classes: int = 3, spread: float = 1.5
) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian clouds off the origin, with channels of different scales, and names of classes."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, channels))
    codes = np.arange(n) % classes
    points = (centres[codes] + spread * rng.normal(size=(n, channels)) + 1) * np.linspace(0.5, 3, channels)
    return points, np.array(["ant", "bee", "cat", "dog"])[codes]


def unit(X: np.ndarray) -> np.ndarray:
    return np.asarray(X / np.linalg.norm(X, axis=1, keepdims=True))


X, y = clouds(24, seed=0)
QUERIES, LABELS = clouds(200, seed=1)


@pytest.mark.parametrize("make", HEADS)
@pytest.mark.parametrize("classes", [2, 3])
def test_heads_predict_labels_as_given(make: type[Head], classes: int) -> None:
    X, y = clouds(60, seed=2, classes=classes, spread=0.3)
    queries, labels = clouds(90, seed=3, classes=classes, spread=0.3)
    head = make().fit(X, y)
    assert head.decision_function(queries).shape == (90, classes)
    assert np.mean(head.predict(queries) == labels) > 0.95


def test_nearest_mean_is_the_nearest_centroid_of_centred_normalised_features() -> None:
    centre = X.mean(0)
    expected = NearestCentroid().fit(unit(X - centre), y).predict(unit(QUERIES - centre))
    np.testing.assert_array_equal(baselines.NearestMean().fit(X, y).predict(QUERIES), expected)


def test_shrunk_discriminant_is_the_published_estimate() -> None:
    rows, queries = unit(X), unit(QUERIES)
    means = np.stack([rows[y == label].mean(0) for label in np.unique(y)])
    residuals = np.concatenate([rows[y == label] - mean for label, mean in zip(np.unique(y), means, strict=True)])
    covariance = np.cov(residuals.T)
    inverse = 12 * np.linalg.pinv(23 * covariance + np.trace(covariance) * np.eye(12))
    scores = queries @ inverse @ means.T - np.einsum("kc,cd,kd->k", means, inverse, means) / 2
    np.testing.assert_allclose(baselines.ShrunkDiscriminant().fit(X, y).decision_function(QUERIES), scores, rtol=1e-8)


def test_shrunk_discriminant_of_one_sample_a_class_is_the_nearest_one() -> None:
    distances = np.linalg.norm(unit(QUERIES)[:, None] - unit(X[:3]), axis=2)
    np.testing.assert_array_equal(
        baselines.ShrunkDiscriminant().fit(X[:3], y[:3]).predict(QUERIES), y[:3][distances.argmin(1)]
    )


def test_ledoit_wolf_discriminant_does_not_depend_on_the_solver() -> None:
    expected = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit(X, y).decision_function(QUERIES)
    # Scores of all classes may be shifted together.
    found = baselines.LedoitWolfDiscriminant().fit(X, y).decision_function(QUERIES)
    np.testing.assert_allclose(
        found - found.mean(1, keepdims=True), expected - expected.mean(1, keepdims=True), rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize("n", [6, 24])
def test_fixed_ridge_is_ridge_on_standardised_features_and_a_constant(n: int) -> None:
    mean, deviation = X[:n].mean(0), X[:n].std(0) + 1e-5
    rows, queries = (np.c_[(values - mean) / deviation, np.full(len(values), 100)] for values in (X[:n], QUERIES))
    targets = np.where(y[:n, None] == np.unique(y), 1.0, -1.0)
    expected = Ridge(alpha=1024, fit_intercept=False).fit(rows, targets).predict(queries)
    found = baselines.FixedRidge().fit(X[:n], y[:n]).decision_function(QUERIES)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("n", [9, 24])
def test_neighbours_vote_one_by_one(n: int) -> None:
    scores = baselines.WeightedNeighbours().fit(X[:n], y[:n]).decision_function(QUERIES[:20])
    for query, found in zip(unit(QUERIES[:20]), scores, strict=True):
        votes = dict.fromkeys(np.unique(y), 0.0)
        for i in sorted(range(n), key=lambda i: -float(query @ unit(X)[i]))[:20]:
            votes[y[i]] += np.exp(float(query @ unit(X)[i]) / 0.07)
        np.testing.assert_allclose(found, list(votes.values()), rtol=1e-9)


def test_logistic_grid_takes_the_best_penalty_on_the_held_out_tenth() -> None:
    X, y = clouds(60, seed=4)
    shuffled = np.random.default_rng(5).permutation(60)
    held_out, kept = shuffled[:6], shuffled[6:]
    with np.errstate(all="ignore"):
        scores = [
            LogisticRegression(C=10**power, max_iter=5000, tol=1e-8)
            .fit(X[kept], y[kept])
            .score(X[held_out], y[held_out])
            for power in POWERS[::4]
        ]
    head = baselines.LogisticGrid(seed=5).fit(X, y)
    # The full grid is at least as good as a fourth of it, on samples that it sees.
    best = LogisticRegression(C=10**head.power_, max_iter=5000, tol=1e-8)
    assert best.fit(X[kept], y[kept]).score(X[held_out], y[held_out]) >= max(scores)
    np.testing.assert_allclose(head.decision_function(QUERIES), best.fit(X, y).decision_function(QUERIES), atol=2e-2)


def test_oracle_settings_are_what_they_say() -> None:
    codes, labels = np.unique(y, return_inverse=True)[1], np.unique(LABELS, return_inverse=True)[1]
    halves = oracle_accuracies(X, codes, QUERIES, labels, (5, 7))
    assert len(halves) == 2 * SETTINGS
    found = {name: np.mean(half) for name, half in halves.items()}
    rows, queries = (np.c_[unit(values[:, :5]), unit(values[:, 5:])] for values in (X, QUERIES))
    centre = np.mean([rows[codes == code].mean(0) for code in range(3)], axis=0)
    rows, queries = unit(rows - centre), unit(queries - centre)
    scatter = ((rows - rows.mean(0)) ** 2).sum()
    ridge = Ridge(alpha=10 * scatter / 24).fit(rows, np.eye(3)[codes]).predict(queries)
    right = ridge.argmax(1) == labels
    assert halves["CL2N, ridge 1.0"] == pytest.approx((100 * right[::2].mean(), 100 * right[1::2].mean()))
    logistic = LogisticRegression(C=10**0.5, max_iter=1000, tol=1e-8).fit(rows, codes).score(queries, labels)
    assert found["CL2N, logistic 0.5"] == pytest.approx(100 * logistic, abs=0.6)
    means = np.stack([rows[codes == code].mean(0) for code in range(3)])
    within = (rows - means[codes]).T @ (rows - means[codes])
    inverse = np.linalg.inv(within + np.trace(within) / 12 * np.eye(12))
    scores = queries @ inverse @ means.T - np.einsum("kc,cd,kd->k", means, inverse, means) / 2
    assert found["CL2N, discriminant 0.0"] == pytest.approx(100 * np.mean(scores.argmax(1) == labels))


@pytest.mark.parametrize("shots", [1, 4])
def test_heads_are_measured_side_by_side(shots: int) -> None:
    def blocks(X: np.ndarray) -> dict[str, np.ndarray]:
        views = np.stack([X, X + 0.01], axis=1)
        return {"pooled": views[..., :5], "mean": views[..., 5:]}

    cell = Cell("clouds", Path("model").name, blocks(X), y, blocks(QUERIES), LABELS)
    found = [measure(cell, shots, seed, views=2) for seed in range(2)]
    result = summarise(cell, found)
    # scikit-learn's discriminants need more than one sample a class.
    assert ("LDA, Ledoit-Wolf (scikit-learn): own vector" in result) == (shots > 1)
    for name, record in result.items():
        assert len(record["accuracies"]) == 2
        assert ("calibration_error" in record) == name.startswith(("Shrinkage", "FewShot"))
        assert f"| {name} |" in table({"clouds": {str(shots): result}}, [shots])
    best = np.mean(result["tuned on the test images: the best of all"]["accuracies"])
    assert best == pytest.approx(max(np.mean([tuned[name] for _, tuned in found]) for name in found[0][1]), abs=1e-2)
    assert best >= -1e-2 + np.mean(result["tuned on the other half of the test images"]["accuracies"])
