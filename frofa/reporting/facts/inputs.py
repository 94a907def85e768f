"""Inputs of a report, from which its sections are computed: features, labels and probabilities of images."""

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import _safe_indexing, check_consistent_length
from sklearn.utils.validation import _num_samples

from frofa.compute.arrays import as_features
from frofa.displays.parts import Parts
from frofa.evaluation import label_positions
from frofa.exceptions import ImageReadError, SkippedImagesWarning
from frofa.extraction.extractor import FrozenFeatureExtractor
from frofa.image_classifier.report import EvaluationReport, evaluation_report
from frofa.image_classifier.support import labelled
from frofa.images.image_set import ImageSet, as_image_list
from frofa.images.items import LazyImage, describe
from frofa.images.sources import load_images
from frofa.utils.text import shorten

Array = npt.NDArray[Any]
Positions = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Samples:
    """Features of labelled images (m,) of known classes that could be read, with what belongs to them.

    Attributes
    ----------
    extracted : features
        As they were extracted or given, before steps of a pipeline between them and the head.
    truth : ndarray of intp, shape (m,)
        Positions of labels among the classes that the classifier knows.
    names : list of str
    pictures : sequence of image items, or None
    keys : list of str or None
        Digests of the images that are equal for copies, where a store has them already.
    positions : ndarray of intp, shape (m,)
        Where they are in the input.
    skipped : list of ImageReadError
    n_unlabelled : int
        Images without a label.
    unknown : dict of str to int
        Labels of no class that the classifier knows, with the number of their images.
    """

    extracted: Any
    truth: Positions
    names: list[str]
    pictures: Sequence[Any] | None
    keys: list[str] | None
    positions: Positions
    skipped: list[ImageReadError]
    n_unlabelled: int
    unknown: dict[str, int]


@dataclass(frozen=True, eq=False)
class Training:
    """Training samples (m,): those that were given, or what a classifier keeps of its own.

    Attributes
    ----------
    extracted : features or None
        As of `Samples`; None where rows alone are kept.
    rows : ndarray of float64, shape (m, D), or None
        Kept in place of features: vectors of length one, of all blocks side by side, averaged over views.
    codes : ndarray of intp, shape (m,)
        Positions of labels among the classes that the classifier knows.
    names : list of str
    pictures : sequence of image items, or None
    keys : list of str or None
    positions : ndarray of intp, shape (m,)
        Where they are in the input of `fit`.
    skipped : list of ImageReadError or None
        Images that could not be read; None where samples were not given, but kept.
    """

    extracted: Any
    rows: npt.NDArray[np.float64] | None
    codes: Positions
    names: list[str]
    pictures: Sequence[Any] | None
    keys: list[str] | None
    positions: Positions
    skipped: list[ImageReadError] | None

    @property
    def given(self) -> bool:
        """True of samples that were given, False of those that the classifier keeps."""
        return self.skipped is not None


@dataclass(frozen=True, eq=False)
class Inputs:
    """All that sections are computed from: n images, K classes.

    Attributes
    ----------
    parts : Parts
        Of the classifier.
    samples : Samples
    features : features of n images
        As the head takes them: an array, RaggedTokens or FeatureBlocks, with all views that predictions average over.
    classes : ndarray of shape (K,)
    probabilities : ndarray of float64, shape (n, K)
    evaluation : EvaluationReport
    train : Training or None
    random_state : int
    """

    parts: Parts
    samples: Samples
    features: Any
    classes: Array
    probabilities: npt.NDArray[np.float64]
    evaluation: EvaluationReport
    train: Training | None = None
    random_state: int = 0

    @property
    def classifier(self) -> Any:
        """The classifier as it was given."""
        return self.parts.whole

    @property
    def head(self) -> Any:
        """The fitted head, which takes `features`."""
        return self.parts.head

    @property
    def extractor(self) -> FrozenFeatureExtractor | None:
        """The extractor, which makes features of images; None of a classifier of features."""
        return self.parts.extractor

    @property
    def pictures(self) -> Sequence[Any] | None:
        """The n images, where there are some."""
        return self.samples.pictures

    @property
    def truth(self) -> Positions:
        """Positions of the true classes, (n,)."""
        return self.samples.truth

    @property
    def predicted(self) -> Positions:
        """Positions of the most probable classes, (n,)."""
        predicted: Positions = self.probabilities.argmax(1)
        return predicted


