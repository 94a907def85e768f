"""Many fits at once: heads that have an engine for it train together, the others one after another."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.utils import _safe_indexing

from frofa.estimators._base import FeatureClassifier


@dataclass(frozen=True)
class Job:
    """A fit: an unfitted estimator with its parameters set, and the rows of X that it is fitted on."""

    estimator: FeatureClassifier
    rows: npt.NDArray[np.intp]


def fit_many(
    X: Any,
    y: Any,
    jobs: Sequence[Job],
    *,
    sample_weight: Any = None,
    on_done: Callable[[int], object] = lambda _: None,
) -> list[FeatureClassifier | Exception]:
    """Fit every job's estimator on its rows; what one fit raises is returned in its place and harms no other.

    Parameters
    ----------
    X : array-like of shape (n, C) or (n, N, C)
    y : array-like of shape (n,)
    jobs : sequence of Job
        Their estimators are not modified.
    sample_weight : array-like of shape (n,), default=None
    on_done : callable
        Called with the number of fits that are done since the last call.

    Returns
    -------
    list of FeatureClassifier or Exception
        In the order of the jobs.
    """
    results: list[FeatureClassifier | Exception] = [RuntimeError("not fitted")] * len(jobs)
    kinds: dict[type, list[int]] = {}
    for i, job in enumerate(jobs):
        kinds.setdefault(type(job.estimator), []).append(i)
    for kind, places in kinds.items():
        chosen = [jobs[i] for i in places]
        engine = getattr(kind, "_fit_many", None)
        if engine is None:
            fitted = fit_each(X, y, chosen, sample_weight, on_done)
        else:
            fitted = engine(X, y, chosen, sample_weight, on_done)
        for i, one in zip(places, fitted, strict=True):
            results[i] = one
    return results


def fit_each(
    X: Any, y: Any, jobs: Sequence[Job], sample_weight: Any, on_done: Callable[[int], object]
) -> list[FeatureClassifier | Exception]:
    """Fit the estimators one after another."""
    results: list[FeatureClassifier | Exception] = []
    for job in jobs:
        weights = None if sample_weight is None else _safe_indexing(sample_weight, job.rows)
        try:
            fitted = clone(job.estimator).fit(_safe_indexing(X, job.rows), _safe_indexing(y, job.rows), weights)
        except Exception as error:
            results.append(error)
        else:
            results.append(fitted)
        on_done(1)
    return results
