"""Many fits at once: the contract between searches and the heads' batched engines."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.utils import _safe_indexing

from frofa.estimators.core.classifier import FeatureClassifier
from frofa.estimators.core.shortcuts import follows
from frofa.estimators.core.unlabelled import labelled_rows
from frofa.exceptions import BatchFallbackWarning

Fitted: TypeAlias = FeatureClassifier | Exception
FitEngine: TypeAlias = Callable[..., list[Any]]


@dataclass(frozen=True)
class Job:
    """One fit, of an unfitted head with its parameters set, on the rows (n_rows,) of X."""

    estimator: FeatureClassifier
    rows: npt.NDArray[np.intp]


def fit_many(
    X: Any,
    y: Any,
    jobs: Sequence[Job],
    *,
    sample_weight: Any = None,
    on_done: Callable[[int], object] = lambda n: None,  # noqa: ARG005
) -> list[Fitted]:
    """Fit every job's estimator on its rows; what one fit raises is returned in its place and harms no other.

    Jobs of a type of head that has a batched engine, a function ``_fit_many(X, y, jobs, sample_weight, on_done) ->
    list``, are given to it together, the others are fitted one after another. The jobs' own estimators stay unfitted,
    and heads that do not end up with finite weights count as failed. X is (n, C) or (n, N, C), y and sample weights are
    (n,); `on_done` is called with the number of jobs that are done since the last call.
    """
    by_type: dict[type, list[int]] = {}
    for i, job in enumerate(jobs):
        by_type.setdefault(type(job.estimator), []).append(i)
    fitted: dict[int, Fitted] = {}
    for kind, positions in by_type.items():
        part = [jobs[i] for i in positions]
        # Samples without labels are each job's own: its rows decide what features are centred by.
        engine = None if any(_has_unlabelled(y, job.estimator) for job in part) else engine_of(kind)
        results = (
            fit_each(X, y, part, sample_weight, on_done)
            if engine is None
            else _together(engine, X, y, part, sample_weight, on_done)
        )
        fitted.update(zip(positions, map(_checked, results), strict=True))
    return [fitted[i] for i in range(len(jobs))]


def _has_unlabelled(y: Any, estimator: Any) -> bool:
    return labelled_rows(y, estimator._given("unlabeled"), warn=False) is not None


def engine_of(kind: type) -> FitEngine | None:
    """Return the batched engine of a type of estimator, if it has one that stands for its way of fitting."""
    # The class that defines the engine: a subclass inherits it only if it fits in the same way.
    base: Any = next((base for base in kind.__mro__ if "_fit_many" in vars(base)), None)
    if base is None or not follows(kind, base, base._fit_steps):
        return None
    engine: FitEngine | None = getattr(kind, "_fit_many")  # noqa: B009 (not an attribute of every type)
    return engine


def fit_each(X: Any, y: Any, jobs: Sequence[Job], sample_weight: Any, on_done: Callable[[int], object]) -> list[Fitted]:
    """Fit jobs in the ordinary way, one after another; parameters as of an engine."""
    fitted: list[Fitted] = []
    for job in jobs:
        weight = {} if sample_weight is None else {"sample_weight": _safe_indexing(sample_weight, job.rows)}
        try:
            head = clone(job.estimator).fit(_safe_indexing(X, job.rows), _safe_indexing(y, job.rows), **weight)
            fitted.append(head)
        except Exception as error:
            fitted.append(error)
        on_done(1)
    return fitted


def _together(
    engine: FitEngine, X: Any, y: Any, jobs: Sequence[Job], sample_weight: Any, on_done: Callable[[int], object]
) -> list[Fitted]:
    """Run an engine; should it fail as a whole, fit its jobs one by one, so that only the culprit fails."""
    # The engine counts jobs as it goes: should it fail, the count is taken back before they are done again.
    done = 0

    def count(n: int) -> None:
        nonlocal done
        done += n
        on_done(n)

    try:
        results = engine(X, y, jobs, sample_weight, count)
        on_done(len(jobs) - done)
        return results
    except Exception as error:
        name = type(jobs[0].estimator).__name__
        warnings.warn(
            f"The batched training of {name} failed, and its {len(jobs)} fits are done one by one: "
            f"{type(error).__name__}: {error}",
            BatchFallbackWarning,
            stacklevel=3,
        )
    on_done(-done)
    return fit_each(X, y, jobs, sample_weight, on_done)


def _checked(fitted: Fitted) -> Fitted:
    """Turn a head with weights that are not finite into an error."""
    if isinstance(fitted, Exception):
        return fitted
    for name, array in arrays_of(fitted):
        known = name.endswith("_") and name not in fitted._partly_unknown and array.dtype.kind == "f"
        if known and not _all_finite(array):
            return ValueError(f"training diverged: {name} of {fitted!r} is not finite.")
    return fitted


def arrays_of(fitted: Fitted) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Yield the arrays that a head holds, each with the name of its attribute, which may be a dictionary of them."""
    for name, value in vars(fitted).items():
        for part in value.values() if isinstance(value, dict) else [value]:
            if isinstance(part, np.ndarray):
                yield name, part


def _all_finite(array: npt.NDArray[Any]) -> bool:
    """Tell whether all elements are finite: of most arrays, the sum of squares says so in a tenth of the time."""
    # A sum of squares that overflows says nothing: only then are the elements looked at.
    flat = array.ravel()
    with np.errstate(all="ignore"):
        square = flat @ flat
    return bool(np.isfinite(square) or np.isfinite(flat).all())
