"""Results of fits as scikit-learn's search takes them: from a fitted head, or from what its fit raised."""

import time
from traceback import format_exception
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone

from frofa.compute.arrays import as_labels
from frofa.estimators.core.classifier import FeatureClassifier
from frofa.estimators.core.shortcuts import follows
from frofa.estimators.core.support import Array
from frofa.estimators.searching.features import FoldFeatures
from frofa.estimators.searching.plan import BatchPlan
from frofa.estimators.searching.sklearn_compat import (
    FitResult,
    SearchTask,
    asks_for_accuracy,
    asks_for_predictions,
    metric_names,
    remember_feature_names,
    score,
    take_rows,
)


class _ScoredHead(ClassifierMixin, BaseEstimator):
    """A head on samples of which its scores (n, n_classes) are known, or are computed once: what scorers are given."""

    def __init__(self, head: FeatureClassifier, scores: Array | None = None):
        self.head = head
        self.scores = scores
        self.classes_ = head.classes_

    def predict(self, X: Any) -> Array:
        return self.head._labels_of(self._scores_of(X))

    def predict_proba(self, X: Any) -> Array:
        return self.head._probabilities_of(self._scores_of(X))

    def decision_function(self, X: Any) -> Array:
        return self.head._decisions_of(self._scores_of(X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        return float(super().score(X, as_labels(y), sample_weight))

    def _scores_of(self, X: Any) -> Array:
        if self.scores is None:
            self.scores = self.head._checked_scores(X)
        return self.scores


def result_of(
    task: SearchTask,
    plan: BatchPlan,
    fitted: FeatureClassifier | Exception,
    features: FoldFeatures | Exception,
    fit_time: float,
    known: Array | None,
) -> FitResult:
    """Return the result of one fit; `known` scores of the test samples (n, n_classes) are not computed again."""
    score_time = 0.0
    if isinstance(features, Exception) or isinstance(fitted, Exception):
        result = _failure(task, features if isinstance(features, Exception) else fitted)
    else:
        start = time.time()
        if features.frame is not None:
            remember_feature_names(fitted, features.frame)
        result = {"fit_error": None, "test_scores": _scores(task, plan, fitted, features, 0, known)}
        score_time = time.time() - start
        if task.return_train_score:
            result["train_scores"] = _scores(task, plan, fitted, features, 1, None)
    result |= {"n_test_samples": len(task.test), "fit_time": fit_time, "score_time": score_time}
    _report(task, result)
    return result


def _failure(task: SearchTask, error: Any) -> FitResult:
    if task.error_score == "raise":
        raise error
    names = metric_names(task.scorer)
    text = "".join(format_exception(error))
    result: FitResult = {"fit_error": f"{text}(of the candidate {task.parameters})\n"}
    for part in ["test_scores", "train_scores"][: 1 + task.return_train_score]:
        result[part] = task.error_score if names is None else dict.fromkeys(names, task.error_score)
    return result


def _scores(
    task: SearchTask, plan: BatchPlan, head: FeatureClassifier, features: FoldFeatures, part: int, known: Array | None
) -> Any:
    """Score a head on the test samples, or on the training samples where `part` is 1."""
    rows, X = (task.test, task.train)[part], features.scored[part]
    y, params = take_rows(task.y, rows), task.score_params_of(rows)
    rejects = head._given("reject") is not None
    if known is not None and not params and not rejects and asks_for_accuracy(task.scorer) and _are_labels_of(head, y):
        return float(np.mean(head._labels_of(known) == y))  # scikit-learn's checks take longer than all else here
    estimator: Any = head
    # A function of the user's gets the whole estimator and the samples as they came; scikit-learn's scorers ask for
    # predictions only, which may come from one computation, unless a subclass of a head predicts in its own way.
    if X is None or not asks_for_predictions(task.scorer):
        estimator, X = _assembled(plan, head, features), take_rows(task.X, rows)
    elif follows(type(head), FeatureClassifier, FeatureClassifier._predict_steps):
        # One that rejects samples looks at more than their scores.
        estimator = head if rejects else _ScoredHead(head, known)
    return score(estimator, X, y, task.scorer, params, task.error_score)


def _are_labels_of(head: FeatureClassifier, y: Any) -> bool:
    """Tell whether labels compare with a head's as they are."""
    return isinstance(y, np.ndarray) and y.ndim == 1 and y.dtype == head.classes_.dtype


def _assembled(plan: BatchPlan, head: FeatureClassifier, features: FoldFeatures) -> Any:
    """Return the whole estimator, fitted."""
    if plan.estimator is plan.head:
        return head
    # Leading steps that were fitted for several candidates are put in as they are, without a copy.
    pipeline = clone(plan.estimator)
    fitted = {**dict(features.steps), plan.estimator.steps[-1][0]: head}
    pipeline.steps = [(name, fitted.get(name, step)) for name, step in pipeline.steps]
    return pipeline


def _report(task: SearchTask, result: FitResult) -> None:
    """Print a line for one fit where ``verbose`` is 2 or more, as scikit-learn does."""
    if task.verbose <= 1:
        return
    progress = f" {task.split + 1}/{task.split_progress[1]}" if task.verbose > 2 else ""
    progress += f"; {task.candidate + 1}/{task.candidate_progress[1]}" if task.verbose > 9 else ""
    message = ", ".join(f"{key}={value}" for key, value in sorted(task.parameters.items()))
    message += (";" if message else "") + (_scores_in_words(result) if task.verbose > 2 else "")
    message += f" total time={result['fit_time'] + result['score_time']:6.1f}s"
    start = f"[CV{progress}] END "
    print(f"{start}{'.' * (80 - len(start) - len(message))}{message}")


def _scores_in_words(result: FitResult) -> str:
    test, train = result["test_scores"], result.get("train_scores")
    if not isinstance(test, dict):
        return f", score=({f'train={train:.3f}, test={test:.3f}'})" if train is not None else f", score={test:.3f}"
    words = [
        f"{name}: ({'' if train is None else f'train={train[name]:.3f}, '}test={test[name]:.3f})"
        for name in sorted(test)
    ]
    return f" {' '.join(words)}"
