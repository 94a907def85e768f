"""Training samples of a classifier: those that are given, or what it keeps of them."""

from typing import Any

import numpy as np

from frofa.estimators.core.kept import blocks_of
from frofa.evaluation import label_positions
from frofa.exceptions import ImageReadError
from frofa.image_classifier import ImageClassifier
from frofa.images.image_set import ImageSet
from frofa.reporting.facts.inputs import Inputs, Positions, Training, samples_of


def given_training(inputs: Inputs, train: Any, images: Any = None) -> Training:
    """Extract the features of training samples that are given.

    Parameters
    ----------
    inputs : Inputs
    train : (X, y), ImageSet or path
        As the classifier was fitted to them; of a path, the labels are those of its folders or its table.
    images : images of the samples, where X has features, default=None

    Raises
    ------
    TypeError
        If they are none of these.
    ValueError
        If no label is one that the classifier knows.
    """
    if isinstance(train, tuple) and len(train) == 2:
        X, y = train
    elif isinstance(train, (list, tuple)):
        raise TypeError(f"expected train=(X, y), an ImageSet or a path. Got {type(train).__name__} of {len(train)}.")
    else:
        X, y = train, None
    if inputs.extractor is None and isinstance(X, ImageSet):
        raise TypeError("expected train=(X, y) with features X, as the classifier takes features. Got an ImageSet.")
    try:
        found = samples_of(inputs.parts, inputs.parts.training_extractor, X, y, images)
    except ImageReadError:
        raise
    except ValueError as error:
        raise ValueError(f"of the training images: {error}") from error
    names = [f"training {name}" if name.startswith("image ") else name for name in found.names]
    return Training(
        found.extracted, None, found.truth, names, found.pictures, found.keys, found.positions, found.skipped
    )


def kept_training(inputs: Inputs) -> Training | None:
    """Find what a classifier keeps of its training samples: features, else vectors of some of them; None for none."""
    head, classifier = inputs.head, inputs.classifier
    if isinstance(classifier, ImageClassifier) and "support" in getattr(classifier, "sets_", {}):
        support = classifier.sets_["support"]
        # Images without weight, or without label, are not among them: only if there are none are positions known.
        whole = len(classifier.kept_) == len(support["codes"])
        positions = np.asarray(classifier.kept_) if whole else np.arange(len(support["codes"]))
        return _kept(blocks_of(support["features"]), None, support["codes"], positions)
    support = getattr(head, "support_", None) if inputs.parts.before is None else None
    if isinstance(support, dict) and {"labels", "features"} <= support.keys():
        codes = label_positions(support["labels"], inputs.classes)
        return _kept(blocks_of(support["features"]), None, codes)
    known = getattr(head, "novelty_", {})
    if isinstance(known, dict) and "rows" in known:
        return _kept(None, np.asarray(known["rows"], np.float64), known["codes"])
    return None


def _kept(features: Any, rows: Any, codes: Any, positions: Positions | None = None) -> Training:
    positions = np.arange(len(codes)) if positions is None else positions
    names = [f"training image {i + 1}" for i in positions.tolist()]
    return Training(features, rows, np.asarray(codes, np.intp), names, None, None, positions, None)
