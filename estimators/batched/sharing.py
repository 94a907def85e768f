"""Jobs on the same rows: what they have in common is done once."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from sklearn.base import clone
from sklearn.utils import _safe_indexing

from frofa.estimators.batched.jobs import Fitted, Job
from frofa.estimators.core.classifier import FeatureClassifier
from frofa.estimators.core.support import CheckedData, Support

Shared = dict[Any, Any]
"""What the fits on the same rows have found so far that does not depend on the other parameters."""
T = TypeVar("T")


def once(shared: Shared, key: Any, make: Callable[[], T]) -> T:
    """What is known by a key, made where it is not."""
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
        estimator._fit_sharing(support, shared if support.copies is None else {})
    except Exception as error:
        return error
    head: FeatureClassifier = estimator
    return head


def check_jobs(
    X: Any, y: Any, jobs: Sequence[Job], sample_weight: Any
) -> Iterator[tuple[FeatureClassifier, Support] | Exception]:
    """Clone each job's estimator and check its parameters and data, as `FeatureClassifier.fit` does.

    Yields
    ------
    (FeatureClassifier, Support) or Exception
        Jobs on the same rows share the arrays of their support, except for weights; in place of a job that cannot be
        fitted is what was raised.
    """
    known: dict[bytes, CheckedData | Exception] = {}
    valid: set[Any] = set()
    return (_check(X, y, job, sample_weight, known, valid) for job in jobs)


def _check(
    X: Any, y: Any, job: Job, sample_weight: Any, known: dict[bytes, CheckedData | Exception], valid: set[Any]
) -> tuple[FeatureClassifier, Support] | Exception:
    try:
        estimator = clone(job.estimator)
        parameters = id(job.estimator)  # folds share theirs
        if parameters not in valid:
            estimator._check_parameters()
            valid.add(parameters)
        rows = job.rows.tobytes()
        if rows not in known:
            known[rows] = _check_rows(X, y, job, estimator, sample_weight)
        data = known[rows]
        return data if isinstance(data, Exception) else (estimator, estimator._adopt(data))
    except Exception as error:
        return error


def _check_rows(X: Any, y: Any, job: Job, estimator: FeatureClassifier, sample_weight: Any) -> CheckedData | Exception:
    weights = None if sample_weight is None else _safe_indexing(sample_weight, job.rows)
    try:
        return estimator._check_data(_safe_indexing(X, job.rows), _safe_indexing(y, job.rows), weights)
    except Exception as error:
        return error
