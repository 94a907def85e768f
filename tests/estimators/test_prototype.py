from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from features import CLASSES, real_features
from scipy.special import softmax
from sklearn.neighbors import NearestCentroid

from frofa.estimators import PrototypeClassifier

Array = npt.NDArray[Any]
VARIANTS = [(True, True), (True, False), (False, True), (False, False)]


def support() -> tuple[Array, Array]:
    X, y = real_features("mean").shots(8)
    return X.astype(np.float64), y


def half_squared_distances(head: PrototypeClassifier, X: Array, y: Array, weights: Array, at: Array) -> Array:
    """To the mean of each class, sample by sample."""
    center = sum(w * x for w, x in zip(weights, X, strict=True)) / weights.sum() if head.center else 0

    def mapped(rows: Array) -> Array:
        rows = rows - center
        return np.array([row / np.sqrt(row @ row) for row in rows]) if head.normalize else rows

    means = [np.average(mapped(X)[y == c], axis=0, weights=weights[y == c]) for c in np.unique(y)]
    return np.array([[0.5 * ((row - mean) ** 2).sum() for mean in means] for row in mapped(at)])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("center", "normalize"), VARIANTS)
def test_prediction_is_the_nearest_class_mean(center: bool, normalize: bool, weighted: bool) -> None:
    X, y = support()
    weights = np.random.default_rng(0).uniform(0.1, 3, len(y)) if weighted else np.ones(len(y))
    held_out = real_features("mean").held_out.astype(np.float64)
    head = PrototypeClassifier(center=center, normalize=normalize, calibrate=False)
    head.fit(X, y, weights if weighted else None)
    distances = half_squared_distances(head, X, y, weights, held_out)
    np.testing.assert_array_equal(head.predict(held_out), head.classes_[distances.argmin(1)])
    scores = head.decision_function(held_out)
    np.testing.assert_allclose(scores - scores[:, :1], distances[:, :1] - distances, atol=1e-9)
    np.testing.assert_allclose(head.predict_proba(held_out), softmax(-distances / 0.1, axis=1), atol=1e-9)


def test_plain_variant_is_nearest_centroid_of_scikit_learn() -> None:
    X, y = support()
    held_out = real_features("mean").held_out
    head, theirs = PrototypeClassifier(center=False, normalize=False).fit(X, y), NearestCentroid().fit(X, y)
    np.testing.assert_allclose(head.prototypes_, theirs.centroids_, atol=1e-12)
    np.testing.assert_array_equal(head.predict(held_out), theirs.predict(held_out.astype(np.float64)))
    assert not head.mean_.any()


def test_variants_differ() -> None:
    X, y = support()
    fitted = [PrototypeClassifier(center=c, normalize=n).fit(X, y).prototypes_ for c, n in VARIANTS]
    assert all(np.abs(a - b).max() > 1e-3 for i, a in enumerate(fitted) for b in fitted[:i])


def test_sample_weights_equal_repetition() -> None:
    X, y = support()
    counts = np.random.default_rng(0).integers(0, 4, len(y))
    weighted = PrototypeClassifier().fit(X, y, counts)
    repeated = PrototypeClassifier().fit(X.repeat(counts, axis=0), y.repeat(counts))
    np.testing.assert_allclose(weighted.prototypes_, repeated.prototypes_, atol=1e-12)
    np.testing.assert_allclose(weighted.mean_, repeated.mean_, atol=1e-12)


def test_class_without_positive_weight_is_kept_and_never_predicted() -> None:
    X, y = support()
    rest = y != CLASSES[1]
    head = PrototypeClassifier().fit(X, y, rest.astype(float))
    without = PrototypeClassifier().fit(X[rest], y[rest])
    kept = head.classes_ != CLASSES[1]
    assert head.classes_.tolist() == sorted(CLASSES)
    np.testing.assert_allclose(head.predict_proba(X)[:, kept], without.predict_proba(X), rtol=1e-12)
    assert not head.predict_proba(X)[:, ~kept].any()
    assert np.isfinite(head.decision_function(X)).all()
    np.testing.assert_array_equal(head.predict(X), without.predict(X))


def test_two_classes_have_one_score_that_of_the_second() -> None:
    X, y = real_features("mean").shots(8, CLASSES[0], CLASSES[3])
    head = PrototypeClassifier(temperature=0.5, calibrate=False).fit(X, y)
    distances = half_squared_distances(head, X.astype(np.float64), y, np.ones(len(y)), X.astype(np.float64))
    scores = head.decision_function(X)
    assert scores.shape == (len(y),)
    np.testing.assert_allclose(scores, distances[:, 0] - distances[:, 1], atol=1e-6)
    np.testing.assert_array_equal(head.predict(X), np.where(scores > 0, CLASSES[3], CLASSES[0]))
    np.testing.assert_allclose(head.predict_proba(X)[:, 1], 1 / (1 + np.exp(-scores / 0.5)), rtol=1e-9)


def test_temperature_changes_probabilities_only() -> None:
    X, y = support()
    sharp, soft = (PrototypeClassifier(temperature=each, calibrate=False).fit(X, y) for each in (0.01, 1.0))
    np.testing.assert_array_equal(sharp.predict(X), soft.predict(X))
    assert (sharp.predict_proba(X).max(1) > soft.predict_proba(X).max(1)).all()


def test_sample_at_the_mean_has_finite_scores() -> None:
    X, y = support()
    head = PrototypeClassifier().fit(X, y)
    np.testing.assert_allclose(head.decision_function(head.mean_[None]), [-0.5 * (head.prototypes_**2).sum(1)])


def test_tokens_are_averaged() -> None:
    tokens, y = real_features("tokens").shots(3)
    pooled = tokens.mean(1, dtype=np.float64)
    head = PrototypeClassifier().fit(tokens, y)
    np.testing.assert_array_equal(head.prototypes_, PrototypeClassifier().fit(pooled, y).prototypes_)
    np.testing.assert_array_equal(head.predict_proba(tokens), head.predict_proba(pooled))


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_bad_temperature_is_named(temperature: float) -> None:
    with pytest.raises(ValueError, match=f"'temperature' parameter of PrototypeClassifier .* Got {temperature}"):
        PrototypeClassifier(temperature=temperature).fit(*support())
