"""Checks of what users give to the heads; errors name the head, what was got and what was expected."""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import assert_all_finite, check_array, check_consistent_length
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, column_or_1d, validate_data

from frofa.augmentations import Augmentation
from frofa.compute.arrays import (
    as_features,
    as_labels,
    check_magnitude,
    check_no_strings,
    check_not_empty,
    check_weights,
)
from frofa.estimators.core.support import Array, Labels
from frofa.estimators.tokens.blocks import plain_features
from frofa.estimators.tokens.lazy import LazyFeatures, check_finite
from frofa.estimators.tokens.padding import check_ragged
from frofa.estimators.tokens.views import check_grid
from frofa.ragged import RaggedTokens


def check_features(head: Any, X: Any, dtype: type[np.floating[Any]], *, reset: bool) -> Array:
    """Check features (n, C) or tokens (n, N, C), of whatever kind, and that they have as many features as those fitted.

    Of FeatureBlocks, it is the vectors side by side, averaged over views; where there are none, the tokens as they are.
    With `reset`, ``n_features_in_`` and, of a data frame, ``feature_names_in_`` of the head are set instead.
    """
    X, name = plain_features(as_features(X)), type(head).__name__
    check_no_strings(X, name)
    if getattr(X, "ndim", 2) != 3:
        with np.errstate(over="ignore"):  # what becomes infinite is an error
            features: Array = validate_data(head, X, reset=reset, dtype=dtype)
        check_magnitude(features, dtype, name)
        return features
    tokens = _check_tokens(head, X, dtype)
    # scikit-learn would take the number of tokens for the number of features.
    if reset:
        head.n_features_in_ = tokens.shape[2]
        if hasattr(head, "feature_names_in_"):
            del head.feature_names_in_
    elif tokens.shape[2] != head.n_features_in_:
        raise ValueError(
            f"X has {tokens.shape[2]} features a token, but {name} is expecting {head.n_features_in_} features as "
            "input."
        )
    return tokens


def _check_tokens(head: Any, X: Any, dtype: type[np.floating[Any]]) -> Array:
    check_not_empty(X.shape, type(head).__name__)
    tokens: Array = X
    if isinstance(X, RaggedTokens):
        check_ragged(X, head, dtype)
    elif isinstance(X, LazyFeatures):
        check_finite(X, head, dtype)
    else:
        tokens = check_array(X, allow_nd=True, dtype=[np.float32, np.float64], estimator=head, input_name="X")
        check_magnitude(tokens, dtype, type(head).__name__)
    return tokens


def check_labels(X: Any, y: Any, sample_weight: Any, name: str) -> Labels:
    """Check labels and weights of samples, of which X has one each."""
    y = one_label_each(y, name)
    check_consistent_length(X, y)
    # Classes in sorted order, and the position (n,) of each label among them.
    classes, codes = np.unique(y, return_inverse=True)
    _require_two(classes, name)
    weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    return Labels(y, classes, codes, weights)


def one_label_each(y: Any, name: str) -> Array:
    """Check labels (n,), one of each sample; errors name the estimators of what they may be instead."""
    labels = as_labels(y)
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise ValueError(
            f"{name} takes one label of each sample, (n,). Got shape {labels.shape}: MultiLabelProbeClassifier takes "
            "several labels of each, ShrinkageRegressor several numbers."
        )
    labels = column_or_1d(labels, warn=True)
    assert_all_finite(labels, input_name="y")
    try:
        check_classification_targets(labels)
    except ValueError as error:
        raise ValueError(f"{error} ShrinkageRegressor predicts numbers.") from error
    found: Array = labels
    return found


def choose_labels(labels: Labels, rows: Any, name: str) -> Labels:
    """Choose some of the samples that were checked; classes are those that they have."""
    present, codes = np.unique(labels.codes[rows], return_inverse=True)
    _require_two(labels.classes[present], name)
    return Labels(labels.y[rows], labels.classes[present], codes, labels.weights[rows])


def _require_two(classes: Array, name: str) -> None:
    if len(classes) < 2:
        raise ValueError(f"{name} needs samples of at least 2 classes. Got one class only: {classes[0]}.")


def require_labels(y: Any, name: str) -> None:
    """Raise scikit-learn's error where there are no labels."""
    if y is None:
        raise ValueError(f"{name} requires y to be passed, but the target y is None.")


def weigh_samples(labels: Labels, class_weight: Any) -> npt.NDArray[np.float64]:
    """Multiply sample weights with those of their classes, and check that some are positive."""
    weights = labels.weights
    if class_weight is not None:
        weights = weights * compute_sample_weight(class_weight, labels.y)
    check_weights(weights)
    return weights


def check_augmentation(augment: Augmentation | None, n_views: int, grid: Any, name: str) -> Augmentation:
    """Return an augmentation that can be had at prediction, if there are views."""
    if augment is None:
        raise ValueError(f"n_views={n_views} needs an augmentation. Got augment=None.")
    augment.validate()
    check_grid(grid, name)
    if n_views and augment.mixes_labels:
        raise ValueError(
            f"n_views={n_views} needs an augmentation of single images, and this one mixes them: {augment!r}."
        )
    return augment


def refuse_mixing(augment: Augmentation, name: str) -> None:
    """Raise a ValueError in the name of a head that cannot train on mixed labels, if an augmentation mixes them."""
    if augment.mixes_labels:
        raise ValueError(
            f"{name} needs an augmentation that leaves labels as they are; MAPClassifier takes any. Got {augment!r}."
        )
