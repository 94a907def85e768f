"""Learning curve of a classifier on its training images, and how many labels a target takes."""

from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.utils import _safe_indexing

from frofa.estimators import ConformalClassifier, FewShotClassifier, ShrinkageProbeClassifier
from frofa.estimators.token_classifier import TokenClassifier
from frofa.image_classifier import ImageClassifier
from frofa.labelling.suggestions.images import probe_of
from frofa.learning_curves import LabelsNeeded, how_many_labels
from frofa.reporting.facts.inputs import Inputs
from frofa.reporting.facts.vectors import vectors_of

N_ORDERS, FEW_ORDERS, MANY_LABELS = 10, 3, 400
"""Orders of the labels, and fewer of them beyond so many labels, whose curves hardly differ."""
TARGET = 0.9


def labels_needed(inputs: Inputs, target: float | None, level: float) -> tuple[LabelsNeeded | None, str | None]:
    """Estimate how many labels a target takes, from training images; a note says why not, or what of.

    Without a target, it is 0.9, or half of the present error where that is less than 0.1.
    """
    train = inputs.train
    if train is None or train.extracted is None:
        return None, (
            "The training images were not given, and the classifier does not keep their features: without them there "
            "is no learning curve."
        )
    head, features, note = _learner(inputs)
    rows = _different(train.extracted, train.codes)
    y = inputs.classes[train.codes[rows]]
    if not train.given:
        kept = f"The curve is of the {len(rows)} training images whose features the classifier keeps."
        note = f"{kept} {note}" if note else kept
    if target is None:
        target = TARGET if inputs.evaluation.accuracy.mean < TARGET else (1 + inputs.evaluation.accuracy.mean) / 2
    needed = how_many_labels(
        head,
        _safe_indexing(features, rows),
        y,
        target=min(target, 0.999),
        confidence_level=level,
        n_orders=min(N_ORDERS, FEW_ORDERS) if len(rows) > MANY_LABELS else N_ORDERS,
        random_state=inputs.random_state,
    )
    return needed, note


def _learner(inputs: Inputs) -> tuple[Any, Any, str | None]:
    """Return an unfitted head that is fitted many times in little time, and what it takes of the training images."""
    assert inputs.train is not None
    extracted, head = inputs.train.extracted, inputs.head
    if isinstance(head, ConformalClassifier):
        head = head.head
    if isinstance(inputs.classifier, ImageClassifier):
        of_effort = inputs.classifier.effort == "high"
        note = "The curve is of the linear heads of effort='fast', as attention heads take long to train."
        return probe_of(inputs.classifier), extracted, note if of_effort else None
    slow = isinstance(head, TokenClassifier) or (isinstance(head, FewShotClassifier) and head.effort == "high")
    if slow:
        note = f"The curve is of a linear probe on the same features: {type(head).__name__} takes long to train."
        return ShrinkageProbeClassifier(), vectors_of(inputs.parts.prepare(extracted)), note
    steps = [] if inputs.parts.before is None else [clone(step) for _, step in inputs.parts.before.steps]
    return make_pipeline(*steps, clone(head)) if steps else clone(head), extracted, None


def _different(extracted: Any, codes: Any) -> Any:
    """Positions of different images, as copies on both sides of a split make accuracies too good."""
    vectors = vectors_of(extracted)
    if vectors is None:
        return np.arange(len(codes))
    first: dict[bytes, int] = {}
    for i, row in enumerate(np.asarray(vectors)):
        first.setdefault(row.tobytes(), i)
    return np.array(list(first.values()), np.intp)
