"""Fits of a classifier, and what it makes of samples that it has not seen: all that sets need, by the name it gets."""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import _safe_indexing

from frofa.estimators.confidence.closed_form import added, closed_form_of, kept_of, left_out
from frofa.estimators.confidence.learners import Samples, inner_of, proba_in_order
from frofa.estimators.confidence.promises import check_full
from frofa.estimators.confidence.splitting import one_by_one
from frofa.estimators.core.confident.folds import assign_folds

Indices = npt.NDArray[np.intp]


def by_split(samples: Samples, held: npt.NDArray[np.bool_], classes: npt.NDArray[Any]) -> dict[str, Any]:
    """Fit to some samples, and ask about the others, `held` (n,)."""
    fitted, rows = samples.fit(np.flatnonzero(~held)), np.flatnonzero(held)
    proba = proba_in_order(inner_of(fitted), _safe_indexing(samples.X, rows), classes)
    return {"head_": fitted, "left_out_proba_": proba}


def by_full(samples: Samples, codes: Indices, *, weighted: bool) -> dict[str, Any]:
    """Fit to all samples, of classes (n,), and keep them for the fits with one more."""
    fitted = samples.fit()
    head = inner_of(fitted)
    check_full(head, closed_form_of(head), samples.weights if weighted else None)
    kept = kept_of(closed_form_of(head), samples.X, codes, None)
    added(head, kept)  # refuses what it cannot do now rather than at the first prediction
    return {"head_": fitted, "support_": kept}


def by_jackknife(samples: Samples, codes: Indices, classes: npt.NDArray[Any]) -> dict[str, Any]:
    """Fit to all samples, of classes (n,), and leave out each: by closed forms, or by as many fits."""
    fitted = samples.fit()
    closed = closed_form_of(inner_of(fitted))
    if closed is None:
        return {"head_": fitted, **_by_folds(samples, one_by_one(codes), classes)}
    kept = kept_of(closed, samples.X, codes, samples.weights)
    return {"head_": fitted, "support_": kept, "left_out_proba_": left_out(inner_of(fitted), kept).own}


def by_folds(
    samples: Samples, codes: Indices, classes: npt.NDArray[Any], n_folds: int, random_state: np.random.RandomState
) -> dict[str, Any]:
    """Fit to all samples, of classes (n,), and without each fold."""
    folds = assign_folds(codes, min(n_folds, int(np.bincount(codes).max())), random_state)
    return {"head_": samples.fit(), **_by_folds(samples, folds, classes)}


def _by_folds(samples: Samples, folds: Indices, classes: npt.NDArray[Any]) -> dict[str, Any]:
    proba = np.full((len(folds), len(classes)), np.nan)
    numbers = np.unique(folds[folds >= 0])
    heads = samples.fit_parts([np.flatnonzero(folds != fold) for fold in numbers])
    for fold, fitted in zip(numbers, heads, strict=True):
        rows = np.flatnonzero(folds == fold)
        proba[rows] = proba_in_order(fitted, _safe_indexing(samples.X, rows), classes)
    return {"folds_": folds, "fold_heads_": heads, "left_out_proba_": proba}
