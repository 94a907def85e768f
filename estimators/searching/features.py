"""What heads are trained and scored on: the samples after a pipeline's leading steps, each fitted once."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from frofa.compute.arrays import as_features
from frofa.estimators.core.classifier import FeatureClassifier
from frofa.estimators.core.support import Array
from frofa.estimators.searching.plan import Plan, Rows, Task
from frofa.estimators.tokens.padding import mean_over_images
from frofa.ragged import RaggedTokens


@dataclass(frozen=True, eq=False)
class FoldFeatures:
    """Features of one fold.

    Attributes
    ----------
    array : array-like
        What engines train on: the training samples, and possibly others.
    origin : ndarray of intp
        The sample of X that each row of `array` comes from.
    rows : ndarray of intp
        The rows of `array` to train on.
    steps : list of (str, transformer)
        The leading steps, fitted.
    frame : DataFrame or None
        Training features with names, where they have names.
    scored : list of array-like
        Features of the test samples and, where scores on them are asked for, of the training samples; None where they
        cannot be computed.
    """

    array: Any
    origin: Rows
    rows: Rows
    steps: list[tuple[str, Any]]
    frame: Any
    scored: list[Any]


@dataclass(frozen=True, eq=False)
class _Shared:
    features: Any
    array: Any
    steps: list[tuple[str, Any]]


@dataclass(eq=False)
class FeatureCache:
    """Features by (leading steps, fold), each computed once and kept until `forget`.

    Parameters
    ----------
    pool : bool
        Whether heads that average their tokens may be given the averages.
    """

    pool: bool
    _shared: dict[tuple[str, bool], _Shared | None] = field(default_factory=dict)
    _folds: dict[tuple[str, bool, int, str], FoldFeatures | Exception] = field(default_factory=dict)

    def get(self, task: Task, plan: Plan) -> FoldFeatures | Exception:
        """Features of a task's fold, or what their computation raised."""
        key = self.key(task, plan)
        if key not in self._folds:
            self._folds[key] = self._compute(task, plan)
        return self._folds[key]

    def key(self, task: Task, plan: Plan) -> tuple[str, bool, int, str]:
        """What tells the features of two tasks apart."""
        return plan.shared_key, self._pools(plan), task.split, plan.fitted_key

    def forget(self, folds: Collection[tuple[str, bool, int, str]], shared: Collection[str]) -> None:
        """Keep the features of these folds, and of all samples after these steps; give memory free of all others."""
        self._folds = {key: value for key, value in self._folds.items() if key in folds}
        self._shared = {key: value for key, value in self._shared.items() if key[0] in shared}

    def _pools(self, plan: Plan) -> bool:
        return self.pool and not plan.fitted and averages_only(plan.head)

    def _compute(self, task: Task, plan: Plan) -> FoldFeatures | Exception:
        try:
            shared = self._share(task, plan, self._pools(plan))
            if shared is None:
                return _of_fold(task, _Shared(task.X, None, []), [*plan.shared, *plan.fitted])
            return _of_fold(task, shared, plan.fitted) if plan.fitted else _of_all(task, shared)
        except Exception as error:
            return error

    def _share(self, task: Task, plan: Plan, pooled: bool) -> _Shared | None:
        """Features of all samples; None if a sample spoils them for the others, so that each fold is on its own."""
        key = (plan.shared_key, pooled)
        if key not in self._shared and pooled:
            whole = self._share(task, plan, pooled=False)
            self._shared[key] = whole if whole is None else _averaged(whole)
        elif key not in self._shared:
            try:
                self._shared[key] = _apply(task, plan.shared)
            except Exception:
                self._shared[key] = None
        return self._shared[key]


def averages_only(head: FeatureClassifier) -> bool:
    """Whether tokens and their average are the same to a head."""
    plain = all(getattr(type(head), name) is getattr(FeatureClassifier, name) for name in ("_prepare", "_tokens"))
    return plain and head._given("augment") is None and not head._given("n_views")


def as_array(features: Any) -> Any:
    """What engines take: an array or a tensor, without names."""
    if hasattr(features, "iloc"):
        return features.to_numpy()
    try:
        return as_features(features) if isinstance(features, (list, tuple)) else features
    except ValueError:  # ragged: each fit says so
        return features


def _apply(task: Task, steps: list[tuple[str, Any]]) -> _Shared | None:
    features, fitted = task.X, []
    if steps:
        pipeline = Pipeline(clone(steps, safe=False))
        features, fitted = pipeline.fit_transform(task.X, task.y), pipeline.steps
        if _num_samples(features) != _num_samples(task.X):
            return None
    return _Shared(features, as_array(features), fitted)


def _averaged(shared: _Shared) -> _Shared:
    array = shared.array
    if getattr(array, "ndim", 2) != 3 or getattr(array, "dtype", None) not in (np.float16, np.float32, np.float64):
        return shared
    average: Array = mean_over_images(array) if isinstance(array, RaggedTokens) else array.mean(1, dtype=np.float64)
    return _Shared(average, average, shared.steps)


def _of_all(task: Task, shared: _Shared) -> FoldFeatures:
    frame = _safe_indexing(shared.features, task.train[:1]) if hasattr(shared.features, "iloc") else None
    scored = [_safe_indexing(shared.features, rows) for rows in _scored_rows(task)]
    everything = np.arange(_num_samples(shared.array), dtype=np.intp)
    return FoldFeatures(shared.array, everything, task.train, shared.steps, frame, scored)


def _of_fold(task: Task, shared: _Shared, steps: list[tuple[str, Any]]) -> FoldFeatures:
    pipeline = Pipeline(clone(steps, safe=False))
    train = pipeline.fit_transform(_safe_indexing(shared.features, task.train), _safe_indexing(task.y, task.train))
    rows = np.arange(len(task.train), dtype=np.intp)
    if _num_samples(train) != len(rows):
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: {[_num_samples(train), len(rows)]}"
        )
    frame = train if hasattr(train, "iloc") else None
    scored = [_transform(pipeline, _safe_indexing(shared.features, part)) for part in _scored_rows(task)]
    return FoldFeatures(as_array(train), task.train, rows, [*shared.steps, *pipeline.steps], frame, scored)


def _transform(pipeline: Pipeline, features: Any) -> Any:
    try:
        return pipeline.transform(features)
    except Exception:
        return None


def _scored_rows(task: Task) -> list[Rows]:
    return [task.test, task.train] if task.options["return_train_score"] else [task.test]
