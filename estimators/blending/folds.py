"""Scores of samples by heads that have not seen them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import _safe_indexing

from frofa.estimators.batched.jobs import Job, fit_many
from frofa.estimators.core.classifier import FeatureClassifier

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]
LEAST = -1e3
"""Score of a class that a head has not seen, beside scores near zero: its probability is zero."""
Scores = Array | Exception


def fit_heads(
    X: Any,
    y: Array,
    heads: Mapping[str, FeatureClassifier],
    parts: list[Indices],
    weights: Array,
    on_done: Callable[[int], object],
) -> dict[str, list[FeatureClassifier | Exception]]:
    """Fit each head to each part of the samples, all together; what a fit raises is in its place."""
    jobs = [Job(head, rows) for head in heads.values() for rows in parts]
    fitted = fit_many(X, y, jobs, sample_weight=weights, on_done=on_done)
    return {name: fitted[i * len(parts) : (i + 1) * len(parts)] for i, name in enumerate(heads)}


def held_out_scores(X: Any, fitted: list[FeatureClassifier | Exception], folds: Indices, classes: Array) -> Scores:
    """Score each sample (n, n_classes) by the head of its fold; NaN where it is in none; or what a fit raised."""
    scores = np.full((len(folds), len(classes)), np.nan)
    for fold, head in enumerate(fitted):
        if isinstance(head, Exception):
            return head
        rows = np.flatnonzero(folds == fold)
        if len(rows):
            scores[rows] = scores_in_order(head, _safe_indexing(X, rows), classes)
    return scores


def scores_in_order(head: FeatureClassifier, X: Any, classes: Array) -> Array:
    """Score samples (n, n_classes) by a head that may not know all of these classes."""
    found = head._checked_scores(X)
    if len(head.classes_) == len(classes):
        return found
    scores = np.full((len(found), len(classes)), LEAST)
    scores[:, np.searchsorted(classes, head.classes_)] = found - found.max(1, keepdims=True)
    return scores
