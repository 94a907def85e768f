"""Labelled images as the support of a classifier: readable ones, and each image once."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import _check_sample_weight, _num_samples

from frofa.backbones.wanted import automatic_outputs
from frofa.compute.arrays import as_labels, missing, present_labels
from frofa.encoders.registered import registered_encoder
from frofa.estimators.core.unlabelled import labelled_rows
from frofa.estimators.core.validation import one_label_each
from frofa.exceptions import ImageReadError, SkippedImagesWarning
from frofa.extraction.extractor import FrozenFeatureExtractor
from frofa.images.image_set import ImageSet, as_image_list
from frofa.images.items import ImageItem, Images
from frofa.images.listing import count
from frofa.images.reading import content
from frofa.utils.text import shorten

Weights = npt.NDArray[np.float64]


class DistinctImages(NamedTuple):
    """The different ones among some images.

    `rows` (m,) are the first positions of each, in order, and `weights` (m,) what all of its copies weigh together;
    `n_copies` counts the further ones. `disputed` has the labels of each image that has several, which is left out:
    nobody knows which is right.
    """

    rows: npt.NDArray[np.intp]
    weights: Weights
    n_copies: int
    disputed: list[set[Any]]

    def warn_of_disputed(self) -> None:
        """Say which images were left out, if there are any."""
        if self.disputed:
            some = ", ".join(sorted(map(str, self.disputed[0])))
            n = count(len(self.disputed), "image")
            warnings.warn(
                f"left out, as they have several labels: {n}, such as one of {some}",
                SkippedImagesWarning,
                stacklevel=4,
            )


def distinct_images(keys: Sequence[str], labels: npt.NDArray[Any], weights: Weights | None = None) -> DistinctImages:
    """Find the different images: copies on both sides of a split would make an accuracy too good to be true.

    Keys (n,) are equal for copies; labels are (n,), and so are weights, by default one each. A ValueError says that all
    images of a class are images of other classes, too.

    Examples
    --------
    >>> import numpy as np
    >>> found = distinct_images(["a", "b", "a", "c", "c"], np.array([0, 1, 0, 0, 1]))
    >>> found.rows.tolist(), found.weights.tolist(), found.n_copies, found.disputed
    ([0, 1], [2.0, 1.0], 1, [{0, 1}])
    """
    given = np.ones(len(keys)) if weights is None else weights
    labels_of: dict[str, set[Any]] = {}
    weight_of: dict[str, float] = {}
    for key, label, weight in zip(keys, labels.tolist(), given.tolist(), strict=True):
        labels_of.setdefault(key, set()).add(label)
        weight_of[key] = weight_of.get(key, 0.0) + weight
    # Of images with equal content, the first one stays; where their labels differ, none does.
    disputed = {key for key, found in labels_of.items() if len(found) > 1}
    first = {key: row for row, key in reversed(list(enumerate(keys))) if key not in disputed}
    rows = sorted(first.values())
    if lost := set(labels.tolist()) - set(labels[rows].tolist()):
        raise ValueError(f"each image of these classes is also one of another: {shorten(lost)}.")
    return DistinctImages(
        np.array(rows, np.intp),
        np.array([weight_of[keys[row]] for row in rows]),
        len(keys) - len(first) - sum(key in disputed for key in keys),
        [labels_of[key] for key in sorted(disputed)],
    )


@dataclass(frozen=True)
class ImageSupport:
    """Features of different images (m, ...) with their labels (m,), and weights (m,) or None where all are one.

    `kept` (m,) are positions in what was given; `skipped` could not be read, and `n_copies` repeat others. The digests
    are of the weights that made the features, and of those of another backbone that words are compared by.
    """

    features: Any
    y: npt.NDArray[Any]
    weights: Weights | None
    kept: npt.NDArray[np.intp]
    skipped: list[ImageReadError]
    n_copies: int
    weights_digest: Any = None
    text_weights_digest: Any = None

    def rows(self, rows: npt.NDArray[np.intp]) -> "ImageSupport":
        """Choose some of the images."""
        weights = None if self.weights is None else self.weights[rows]
        return replace(self, features=self.features[rows], y=self.y[rows], weights=weights, kept=self.kept[rows])


def labelled(X: Images, y: Any, name: str, unlabeled: Any = None) -> tuple[Images, npt.NDArray[Any]]:
    """Give images and their labels, which an ImageSet brings along.

    With `unlabeled`, as `frofa.estimators.FewShotClassifier` has it, images may be without a label: theirs is None, in
    an array of objects.
    """
    gaps = None
    if y is None and isinstance(X, ImageSet) and X.labels is not None:
        y = X.labels
        gaps = X.labels == "" if X.labels.dtype.kind in "UT" else None
        if gaps is not None and gaps.any() and unlabeled is None:
            n_missing = int(gaps.sum())
            raise ValueError(f"expected a label for each image. Got {count(n_missing, 'image')} without one in {X!r}.")
    if y is None:
        raise ValueError(f"{name} requires y to be passed, but the target y is None.")
    known = labelled_rows(y, unlabeled)
    if gaps is not None and gaps.any():
        known = ~gaps if known is None else known & ~gaps
    if known is None:
        return X, one_label_each(y, name)
    rows = np.flatnonzero(known)
    labels = np.full(len(known), None, object)
    labels[rows] = as_labels(present_labels(y, rows)).tolist()
    return X, labels


def image_extractor(parameters: Mapping[str, Any], *, tokens: bool) -> FrozenFeatureExtractor:
    """Make an extractor of the best known vectors, and of tokens if they are asked for and the backbone has some.

    Of a custom encoder, it is all that it gives.
    """
    model = parameters["model"]
    if not isinstance(model, str) or registered_encoder(model) is not None:
        return FrozenFeatureExtractor(**parameters)
    extractor = FrozenFeatureExtractor(**parameters, output="auto")
    if tokens and "tokens" in (backbone := extractor._backbone()).layout.widths:
        extractor.set_params(output=[*automatic_outputs(backbone).outputs, "tokens"])
    return extractor


def image_support(
    extractor: FrozenFeatureExtractor, X: Images, y: npt.NDArray[Any], sample_weight: Any = None
) -> ImageSupport:
    """Extract the features of labelled images (n,), which may be weighted, for a classifier to be fitted to.

    Images whose label is None have none; copies of others are left out. A ValueError says that no image of a class
    could be read, or that all are of other classes, too.
    """
    with_label = ~missing(y)
    # Another number of labels than of images is an error of its own, below.
    if len(classes := np.unique(y[with_label])) < 2 and _num_samples(X) == len(y):
        got = f"one class only: {shorten(classes.tolist())}" if len(classes) else "none with a label"
        raise ValueError(f"expected images of at least 2 classes. Got {got}.")
    weights = None if sample_weight is None else _check_sample_weight(sample_weight, y, dtype=np.float64)
    extraction = extractor.fit_extract(X, y)
    kept = extraction.kept
    keys = extraction.keys or _digests(X, kept)
    # Positions, in the order of `kept`, of images with labels and without.
    told, untold = np.flatnonzero(with_label[kept]), np.flatnonzero(~with_label[kept])
    if lost := set(y[with_label].tolist()) - set(y[kept[told]].tolist()):
        raise ValueError(f"no image could be read of: {shorten(lost)}.")
    labels = np.asarray(y[kept[told]].tolist()) if len(untold) else y[kept]
    distinct = distinct_images([keys[i] for i in told], labels, None if weights is None else weights[kept[told]])
    distinct.warn_of_disputed()
    seen = {keys[i] for i in told}
    first = {keys[i]: i for i in reversed(untold) if keys[i] not in seen}
    rows, n_copies = told[distinct.rows], distinct.n_copies + len(untold) - len(first)
    final = distinct.weights
    if first:
        others = np.array(sorted(first.values()), np.intp)
        rows, final = np.concatenate([rows, others]), np.concatenate([final, np.ones(len(others))])
        order = np.argsort(rows)
        rows, final = rows[order], final[order]
    return ImageSupport(
        extraction.features if len(rows) == len(kept) else extraction.features[rows],
        y[kept[rows]],
        None if weights is None and not distinct.n_copies else final,
        kept[rows],
        extraction.skipped,
        n_copies,
        getattr(extractor, "weights_digest_", None),
        getattr(getattr(extractor, "partner", None), "weights_digest_", None),
    )


def _digests(X: Images, kept: npt.NDArray[np.intp]) -> list[str]:
    """Digests of the content of images, which a run without a store does not have."""
    try:
        items: Sequence[ImageItem] = as_image_list(X)
    except (TypeError, ValueError):  # items of a custom encoder, which may be anything, and count as different
        return [str(position) for position in kept]
    return [content(items[position])[1] for position in kept]
