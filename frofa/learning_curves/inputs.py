"""Inputs of many fits: a head and its features, which an image classifier extracts once."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.base import is_classifier
from sklearn.utils import _safe_indexing, check_consistent_length

from frofa.compute.arrays import as_features, as_labels, missing, present_labels
from frofa.estimators.core.classifier import FeatureClassifier
from frofa.estimators.core.unlabelled import labelled_rows
from frofa.estimators.core.validation import one_label_each
from frofa.image_classifier.classifier import ImageClassifier
from frofa.images.listing import count

NAME = "how_many_labels"


class Inputs(NamedTuple):
    """An unfitted head, and features (n, ...) with labels (n,) to fit it to; notes say what was left out."""

    head: Any
    features: Any
    y: npt.NDArray[Any]
    notes: tuple[str, ...] = ()


def inputs_of(classifier: Any, X: Any, y: Any) -> Inputs:
    """Take apart a classifier of images and images, or check any other classifier and what it takes."""
    if isinstance(classifier, ImageClassifier):
        return _of_images(classifier, X, y)
    if not (hasattr(classifier, "fit") and is_classifier(classifier)):
        raise TypeError(f"{NAME} takes a classifier. Got {classifier!r}.")
    if y is None:
        raise ValueError(f"{NAME} requires y to be passed, but the target y is None.")
    features = as_features(X) if type(X).__module__.startswith(("frofa", "torch")) else X
    known = labelled_rows(y, getattr(classifier, "unlabeled", None), warn=False)
    if known is not None:
        check_consistent_length(features, known)
        features, y = _safe_indexing(features, np.flatnonzero(known)), present_labels(y, known)
    labels = one_label_each(y, NAME)
    check_consistent_length(features, labels)
    return Inputs(_lighter(classifier), features, labels, _without_label(known))


def _of_images(classifier: ImageClassifier, X: Any, y: Any) -> Inputs:
    support = classifier._support_of(X, y)
    known, features, labels = ~missing(support.y), support.features, support.y
    if not known.all():
        features, labels = features[np.flatnonzero(known)], as_labels(labels[known].tolist())
    lost = {"could not be read": len(support.skipped), "repeat others": support.n_copies}
    notes = [f"Left out, as they {what}: {count(n, 'image')}" for what, n in lost.items() if n]
    return Inputs(_lighter(classifier._few_shot()), features, labels, (*notes, *_without_label(known)))


def _without_label(known: npt.NDArray[np.bool_] | None) -> tuple[str, ...]:
    n = 0 if known is None else int((~known).sum())
    return (f"Left out, as they have no label: {count(n, 'image')}",) if n else ()


def _lighter(classifier: Any) -> Any:
    """Make a head keep no copy of what it was fitted to, as there are many of them, and reject no image."""
    given = classifier.get_params(deep=False)
    changed = {name: value for name, value in (("keep_support", False), ("reject", None)) if name in given}
    return type(classifier)(**{**given, **changed}) if isinstance(classifier, FeatureClassifier) else classifier
