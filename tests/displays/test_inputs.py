"""Predictions of classifiers of images, of pipelines and of heads, and out of fold: the same numbers all round."""

from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from display_cases import Fitted, fitted_classifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from frofa import FrozenFeatureExtractor
from frofa.displays.inputs import from_classifier, from_folds, from_given
from frofa.exceptions import SkippedImagesWarning
from frofa.images.image_set import image_set

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5)) + np.repeat(np.eye(3, 5), 20, axis=0) * 3
Y = np.repeat(["a", "b", "c"], 20)


@pytest.fixture
def fitted() -> Fitted:
    return fitted_classifier()


def test_a_classifier_of_images_is_asked(fitted: Fitted) -> None:
    found = from_classifier(fitted.classifier, fitted.items, fitted.y, level=0.8)
    np.testing.assert_allclose(found.probabilities, fitted.classifier.predict_proba(fitted.items), atol=1e-6)
    assert found.classes[found.truth].tolist() == fitted.y.tolist()
    assert found.pictures == fitted.items
    np.testing.assert_array_equal(found.sets, fitted.classifier.predict_set(fitted.items, 0.8)[1][:, :, 0])
    np.testing.assert_array_equal(found.right, found.predicted == found.truth)


def test_labels_of_an_image_set_are_taken(fitted: Fitted) -> None:
    found = from_classifier(fitted.classifier, image_set(fitted.items, fitted.y))
    assert found.classes[found.truth].tolist() == fitted.y.tolist()


def test_unknown_and_missing_labels_are_left_out(fitted: Fitted) -> None:
    y = fitted.y.astype(object)
    y[0], y[3] = "unicorn", None
    found = from_classifier(fitted.classifier, fitted.items, y)
    assert found.positions.tolist() == [i for i in range(len(y)) if i not in (0, 3)]
    assert found.pictures is not None
    assert found.pictures[0] == fitted.items[1]
    with pytest.raises(ValueError, match=r"expected labels that the classifier knows: bag, coat.*Got unicorn"):
        from_classifier(fitted.classifier, fitted.items, ["unicorn"] * len(y))


def test_images_that_cannot_be_read_are_left_out_if_the_classifier_skips_them(fitted: Fitted, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    items, y = [fitted.items[0], str(tmp_path / "broken.png"), fitted.items[1]], fitted.y[[0, 0, 1]]
    with pytest.raises(ValueError, match=r"broken\.png"):
        from_classifier(fitted.classifier, items, y)
    skipping = copy(fitted.classifier).set_params(on_error="skip")
    with pytest.warns(SkippedImagesWarning):
        found = from_classifier(skipping, items, y)
    assert found.positions.tolist() == [0, 2]
    assert found.pictures == [items[0], items[2]]


def test_a_pipeline_on_images_and_its_head_on_features_agree(fitted: Fitted) -> None:
    extractor = FrozenFeatureExtractor(device="cpu", n_jobs=1, output="auto")
    whole = make_pipeline(extractor, StandardScaler(), LogisticRegression()).fit(fitted.items, fitted.y)
    of_images = from_classifier(whole, fitted.items, fitted.y)
    of_features = from_classifier(whole[1:], fitted.features, fitted.y, images=fitted.items)
    np.testing.assert_allclose(of_images.probabilities, of_features.probabilities)
    assert of_images.pictures == of_features.pictures == fitted.items
    assert from_classifier(whole[1:], fitted.features, fitted.y).pictures is None


def test_classifiers_without_probabilities_have_certain_ones() -> None:
    head = RidgeClassifier().fit(X, Y)
    found = from_classifier(head, X, Y, probabilities=False)
    assert found.classes[found.predicted].tolist() == head.predict(X).tolist()
    assert set(np.unique(found.probabilities)) == {0, 1}
    with pytest.raises(ValueError, match="predict_proba"):
        from_classifier(head, X, Y)


def test_labels_are_not_always_needed() -> None:
    found = from_classifier(LogisticRegression().fit(X, Y), X, need_labels=False)
    assert (found.truth == -1).all()
    with pytest.raises(ValueError, match="requires y"):
        from_classifier(LogisticRegression().fit(X, Y), X)


def test_given_predictions() -> None:
    table = np.array([[0.2, 0.8], [0.6, 0.4]])
    found = from_given(["b", "b"], table, classes=["a", "b"])
    assert found.right.tolist() == [True, False]
    labels = from_given([1, 2, 2], [1, 3, 2])
    assert (labels.names, labels.right.tolist()) == (["1", "2", "3"], [True, False, True])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"y_true": ["a"], "y_pred": ["a", "b"]}, "inconsistent"),
        ({"y_true": ["a", "b"], "y_pred": np.eye(3)[:2]}, r"shape \(2, 2\).*Got an array of shape \(2, 3\)"),
        ({"y_true": ["a", "z"], "y_pred": ["a", "b"], "classes": ["a", "b"]}, "among a, b. Got 'z'"),
        ({"y_true": ["a", "b"], "y_pred": ["a", "z"], "classes": ["a", "b"]}, "among a, b. Got 'z'"),
        ({"y_true": ["a", "b"], "y_pred": ["a", "b"], "images": ["x.png"]}, "one image for each sample. Got 1"),
    ],
)
def test_wrong_predictions_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_given(**given)


def test_out_of_fold_predictions_are_those_of_each_fold() -> None:
    folds = cross_validate(LogisticRegression(), X, Y, cv=3, return_estimator=True, return_indices=True)
    found = from_folds(folds, X, Y)
    for estimator, test in zip(folds["estimator"], folds["indices"]["test"], strict=True):
        np.testing.assert_allclose(found.probabilities[test], estimator.predict_proba(X[test]))
    assert found.classes[found.truth].tolist() == Y.tolist()


def test_folds_that_repeat_are_averaged_and_classes_are_joined() -> None:
    first, second = np.arange(0, 40), np.arange(20, 60)
    estimators = [LogisticRegression().fit(X[rows], Y[rows]) for rows in (first, second)]
    tests = [np.array([0, 20, 21]), np.array([21, 50])]
    results = {"estimator": estimators, "indices": {"train": [first, second], "test": tests}}
    found = from_folds(results, X, Y)
    assert found.positions.tolist() == [0, 20, 21, 50]
    assert found.names == ["a", "b", "c"]
    expected = np.zeros(3)
    expected[:2] += estimators[0].predict_proba(X[[21]])[0] / 2
    expected[1:] += estimators[1].predict_proba(X[[21]])[0] / 2
    np.testing.assert_allclose(found.probabilities[2], expected)


def test_folds_without_estimators_are_refused() -> None:
    with pytest.raises(ValueError, match=r"return_estimator=True, return_indices=True.*Got fit_time"):
        from_folds(cross_validate(LogisticRegression(), X, Y, cv=2), X, Y)
    kept = cross_validate(LogisticRegression(), X, Y, cv=2, return_estimator=True, return_indices=True)
    with pytest.raises(ValueError, match="Got 30"):
        from_folds(kept, X[:30], Y[:30])
