"""Jobs on the same rows: their data are checked once."""

from collections.abc import Callable, Sequence
from typing import Any

from sklearn.base import clone
from sklearn.utils import _safe_indexing

from frofa.estimators._base import CheckedData, FeatureClassifier, Support
from frofa.estimators._batch_fit import Fitted, Job


def check_jobs(
    X: Any, y: Any, jobs: Sequence[Job], sample_weight: Any
) -> list[tuple[FeatureClassifier, Support] | Exception]:
    """Clone each job's estimator and check its parameters and data, as `FeatureClassifier.fit` does.

    Returns
    -------
    list of (FeatureClassifier, Support) or Exception
        Jobs on the same rows share the arrays of their support, except for weights; in place of a job that cannot be
        fitted is what was raised.
    """
    known: dict[bytes, CheckedData | Exception] = {}
    return [_check(X, y, job, sample_weight, known) for job in jobs]


def fit_shared(
    X: Any,
    y: Any,
    jobs: Sequence[Job],
    sample_weight: Any,
    on_done: Callable[[int], object],
    fit: Callable[[Any, Support], object],
) -> list[Fitted]:
    """Fit the jobs' heads to data that are checked once for all jobs on the same rows; the rest is as in `fit_many`."""
    results: list[Fitted] = []
    for found in check_jobs(X, y, jobs, sample_weight):
        result = found if isinstance(found, Exception) else found[0]
        if not isinstance(found, Exception):
            try:
                fit(*found)
            except Exception as error:
                result = error
        results.append(result)
        on_done(1)
    return results


def _check(
    X: Any, y: Any, job: Job, sample_weight: Any, known: dict[bytes, CheckedData | Exception]
) -> tuple[FeatureClassifier, Support] | Exception:
    try:
        estimator = clone(job.estimator)
        estimator._check_parameters()
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
