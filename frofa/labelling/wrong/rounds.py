"""Left-out probabilities in rounds: labels that are likely wrong count less in the next."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import has_fit_parameter

from frofa.estimators.batched.left_out import left_out_proba
from frofa.labelling.wrong.noise import Noise, bounded, label_noise, wrong_probability

Array = npt.NDArray[Any]
LEAST_WEIGHT = 1e-3
"""Weight of a label that is surely wrong, so that its sample is left out as the others are."""


class Judged(NamedTuple):
    """Left-out probabilities (n, K), the true classes they speak for, and the probability (n,) that labels are wrong.

    All are NaN for samples of which nothing can be said; `noise` is of the others, whose rows are `known`.
    """

    classes: Array
    proba: Array
    wrong: Array
    noise: Noise
    known: Array


def judge(
    classifier: Any, X: Any, y: Array, weights: Array | None, *, n_rounds: int, n_folds: int, random_state: Any
) -> Judged:
    """Leave samples out once, and `n_rounds` times more with the suspects down-weighted."""

    def left_out(trust: Array | None) -> tuple[Array, Array]:
        if trust is None or _takes_weights(classifier):
            given = np.ones(len(y)) if weights is None else weights
            both = weights if trust is None else given * np.maximum(trust, LEAST_WEIGHT)
            return left_out_proba(classifier, X, y, sample_weight=both, n_folds=n_folds, random_state=random_state)
        return _without_suspects(classifier, X, y, trust, n_folds=n_folds, random_state=random_state)

    classes, proba = left_out(None)
    found = _judged(classes, proba, y, weights)
    for _ in range(n_rounds):
        # Nothing is known of some samples, which count in full.
        trust = 1 - np.nan_to_num(found.wrong)
        found = _judged(classes, left_out(trust)[1], y, weights)
    # At the end alone: weights of suspects are chosen for the ranking, and are no statement.
    return found._replace(wrong=bounded(found.wrong))


def _judged(classes: Array, proba: Array, y: Array, weights: Array | None) -> Judged:
    codes = np.searchsorted(classes, y)
    known = np.flatnonzero(np.isfinite(proba).all(1))
    if not len(known):
        raise ValueError(
            f"expected two samples of a class at least, so that one can be left out. Got {len(y)} samples of "
            f"{len(classes)} classes, each the only one."
        )
    wrong = np.full(len(y), np.nan)
    counts = np.ones(len(y)) if weights is None else weights
    noise = label_noise(proba[known], codes[known], counts[known])
    wrong[known] = wrong_probability(noise, codes[known])
    return Judged(classes, proba, wrong, noise, known)


def _takes_weights(classifier: Any) -> bool:
    return bool(has_fit_parameter(classifier, "sample_weight"))


def _without_suspects(
    classifier: Any, X: Any, y: Array, trust: Array, *, n_folds: int, random_state: Any
) -> tuple[Array, Array]:
    """Leave samples out of fits that have no suspects in them, for classifiers that take no weights."""
    classes = np.unique(y)
    # A class of which less than two samples are left keeps its suspects: it would be unknown otherwise.
    trusted = trust > 1 / 2
    left, counts = np.unique(y[trusted], return_counts=True)
    lost = ~np.isin(y, left[counts > 1])
    kept, others = np.flatnonzero(trusted | lost), np.flatnonzero(~(trusted | lost))
    proba = np.full((len(y), len(classes)), np.nan)
    part = _safe_indexing(X, kept)
    proba[kept] = left_out_proba(classifier, part, y[kept], n_folds=n_folds, random_state=random_state)[1]
    if len(others):
        fitted = clone(classifier).fit(part, y[kept])
        proba[others] = fitted.predict_proba(_safe_indexing(X, others))
    return classes, proba
