"""Probabilities of training samples by fits that did not see them, of any classifier."""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.utils import _safe_indexing, check_consistent_length, check_random_state
from sklearn.utils.validation import _check_sample_weight, column_or_1d, has_fit_parameter

from frofa.compute.arrays import as_labels, plain_labels
from frofa.estimators.batched.jobs import Job, fit_many
from frofa.estimators.core.classifier import FeatureClassifier
from frofa.estimators.core.confident.folds import assign_weighted
from frofa.estimators.core.unlabelled import labelled_rows

Array = npt.NDArray[Any]
OF_IMAGES = ("head_", "kept_")
"""Fitted attributes by which a classifier of images is told from others: its heads, and the images they know."""


def left_out_proba(
    classifier: Any, X: Any, y: Any, *, sample_weight: Any = None, n_folds: int = 5, random_state: Any = 0
) -> tuple[Array, Array]:
    """Predict the probabilities of each sample by fits that did not see it.

    They are leave-one-out where that has a closed form: of the ridge, prototype and shrinkage probes, and of the probe
    in a `FewShotClassifier`. Otherwise they are out of fold, folds being stratified: frofa's heads are fitted side by
    side, other classifiers one after another. An `ImageClassifier` gives its out-of-fold probabilities, and one that
    was fitted to as many images with the same classes is taken as fitted to these.

    Parameters
    ----------
    classifier : estimator
        Of any kind that has ``predict_proba``; it is cloned, and not changed.
    X : features of any kind that the classifier takes, of n samples
    y : array-like of shape (n,)
        Labels, of two classes at least.
    sample_weight : array-like of shape (n,), default=None
        Non-negative. Samples without weight are in no fit, and predicted by a fit to all others.
    n_folds : int, default=5
        Folds, where there are any.
    random_state : int, RandomState or None, default=0
        Seed of the folds.

    Returns
    -------
    classes : ndarray of shape (n_classes,)
        Labels, sorted.
    proba : ndarray of shape (n, n_classes)
        NaN for samples that are the only one of their class or, where `unlabeled` of the classifier says so, have no
        label, and for images that an `ImageClassifier` left out.

    Raises
    ------
    ValueError
        If the classifier has no ``predict_proba``, or does not take sample weights and there are some, or a fit fails.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa.estimators import PrototypeClassifier
    >>> from frofa.estimators.batched.left_out import left_out_proba
    >>> features = [[0.0, 1.0], [0.1, 1.0], [1.0, 0.0], [1.0, 0.2], [1.0, 1.2]]
    >>> classes, proba = left_out_proba(PrototypeClassifier(), features, ["cat", "cat", "dog", "dog", "owl"])
    >>> classes.tolist(), classes[proba[:4].argmax(1)].tolist(), bool(np.isnan(proba[4]).all())
    (['cat', 'dog', 'owl'], ['cat', 'cat', 'dog', 'dog'], True)
    """
    # Samples without a label, where the classifier takes such: they are fitted to, and have no probabilities.
    known = labelled_rows(y, getattr(classifier, "unlabeled", None), warn=False)
    labels: Array = column_or_1d(as_labels(y)) if known is None else plain_labels(y)
    check_consistent_length(X, labels)
    classes, codes = np.unique(labels if known is None else as_labels(labels[known]), return_inverse=True)
    if not hasattr(classifier, "predict_proba"):
        raise ValueError(f"expected a classifier with predict_proba. Got {type(classifier).__name__}.")
    if _is_of_images(classifier):
        return classes, _of_images(classifier, X, labels, sample_weight, classes)
    weights = _check_sample_weight(sample_weight, labels, dtype=np.float64, ensure_non_negative=True)
    proba = np.full((len(labels), len(classes)), np.nan)
    found = _in_closed_form(classifier, X, labels, sample_weight)
    if found is None:
        folds = assign_weighted(codes, weights, n_folds, check_random_state(random_state))
        parts = [fold for fold in range(n_folds) if (folds == fold).any()]
        heads = _fits(classifier, X, labels, sample_weight, [np.flatnonzero(folds != fold) for fold in parts])
        for fold, head in zip(parts, heads, strict=True):
            _predict(head, X, np.flatnonzero(folds == fold), classes, proba)
    else:
        proba[:] = found[1]
    unseen = np.flatnonzero(weights == 0)
    if len(unseen):
        whole = _fits(classifier, X, labels, sample_weight, [np.arange(len(labels))])[0] if found is None else found[0]
        _predict(whole, X, unseen, classes, proba)
    return classes, proba


def _is_of_images(classifier: Any) -> bool:
    return type(classifier).__name__ == "ImageClassifier" and hasattr(classifier, "predict_views")


def _of_images(classifier: Any, X: Any, labels: Array, sample_weight: Any, classes: Array) -> Array:
    """Fill out-of-fold probabilities (n, n_classes) of the images that the heads were fitted to."""
    fitted = classifier
    known = all(hasattr(classifier, name) for name in OF_IMAGES)
    if not known or not np.array_equal(classifier.classes_, classes) or classifier.kept_.max() >= len(labels):
        fitted = clone(classifier).fit(X, labels, sample_weight)
    proba = np.full((len(labels), len(classes)), np.nan)
    proba[fitted.kept_] = fitted.head_.out_of_fold_proba_
    return proba


def _in_closed_form(classifier: Any, X: Any, labels: Array, sample_weight: Any) -> tuple[Any, Array] | None:
    """Fit a head that leaves samples out on its way, and return it and the probabilities (n, n_classes)."""
    name = getattr(classifier, "_left_out_in", None) if isinstance(classifier, FeatureClassifier) else None
    if name is None:
        return None
    fitted = clone(classifier).fit(X, labels, sample_weight)
    proba = getattr(fitted, name, None)  # not of every setting
    return None if proba is None else (fitted, proba)


def _fits(classifier: Any, X: Any, labels: Array, sample_weight: Any, parts: list[Array]) -> list[Any]:
    """Fit clones to parts of the samples: heads side by side, others one after another."""
    if isinstance(classifier, FeatureClassifier):
        jobs = [Job(classifier, part) for part in parts]
        fitted = fit_many(X, labels, jobs, sample_weight=sample_weight)
        for one in fitted:
            if isinstance(one, Exception):
                raise one
        return list(fitted)
    if sample_weight is not None and not has_fit_parameter(classifier, "sample_weight"):
        raise ValueError(f"{type(classifier).__name__} takes no sample_weight. Got some.")
    heads = []
    for part in parts:
        weight = {} if sample_weight is None else {"sample_weight": _safe_indexing(np.asarray(sample_weight), part)}
        heads.append(clone(classifier).fit(_safe_indexing(X, part), labels[part], **weight))
    return heads


def _predict(head: Any, X: Any, rows: Array, classes: Array, proba: Array) -> None:
    """Fill rows of the probabilities (n, n_classes); a class that the head does not know has none."""
    proba[rows] = 0
    proba[np.ix_(rows, np.searchsorted(classes, head.classes_))] = head.predict_proba(_safe_indexing(X, rows))
