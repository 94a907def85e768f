"""Classifiers of any kind, fitted to some of the samples: frofa's heads side by side, those of images to features."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples, has_fit_parameter

from frofa.estimators.batched.jobs import Job, fit_many
from frofa.estimators.core.classifier import FeatureClassifier

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]
OF_FEATURES = ("n_features_in_", "feature_names_in_")
"""Fitted attributes that tell of X, which not every estimator has."""


class Samples(NamedTuple):
    """Samples of positive weight, with their labels (n,), and weights (n,) where there are some.

    `head` is the unfitted classifier of what `X` holds; of a classifier of images it is the one of their features.
    `images` is what the classifier knows of its images.
    """

    whole: Any
    head: Any
    X: Any
    y: Array
    weights: Array | None
    images: Any = None

    @classmethod
    def read(cls, whole: Any, X: Any, y: Array, weights: Array | None) -> "Samples":
        """Take features out of images, each image once, where the classifier is one of images."""
        if weights is not None and not has_fit_parameter(whole, "sample_weight"):
            raise ValueError(f"expected no sample_weight, as {type(whole).__name__} takes none. Got some.")
        if weights is not None and not (weights > 0).all():
            used = np.flatnonzero(weights > 0)
            X, y, weights = _safe_indexing(X, used), y[used], weights[used]
        if not hasattr(whole, "_support_of"):
            return cls(whole, whole, X, y, weights)
        images = whole._support_of(X, y, weights)
        return cls(whole, whole._few_shot(), images.features, images.y, images.weights, images)

    def fit(self, rows: Indices | None = None) -> Any:
        """Fit the classifier to some samples, or all of them."""
        if self.images is not None:
            return clone(self.whole)._fit_to(self.images if rows is None else self.images.rows(rows))
        X, y, weights = self.X, self.y, self.weights
        if rows is not None:
            X, y, weights = _safe_indexing(X, rows), y[rows], None if weights is None else weights[rows]
        return clone(self.whole).fit(X, y, **({} if weights is None else {"sample_weight": weights}))

    def fit_parts(self, parts: Sequence[Indices]) -> list[Any]:
        """Fit the classifier of X to each of several parts of the samples, side by side where it can be."""
        if not isinstance(self.head, FeatureClassifier):
            return [Samples(self.head, self.head, self.X, self.y, self.weights).fit(rows) for rows in parts]
        jobs = [Job(self.head, rows) for rows in parts]
        fitted = fit_many(self.X, self.y, jobs, sample_weight=self.weights)
        for one in fitted:
            if isinstance(one, Exception):
                raise one
        return fitted


def as_rows(X: Any, name: str) -> Any:
    """Give samples of any kind that can be chosen one by one; a ValueError, in the name of an estimator, if none."""
    if issparse(X):
        X = X.tocsr()
    elif hasattr(X, "__array__") and not hasattr(X, "__getitem__"):
        X = np.asarray(X)
    if not _num_samples(X):
        raise ValueError(f"{name} needs samples. Got none.")
    return X


def inner_of(fitted: Any) -> Any:
    """Return the fitted classifier of features in one of images; others are themselves."""
    return fitted.head_ if hasattr(fitted, "_features_of") else fitted


def features_of(fitted: Any, X: Any) -> tuple[Any, Any]:
    """Give the fitted classifier of features and those of new samples; of images, they are extracted here."""
    return (fitted.head_, fitted._features_of(X)) if hasattr(fitted, "_features_of") else (fitted, X)


def proba_in_order(fitted: Any, X: Any, classes: Array) -> Array:
    """Predict probabilities (n, K) of these classes by a classifier that may not know all of them."""
    found = np.asarray(fitted.predict_proba(X), np.float64)
    if len(fitted.classes_) == len(classes):
        return found
    proba = np.zeros((len(found), len(classes)))
    proba[:, np.searchsorted(classes, fitted.classes_)] = found
    return proba


def forget(estimator: Any, *attributes: str) -> None:
    """Delete what an earlier fit has set, of these attributes and of those that tell of X."""
    for name in (*OF_FEATURES, *attributes):
        vars(estimator).pop(name, None)


def show_features_of(estimator: Any, fitted: Any) -> None:
    """Set what a fitted estimator inside tells of X."""
    for name in OF_FEATURES:
        if hasattr(fitted, name):
            setattr(estimator, name, getattr(fitted, name))
