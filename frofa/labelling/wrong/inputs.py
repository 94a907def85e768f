"""Samples of any kind as features, whatever makes these of images."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, check_consistent_length
from sklearn.utils.validation import _num_samples, column_or_1d

from frofa.blocks import FeatureBlocks
from frofa.compute.arrays import as_features, as_labels
from frofa.estimators.core.confident.novelty import rows_of
from frofa.estimators.core.unlabelled import labelled_rows
from frofa.exceptions import ImageReadError
from frofa.extraction.extractor import FrozenFeatureExtractor
from frofa.image_classifier import ImageClassifier
from frofa.image_classifier.support import labelled
from frofa.images.image_set import ImageSet, as_image_list
from frofa.images.items import describe
from frofa.images.reading import content
from frofa.labelling.suggestions.images import probe_of

Array = npt.NDArray[Any]


class Samples(NamedTuple):
    """Features of the samples that could be read, at the positions `kept` (m,) of n that were given.

    `keys`, of images, are equal for copies; `names`, of images, are for people. Labels are those of all n, or None.
    """

    features: Any
    y: Array | None
    kept: Array
    n: int
    keys: list[str] | None
    names: list[str] | None
    skipped: list[ImageReadError]


class Prepared(NamedTuple):
    """A classifier of features, with training samples and, where there are some, test samples."""

    head: Any
    train: Samples
    test: Samples | None


def prepare(classifier: Any, X: Any, y: Any, X_test: Any, y_test: Any) -> Prepared:
    """Extract features if the classifier takes images; those that are features are taken as they are."""
    if X_test is None and y_test is not None:
        raise ValueError("y_test are labels of X_test, and need it. Got X_test=None.")
    extractor, head = _parts_of(classifier)

    def samples(images: Any, labels: Any) -> Samples:
        if extractor is None:
            return _samples_of(images, labels, getattr(head, "unlabeled", None))
        return _extracted(extractor, images, labels)

    if extractor is not None or isinstance(X, ImageSet):
        X, y = labelled(X, y, type(classifier).__name__)
        if isinstance(X_test, ImageSet) and y_test is None:
            y_test = X_test.labels
    train = samples(X, y)
    return Prepared(head, train, None if X_test is None else samples(X_test, y_test))


def vectors_of(features: Any) -> list[Array]:
    """Return rows (n, D) of length one, averaged over all views, and of many views over the first two alone, too.

    All views are alike of images of which one is cropped, and the first two, the plain and the mirrored one, are equal
    of mirrored images. There are none where samples are no numbers, as those of a pipeline on text.
    """
    if isinstance(features, FeatureBlocks):
        firsts = [features.select(n_views=2)] if features.n_views > 2 else []
        return [rows_of(views) for views in (features, *firsts)]
    if getattr(features, "ndim", 0) not in (2, 3):
        return []
    if not hasattr(features, "dtype"):  # a data frame
        try:
            features = np.asarray(features, np.float64)
        except (TypeError, ValueError):
            return []
    return [rows_of(features)] if features.dtype.kind in "fiub" else []


def _parts_of(classifier: Any) -> tuple[FrozenFeatureExtractor | None, Any]:
    """Split a classifier of images into what makes features of images and what classifies these."""
    if isinstance(classifier, ImageClassifier):
        # Pooled vectors alone, whatever the effort: attention heads are not trained in every round.
        return classifier._extractor(classifier.n_views, tokens=False), probe_of(classifier)
    if isinstance(classifier, Pipeline) and isinstance(classifier[0], FrozenFeatureExtractor):
        rest = classifier[1:]
        return clone(classifier[0]), rest[0] if len(rest) == 1 else rest
    return None, classifier


def _samples_of(X: Any, y: Any, unlabeled: Any) -> Samples:
    """Take features as they are, without those that have no label where `unlabeled` says which."""
    X = as_features(X)
    labels = None if y is None else column_or_1d(as_labels(y), warn=True)
    if labels is not None:
        check_consistent_length(X, labels)
    n = _num_samples(X)
    known = labelled_rows(labels, unlabeled, warn=False)
    if known is not None:
        rows = np.flatnonzero(known)
        return Samples(_safe_indexing(X, rows), labels, rows, n, None, None, [])
    return Samples(X, labels, np.arange(n), n, None, None, [])


def _extracted(extractor: FrozenFeatureExtractor, X: Any, y: Any) -> Samples:
    labels = None if y is None else column_or_1d(as_labels(y), warn=True)
    found = extractor.fit().extract(X, labels)
    items = _items_of(X)
    names = None if items is None else [describe(item) for item in items]
    keys = found.keys
    if keys is None and items is not None:
        keys = [content(items[position])[1] for position in found.kept]
    return Samples(found.features, labels, found.kept, _num_samples(names if names else X), keys, names, found.skipped)


def _items_of(X: Any) -> Sequence[Any] | None:
    """Return images one by one; None of items of a custom encoder, which may be anything."""
    try:
        return as_image_list(X)
    except (TypeError, ValueError):
        return None
