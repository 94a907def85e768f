"""Scores beside probabilities: prediction sets, novelty, and what rejecting by either gains."""

from copy import copy
from typing import Any

import numpy as np
import numpy.typing as npt

from frofa.estimators import ConformalClassifier
from frofa.estimators.confidence.learners import inner_of
from frofa.estimators.confidence.ready import with_sets
from frofa.estimators.core.classifier import FeatureClassifier
from frofa.evaluation import rejection_curve
from frofa.reporting.facts.contents import RejectionFacts
from frofa.reporting.facts.inputs import Inputs

MOST_SCORES = 10**9
"""Scores of new images by models without a training image, for every class, beyond which jackknife+ takes minutes."""


def prediction_sets(inputs: Inputs, level: float) -> tuple[npt.NDArray[np.bool_] | None, str | None]:
    """Predict sets of labels (n, K) of a confidence level; a note says why there are none."""
    sets = inputs.parts.sets if inputs.parts.sets is not None else _sets_by_training(inputs)
    if sets is None:
        return None, (
            f"There are no prediction sets: {type(inputs.head).__name__} has none by itself. ImageClassifier and "
            "ConformalClassifier have."
        )
    levels = np.array([level])
    try:
        sets._check_enough(levels)
    except ValueError as error:
        return None, f"There are no prediction sets: {error}"
    sets, note = _affordable(sets, inputs.probabilities.size)
    found: npt.NDArray[np.bool_] = sets._sets_of(inner_of(sets.head_), inputs.features, levels)[:, :, 0]
    return found, note


def _affordable(sets: ConformalClassifier, size: int) -> tuple[ConformalClassifier, str | None]:
    """Rank many images, for a table of so many probabilities, by the fitted model beside out-of-fold probabilities."""
    if not hasattr(sets, "support_") or not hasattr(sets, "left_out_proba_"):
        return sets, None
    if size * len(sets.codes_) <= MOST_SCORES:
        return sets, None
    ranked = copy(sets)
    del ranked.support_
    note = "As there are so many images, prediction sets are not those of jackknife+, but of out-of-fold probabilities."
    return ranked, note


def _sets_by_training(inputs: Inputs) -> ConformalClassifier | None:
    """Make sets around a head that has left out each of its training samples, if these are all there."""
    head, train = inputs.head, inputs.train
    if train is None or not isinstance(head, FeatureClassifier) or head._left_out_in is None:
        return None
    table = getattr(head, head._left_out_in, None)
    if table is None or np.shape(table) != (len(train.codes), len(head.classes_)):
        return None
    known = np.isfinite(table).all(1)
    state: dict[str, Any] = {"codes": train.codes[known], "left_out_proba": np.asarray(table)[known]}
    return with_sets(head, state)


def novelty_of(inputs: Inputs) -> tuple[npt.NDArray[np.float64] | None, str | None]:
    """P-values (n,) of novelty; a note says why there are none."""
    head = inputs.head.head_ if isinstance(inputs.head, ConformalClassifier) else inputs.head
    if not hasattr(head, "novelty_p_value"):
        return None, f"Novelty is not known: {type(head).__name__} does not tell it."
    try:
        found: npt.NDArray[np.float64] = np.asarray(head.novelty_p_value(inputs.features), np.float64)
    except ValueError as error:
        return None, f"Novelty is not known: {error}"
    return found, None


def rejection_of(inputs: Inputs, novelty: npt.NDArray[np.float64] | None) -> RejectionFacts:
    """Follow the accuracy of images that are kept, by confidence and by novelty."""
    right = inputs.predicted == inputs.truth
    by_confidence = rejection_curve(right, inputs.probabilities.max(1))
    return RejectionFacts(by_confidence, None if novelty is None else rejection_curve(right, novelty))