def inputs_of(parts: Parts, X: Any, y: Any, images: Any, random_state: int) -> Inputs:
    """Extract the features of labelled images, or take those that are given, and classify them."""
    samples = samples_of(parts, parts.extractor, X, y, images)
    features = parts.prepare(samples.extracted)
    found = np.asarray(parts.whole.classes_) if hasattr(parts.whole, "classes_") else np.asarray(parts.head.classes_)
    probabilities = np.asarray(parts.head.predict_proba(features), np.float64)
    check_probabilities(probabilities, len(samples.truth), found)
    report = evaluation_report(found[samples.truth], probabilities, found, samples.skipped)
    report = replace(report, unknown_labels=samples.unknown)
    return Inputs(parts, samples, features, found, probabilities, report, random_state=random_state)


def check_probabilities(probabilities: Array, n: int, classes: Array) -> None:
    """Raise a ValueError for what are no probabilities of classes that exclude each other."""
    if probabilities.shape != (n, len(classes)):
        raise ValueError(
            f"expected probabilities of shape {(n, len(classes))}, images x classes. Got shape {probabilities.shape}."
        )
    if not np.allclose(probabilities.sum(1), 1, atol=1e-3):
        raise ValueError("expected a classifier of one label an image, whose probabilities have the sum 1. Got others.")


def samples_of(parts: Parts, extractor: FrozenFeatureExtractor | None, X: Any, y: Any, images: Any = None) -> Samples:
    """Take the labelled samples of known classes, and extract their features where they are images."""
    name = type(parts.whole).__name__
    # -1 is a label of its own where the head does not know better, and is counted among the unknown ones.
    unlabeled = float("nan") if parts.unlabeled is None else parts.unlabeled
    if extractor is not None and isinstance(X, (str, os.PathLike)):
        X = load_images(X)
    if extractor is None:
        X = as_features(X)
        y = images.labels if y is None and isinstance(images, ImageSet) else y
    X, labels = labelled(X, y, name, unlabeled)
    check_consistent_length(labels, X.items if isinstance(X, ImageSet) else X)
    known = np.array([label is not None for label in labels.tolist()])
    told = np.flatnonzero(known)
    classes = parts.whole.classes_ if hasattr(parts.whole, "classes_") else parts.head.classes_
    codes = np.full(len(labels), -1)
    codes[told] = label_positions(labels[told].tolist(), classes)
    unknown = dict(Counter(str(label) for label in labels[told][codes[told] < 0].tolist()))
    rows = np.flatnonzero(codes >= 0)
    if not len(rows):
        raise ValueError(
            f"no image has a label that the classifier knows. It knows {shorten(np.asarray(classes).tolist())}. "
            f"Got {shorten(unknown) or 'no label'}."
        )
    found, keys, skipped = _extracted(extractor, X, rows)
    kept = rows if found is None else rows[found.kept]
    extracted = _safe_indexing(X, rows) if found is None else found.features
    pictures = picture_list(images if extractor is None else X, len(labels))
    return Samples(
        extracted,
        codes[kept],
        names_of(X if extractor is not None else images, pictures, kept),
        None if pictures is None else [pictures[i] for i in kept.tolist()],
        keys,
        kept,
        skipped,
        int((~known).sum()),
        unknown,
    )


def _extracted(extractor: Any, X: Any, rows: Positions) -> tuple[Any, list[str] | None, list[ImageReadError]]:
    """Extract the features of some images; errors have the positions of all."""
    if extractor is None:
        return None, None, []
    items = X.items if isinstance(X, ImageSet) else X
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkippedImagesWarning)  # a report lists them
        found = extractor.extract(_safe_indexing(items, rows) if len(rows) < _num_samples(items) else items)
    skipped = [type(error)(int(rows[error.position]), error.name, error.reason) for error in found.skipped]
    return found, found.keys, skipped


def picture_list(images: Any, n: int) -> Sequence[Any] | None:
    """List the images of n samples; None where there are none, or they are items that an encoder alone can read."""
    if images is None:
        return None
    if isinstance(images, (str, os.PathLike)):
        images = load_images(images)
    try:
        items = as_image_list(images)
    except (TypeError, ValueError):
        return None
    if len(items) != n:
        raise ValueError(f"expected one image for each row of X. Got {len(items)} images and {n} rows.")
    return items


def names_of(images: Any, pictures: Sequence[Any] | None, positions: Positions, noun: str = "image") -> list[str]:
    """Name images by what they are called where they are called something, else by their number, counted from 1."""
    called = images.names if isinstance(images, ImageSet) else None
    names = []
    for i in positions.tolist():
        item = None if pictures is None else pictures[i]
        if called is not None and not _nameless(item):
            names.append(called[i])
        elif item is not None and not _nameless(item):
            names.append(describe(item))
        else:
            names.append(f"{noun} {i + 1}")
    return names


def _nameless(item: Any) -> bool:
    """Tell images in memory from those of files, archives and data sets."""
    return not isinstance(item, (str, os.PathLike, LazyImage)) and not getattr(item, "filename", "")
