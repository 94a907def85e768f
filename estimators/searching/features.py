"""The features that heads are trained and scored on: samples after a pipeline's leading steps, each fitted once."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from frofa.compute.arrays import as_features
from frofa.estimators.core.classifier import FeatureClassifier
from frofa.estimators.core.shortcuts import follows
from frofa.estimators.searching.plan import BatchPlan
from frofa.estimators.searching.sklearn_compat import RowIndices, SearchTask, count_samples, take_rows
from frofa.estimators.tokens.blocks import plain_features
from frofa.estimators.tokens.lazy import average_tokens

Steps = Sequence[tuple[str, Any]]


@dataclass(frozen=True, eq=False)
class FoldFeatures:
    """Features of one fold.

    Engines train on the `rows` of `array`, the training samples and possibly others; `origin` is the sample of X that
    each row of `array` comes from. `steps` are the leading ones, fitted; `frame` is the training features with names,
    where they have names. `scored` are the features of the test samples and, where scores on them are asked for, of the
    training samples; None where they cannot be computed.
    """

    array: Any
    origin: RowIndices
    rows: RowIndices
    steps: Steps
    frame: Any
    scored: list[Any]


class FoldKey(NamedTuple):
    """Distinction of the features of two fits: steps that learn nothing, averaging, the split, and other steps."""

    shared: str
    pooled: bool
    split: int
    fitted: str


@dataclass(frozen=True, eq=False)
class _SharedFeatures:
    """Features of all samples, as the steps return them and as engines take them, and the steps, fitted."""

    features: Any
    array: Any
    steps: Steps


@dataclass(eq=False)
class FeatureCache:
    """Cache of features by leading steps and fold, each computed once and kept until `forget`.

    With `pool`, heads that average their tokens may be given the averages: where scorers ask for nothing but
    predictions.
    """

    pool: bool
    _shared: dict[tuple[str, bool], _SharedFeatures | None] = field(default_factory=dict)
    _folds: dict[FoldKey, FoldFeatures | Exception] = field(default_factory=dict)

    def get(self, task: SearchTask, plan: BatchPlan) -> FoldFeatures | Exception:
        """Return features of a task's fold, or what their computation raised."""
        key = self.key(task, plan)
        if key not in self._folds:
            try:
                self._folds[key] = self._compute(task, plan, key.pooled)
            except Exception as error:
                self._folds[key] = error
        return self._folds[key]

    def key(self, task: SearchTask, plan: BatchPlan) -> FoldKey:
        """Return the key that tasks have in common if their features are the same."""
        pooled = self.pool and not plan.fitted and averages_only(plan.head)
        return FoldKey(plan.shared_key, pooled, task.split, plan.fitted_key)

    def forget(self, folds: Collection[FoldKey], shared: Collection[str]) -> None:
        """Keep the features of these folds, and of all samples after these steps; give memory free of all others."""
        self._folds = {key: value for key, value in self._folds.items() if key in folds}
        self._shared = {key: value for key, value in self._shared.items() if key[0] in shared}

    def _compute(self, task: SearchTask, plan: BatchPlan, pooled: bool) -> FoldFeatures:
        shared = self._share(task, plan, pooled)
        if shared is None:
            return _of_fold(task, _SharedFeatures(task.X, None, []), [*plan.shared, *plan.fitted])
        return _of_fold(task, shared, plan.fitted) if plan.fitted else _of_all(task, shared)

    def _share(self, task: SearchTask, plan: BatchPlan, pooled: bool) -> _SharedFeatures | None:
        """Return features of all samples; None if a sample spoils them for the others: each fold is then on its own."""
        # Averages are made from the features that other heads may use as they are, so that steps run once for both.
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
    """Tell whether tokens and their average are the same to a head."""
    augmented = head._given("augment") is not None or head._given("n_views")
    return not augmented and follows(type(head), FeatureClassifier, FeatureClassifier._pool_steps)


def as_array(features: Any) -> Any:
    """Return features as an array or a tensor without names, which is what engines take."""
    if hasattr(features, "iloc"):
        return features.to_numpy()
    try:
        return as_features(features) if isinstance(features, (list, tuple)) else features
    except ValueError:  # ragged: each fit says so
        return features


def _apply(task: SearchTask, steps: Steps) -> _SharedFeatures | None:
    features, fitted = task.X, []
    if steps:
        pipeline = Pipeline(clone(steps, safe=False))
        features, fitted = pipeline.fit_transform(task.X, task.y), pipeline.steps
        if count_samples(features) != count_samples(task.X):
            return None
    return _SharedFeatures(features, as_array(features), fitted)


def _averaged(shared: _SharedFeatures) -> _SharedFeatures:
    array = plain_features(shared.array)
    if getattr(array, "ndim", 2) == 3 and getattr(array, "dtype", None) in (np.float16, np.float32, np.float64):
        array = average_tokens(array)
    return shared if array is shared.array else _SharedFeatures(array, array, shared.steps)


def _of_all(task: SearchTask, shared: _SharedFeatures) -> FoldFeatures:
    # One row of a data frame is enough to tell a head the names of its columns.
    frame = take_rows(shared.features, task.train[:1]) if hasattr(shared.features, "iloc") else None
    scored = [take_rows(shared.features, rows) for rows in _scored_rows(task)]
    # Engines get all samples and the rows to train on: folds share one array, and are trained together.
    everything = np.arange(count_samples(shared.array), dtype=np.intp)
    return FoldFeatures(shared.array, everything, task.train, shared.steps, frame, scored)


def _of_fold(task: SearchTask, shared: _SharedFeatures, steps: Steps) -> FoldFeatures:
    pipeline = Pipeline(clone(list(steps), safe=False))
    train = pipeline.fit_transform(take_rows(shared.features, task.train), take_rows(task.y, task.train))
    rows = np.arange(len(task.train), dtype=np.intp)
    if count_samples(train) != len(rows):
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: {[count_samples(train), len(rows)]}"
        )
    frame = train if hasattr(train, "iloc") else None
    scored = [_transform(pipeline, take_rows(shared.features, part)) for part in _scored_rows(task)]
    return FoldFeatures(as_array(train), task.train, rows, [*shared.steps, *pipeline.steps], frame, scored)


def _transform(pipeline: Pipeline, features: Any) -> Any:
    try:
        return pipeline.transform(features)
    except Exception:
        return None


def _scored_rows(task: SearchTask) -> list[RowIndices]:
    return [task.test, task.train] if task.return_train_score else [task.test]
