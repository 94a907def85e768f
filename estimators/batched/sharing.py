"""Jobs on the same rows, for which all that they have in common is done once."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from sklearn.base import clone
from sklearn.utils import _safe_indexing

from frofa.estimators.batched.jobs import Fitted, Job
from frofa.estimators.core.classifier import FeatureClassifier
from frofa.estimators.core.support import CheckedData, Support

Shared = dict[Any, Any]
"""Results, by key, that fits on the same rows have in common."""
T = TypeVar("T")


def once(shared: Shared, key: Any, make: Callable[[], T]) -> T:
    """Return the result of a key, made where there is none yet."""
    if key not in shared:
        shared[key] = make()
    found: T = shared[key]
    return found


def fit_sharing(
    X: Any, y: Any, jobs: Sequence[Job], sample_weight: Any, on_done: Callable[[int], object]
) -> list[Fitted]:
    """Fit jobs of heads that have `_fit_sharing`, rows by rows; augmented copies are each job's own."""
    places: dict[bytes, list[int]] = {}
    for i, job in enumerate(jobs):
        places.setdefault(job.rows.tobytes(), []).append(i)
    results: dict[int, Fitted] = {}
    for same in places.values():
        shared: Shared = {}
        for i, found in zip(same, check_jobs(X, y, [jobs[i] for i in same], sample_weight), strict=True):
            results[i] = found if isinstance(found, Exception) else _fit(*found, shared)
            on_done(1)
    return [results[i] for i in range(len(jobs))]


def _fit(estimator: Any, support: Support, shared: Shared) -> Fitted:
    try:
        left_out = estimator._fit_sharing(support, shared if support.copies is None else {})
        estimator._finish(support, left_out)
    except Exception as error:
        return error
    head: FeatureClassifier = estimator
    return head


def check_jobs(
    X: Any, y: Any, jobs: Sequence[Job], sample_weight: Any
) -> Iterator[tuple[FeatureClassifier, Support] | Exception]:
    """Clone each job's estimator and check its parameters and data, as `FeatureClassifier.fit` does.

    Jobs on the same rows share the arrays of their support, except for weights; in place of a job that cannot be fitted
    is what was raised.
    """
    # Checked data by rows, and the estimators whose parameters have been checked, by identity.
    known: Shared = {}
    valid: set[int] = set()
    return (_check(X, y, job, sample_weight, known, valid) for job in jobs)


def _check(
    X: Any, y: Any, job: Job, sample_weight: Any, known: Shared, valid: set[int]
) -> tuple[FeatureClassifier, Support] | Exception:
    try:
        estimator = clone(job.estimator)
        if id(job.estimator) not in valid:  # folds share one estimator
            estimator._check_parameters()
            valid.add(id(job.estimator))
        data = once(known, job.rows.tobytes(), lambda: _check_rows(X, y, job, estimator, sample_weight))
        return data if isinstance(data, Exception) else (estimator, estimator._adopt(data))
    except Exception as error:
        return error


def _check_rows(X: Any, y: Any, job: Job, estimator: FeatureClassifier, sample_weight: Any) -> CheckedData | Exception:
    weights = None if sample_weight is None else _safe_indexing(sample_weight, job.rows)
    try:
        return estimator._check_data(_safe_indexing(X, job.rows), _safe_indexing(y, job.rows), weights)
    except Exception as error:
        return error
