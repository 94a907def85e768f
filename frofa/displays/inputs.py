"""Predictions of labelled samples, and their images: what all displays are made of, wherever it comes from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import _safe_indexing, check_consistent_length
from sklearn.utils.validation import _num_samples

from frofa.compute.arrays import as_features, as_labels
from frofa.displays.parts import Parts, parts_of
from frofa.estimators.core.validation import one_label_each
from frofa.evaluation import label_positions
from frofa.image_classifier.support import labelled
from frofa.images.frames import is_column, is_frame
from frofa.images.image_set import ImageSet, as_image_list
from frofa.images.items import ImageItem
from frofa.utils.text import shorten

Array = npt.NDArray[Any]
Positions = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of m of n samples: of those that could be read and have a label that is known.

    Attributes
    ----------
    classes : ndarray of shape (K,)
    truth : ndarray of intp, shape (m,)
        Positions among the classes; -1 where no label was asked for, and there is none.
    probabilities : ndarray of float64, shape (m, K)
        1 for the predicted class and 0 for the others, where there are none.
    positions : ndarray of intp, shape (m,)
        Where the samples are in the input.
    pictures : sequence of m image items, or None
    features : features of m samples, or None
        As the head takes them.
    sets : ndarray of bool, shape (m, K), or None
    parts : Parts or None
        Of the classifier, where there is one.
    """

    classes: Array
    truth: Positions
    probabilities: npt.NDArray[np.float64]
    positions: Positions
    pictures: Sequence[ImageItem] | None = None
    features: Any = None
    sets: npt.NDArray[np.bool_] | None = None
    parts: Parts | None = None

    @property
    def predicted(self) -> Positions:
        """Position of the most probable class of each sample, (m,)."""
        best: Positions = self.probabilities.argmax(1)
        return best

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether each prediction is right, (m,)."""
        right: npt.NDArray[np.bool_] = self.predicted == self.truth
        return right

    @property
    def names(self) -> list[str]:
        """The classes as text."""
        return [str(label) for label in self.classes.tolist()]


def from_classifier(
    classifier: Any,
    X: Any,
    y: Any = None,
    *,
    images: Any = None,
    level: float | None = None,
    probabilities: bool = True,
    need_labels: bool = True,
) -> Predictions:
    """Ask a fitted classifier of images or of features; with a level, for prediction sets too, where it has some.

    A TypeError or ValueError says that it is no fitted classifier, or has no probabilities where they are needed; that
    labels are missing, or none of them is known; or that there is not one image for each sample.
    """
    parts = parts_of(classifier, fail_fast=_fails_fast(classifier), probabilities=probabilities)
    if parts.extractor is None:
        X = X.items if isinstance(X, ImageSet) else as_features(X)
        y = images.labels if y is None and isinstance(images, ImageSet) else y
    classes = np.asarray(parts.whole.classes_ if hasattr(parts.whole, "classes_") else parts.head.classes_)
    n = _num_samples(X.items if isinstance(X, ImageSet) else X)
    codes = _codes_of(parts, X, y, classes, n) if need_labels or _has_labels(X, y) else np.full(n, -1)
    rows = np.flatnonzero(codes >= 0) if need_labels else np.arange(n)
    pictures = pictures_of(X if images is None else images, n, given=images is not None)
    features, kept = _features(parts, X, rows)
    table = _probabilities(parts.head, features, classes)
    sets = None if level is None or parts.sets is None else parts.sets.predict_set(features, level)[1][:, :, 0]
    chosen = None if pictures is None else [pictures[i] for i in kept.tolist()]
    return Predictions(classes, codes[kept], table, kept, chosen, features, sets, parts)


def from_given(y_true: Any, y_pred: Any, *, classes: Any = None, images: Any = None) -> Predictions:
    """Take predictions that are known: labels (n,), or probabilities (n, K) in the order of `classes`.

    Without `classes`, they are the labels that are there, sorted. A ValueError says that lengths or shapes differ, or a
    label is none of the classes.
    """
    y_true = images.labels if y_true is None and isinstance(images, ImageSet) else y_true
    truth = one_label_each(y_true, "from_predictions")
    given = np.asarray(y_pred)
    check_consistent_length(truth, given)
    of_labels = given.ndim == 1
    if classes is None:
        present = [*truth.tolist(), *given.tolist()] if of_labels else truth.tolist()
        classes = np.unique(np.asarray(as_labels(present)))
    classes = np.asarray(classes)
    if of_labels:
        table = _one_hot(given, classes)
    else:
        table = np.asarray(given, np.float64)
        if table.shape != (len(truth), len(classes)) or not np.isfinite(table).all() or table.min(initial=0) < 0:
            raise ValueError(
                f"expected labels, or probabilities of shape {(len(truth), len(classes))} of the classes "
                f"{shorten(classes.tolist())}. Got an array of shape {table.shape}."
            )
    codes = label_positions(truth, classes)
    if (codes < 0).any():
        raise ValueError(f"expected labels among {shorten(classes.tolist())}. Got {str(truth[codes < 0][0])!r}.")
    pictures = pictures_of(images, len(truth), given=True)
    return Predictions(classes, codes, table, np.arange(len(truth)), pictures)


def from_folds(cv_results: Mapping[str, Any], X: Any, y: Any, **options: Any) -> Predictions:
    """Gather out-of-fold predictions of scikit-learn's `cross_validate`; options are those of `from_classifier`.

    Of samples that are in several test sets, probabilities are averaged; those in none are left out. A ValueError says
    that estimators or indices were not kept, or X is of another length.
    """
    if not {"estimator", "indices"} <= set(cv_results):
        raise ValueError(
            "expected the results of cross_validate(..., return_estimator=True, return_indices=True). "
            f"Got {', '.join(sorted(cv_results)) or 'none'}."
        )
    X, y = (X.items, X.labels if y is None else y) if isinstance(X, ImageSet) else (X, y)
    n, tests = _num_samples(X), cv_results["indices"]["test"]
    expected = len(cv_results["indices"]["train"][0]) + len(tests[0])
    if n < max(int(np.max(test)) for test in tests) + 1:
        raise ValueError(f"expected the samples of cross_validate, about {expected}. Got {n}.")
    own = options.get("images")
    images = pictures_of(X if own is None else own, n, given=own is not None)
    labels = np.asarray(as_labels(y))
    found = []
    for estimator, test in zip(cv_results["estimator"], tests, strict=True):
        part = from_classifier(estimator, _safe_indexing(X, test), labels[test], **{**options, "images": None})
        found.append(replace(part, positions=np.asarray(test)[part.positions]))
    gathered = _gather(found, n)
    return replace(gathered, pictures=None if images is None else [images[i] for i in gathered.positions.tolist()])


def _gather(parts: Sequence[Predictions], n: int) -> Predictions:
    classes = np.unique(np.concatenate([part.classes for part in parts]))
    table, counts = np.zeros((n, len(classes))), np.zeros(n)
    truth = np.full(n, -1)
    sets = None if any(part.sets is None for part in parts) else np.zeros((n, len(classes)), np.bool_)
    for part in parts:
        columns = np.searchsorted(classes, part.classes)
        rows = part.positions
        table[np.ix_(rows, columns)] += part.probabilities
        counts[rows] += 1
        truth[rows] = columns[part.truth]
        if sets is not None and part.sets is not None:
            sets[np.ix_(rows, columns)] |= part.sets
    kept = np.flatnonzero(counts)
    return Predictions(
        classes, truth[kept], table[kept] / counts[kept, None], kept, sets=None if sets is None else sets[kept]
    )


def pictures_of(images: Any, n: int, *, given: bool) -> Sequence[ImageItem] | None:
    """List n images. None says that what came in place of them are features; if they were `given`, that is an error."""
    if images is None:
        return None
    if not given and not _may_be_images(images):
        return None
    try:
        items = as_image_list(images)
    except (TypeError, ValueError):
        if given:
            raise
        return None
    if len(items) != n:
        raise ValueError(f"expected one image for each sample. Got {len(items)} images and {n} samples.")
    return items


def _may_be_images(X: Any) -> bool:
    """Tell what is looked through for images: lists, columns, and pixels, but no arrays of features on disk."""
    if isinstance(X, np.ndarray):
        return X.dtype.kind in "OSUT" or (X.dtype == np.uint8 and X.ndim == 4)
    return isinstance(X, (ImageSet, list, tuple)) or is_frame(X) or is_column(X)


def _fails_fast(classifier: Any) -> bool:
    parts = [classifier, *(step for _, step in getattr(classifier, "steps", []))]
    return not any(getattr(part, "on_error", None) == "skip" for part in parts)


def _has_labels(X: Any, y: Any) -> bool:
    return y is not None or (isinstance(X, ImageSet) and X.labels is not None)


def _codes_of(parts: Parts, X: Any, y: Any, classes: Array, n: int) -> Positions:
    """Positions of labels among the classes, (n,); -1 for those that are missing or unknown."""
    # -1 is a label of its own where the head does not know better.
    unlabeled = float("nan") if parts.unlabeled is None else parts.unlabeled
    _, labels = labelled(X, y, type(parts.whole).__name__, unlabeled)
    if len(labels) != n:
        raise ValueError(f"expected one label for each sample. Got {len(labels)} labels and {n} samples.")
    codes = np.full(n, -1)
    told = np.flatnonzero([label is not None for label in labels.tolist()])
    codes[told] = label_positions(labels[told].tolist(), classes)
    if not (codes >= 0).any():
        got = shorten({str(label) for label in labels[told].tolist()}) or "no label"
        raise ValueError(f"expected labels that the classifier knows: {shorten(classes.tolist())}. Got {got}.")
    return codes


def _features(parts: Parts, X: Any, rows: Positions) -> tuple[Any, Positions]:
    """Features of some samples as the head takes them, and the positions of those that could be read."""
    whole = len(rows) == _num_samples(X.items if isinstance(X, ImageSet) else X)
    if parts.extractor is None:
        return parts.prepare(X if whole else _safe_indexing(X, rows)), rows
    items = X.items if isinstance(X, ImageSet) else X
    found = parts.extractor.extract(items if whole else _safe_indexing(items, rows))
    return parts.prepare(found.features), rows[found.kept]


def _probabilities(head: Any, features: Any, classes: Array) -> npt.NDArray[np.float64]:
    if not hasattr(head, "predict_proba"):
        return _one_hot(np.asarray(head.predict(features)), classes)
    table = np.asarray(head.predict_proba(features), np.float64)
    if table.ndim != 2 or table.shape[1] != len(classes):
        raise ValueError(f"expected probabilities of {len(classes)} classes. Got an array of shape {table.shape}.")
    return table


def _one_hot(labels: Array, classes: Array) -> npt.NDArray[np.float64]:
    codes = label_positions(labels, classes)
    if (codes < 0).any():
        raise ValueError(f"expected predictions among {shorten(classes.tolist())}. Got {str(labels[codes < 0][0])!r}.")
    table = np.zeros((len(codes), len(classes)))
    table[np.arange(len(codes)), codes] = 1
    return table
