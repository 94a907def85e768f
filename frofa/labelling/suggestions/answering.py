"""Answers of a strategy: a classifier is fitted where it is asked, and rows are chosen."""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from frofa.blocks import FeatureBlocks
from frofa.labelling.suggestions.choosing import Choice, Question, at_random, by_utility
from frofa.labelling.suggestions.covering import by_coverage
from frofa.labelling.suggestions.foreign import ask
from frofa.labelling.suggestions.pool import Pool
from frofa.labelling.suggestions.uncertainty import UNCERTAINTIES, uncertainty_of

Array = npt.NDArray[Any]
STRATEGIES = ("auto", "coverage", *UNCERTAINTIES, "random")
WEIGHT = "margin"
"""Uncertainty that coverage is weighted by."""
LEAST = 1e-6
"""Uncertainty that is left where a classifier has none: zero to the power of next to nothing would still be zero."""
SURE = 30
"""Labels a class from which uncertainty weighs in full: below, it is more noise than knowledge, and coverage alone won
on training images of four sets (docs/results/confidence.md)."""


def answer(question: Question, classifier: Any, strategy: Any, y: Array | None, *, fit: bool = True) -> Choice:
    """Choose rows of the pool; labels (m,) are those of what is labelled, None where nothing is.

    Without `fit`, the classifier is fitted already. Errors are those of `frofa.suggest`.
    """
    if question.labelled is not None:
        check_consistent_length(question.labelled.X, y)
        _check_same_kind(question.pool, question.labelled)
    if hasattr(strategy, "query"):
        return ask(strategy, classifier, question, np.empty(0, np.intp) if y is None else y)
    if strategy == "random":
        return at_random(question)
    if strategy == "coverage":
        return by_coverage(question)
    fitted = _fitted(classifier, question.labelled, y) if fit else classifier
    if strategy == "auto":
        if fitted is None:
            return by_coverage(question)
        uncertainty = np.maximum(uncertainty_of(fitted, WEIGHT, question.pool), LEAST)
        return by_coverage(question, uncertainty ** trust(y))
    if fitted is None:
        n_classes = 0 if y is None else len(np.unique(y))
        raise ValueError(
            f"strategy={strategy!r} needs samples of at least 2 classes. Got {n_classes}: begin with strategy='auto'."
        )
    return by_utility(question, uncertainty_of(fitted, strategy, question.pool))


def trust(y: Array | None) -> float:
    """Exponent of uncertainties, from 0 to 1, by the number of labels (m,) a class; 1 where they are not known."""
    return 1.0 if y is None else min(1.0, len(y) / (SURE * len(np.unique(y)))) ** 2


def _fitted(classifier: Any, labelled: Pool | None, y: Array | None) -> Any:
    """Fit a copy to the labels, if there are two classes; without any, give the classifier itself, if it is fitted."""
    if labelled is None:
        try:
            check_is_fitted(classifier)
        except NotFittedError:
            return None
        return classifier
    if y is None or len(np.unique(y)) < 2:
        return None
    return clone(classifier).fit(labelled.X, y)


def _check_same_kind(pool: Pool, labelled: Pool) -> None:
    if pool.widths != labelled.widths:
        raise ValueError(f"expected X and the pool to have the same features. Got {_told(labelled)} and {_told(pool)}.")


def _told(pool: Pool) -> str:
    if isinstance(pool.X, FeatureBlocks):
        return ", ".join(f"{name}: {width} channels" for name, width in pool.widths.items())
    return f"{next(iter(pool.widths.values()))} features"
