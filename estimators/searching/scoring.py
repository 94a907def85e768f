"""From a fitted head, or what its fit raised, to what scikit-learn's search makes its results of."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import format_exception
from typing import Any

from sklearn.base import clone
from sklearn.metrics._scorer import _BaseScorer, _MultimetricScorer, _PassthroughScorer
from sklearn.model_selection._validation import _score
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _check_feature_names, _num_samples

from frofa.estimators.core.classifier import FeatureClassifier
from frofa.estimators.core.support import Array
from frofa.estimators.searching.features import FoldFeatures
from frofa.estimators.searching.linear_scores import accuracy
from frofa.estimators.searching.plan import Plan, Task

Result = dict[str, Any]


def asks_for_predictions(scorer: Any) -> bool:
    """Whether a scorer wants predictions and nothing else, so that it may be given the head and its features.

    Any other function gets the whole estimator and the samples as they came.
    """
    if isinstance(scorer, _MultimetricScorer):
        return all(asks_for_predictions(one) for one in scorer._scorers.values())
    return isinstance(scorer, (_BaseScorer, _PassthroughScorer))


def result_of(
    task: Task,
    plan: Plan,
    fitted: FeatureClassifier | Exception,
    features: FoldFeatures | Exception,
    fit_time: float,
    known: Array | None,
) -> Result:
    """Result of one task, as ``_fit_and_score`` returns it; the scores of the test samples may be `known`."""
    if isinstance(features, Exception):
        fitted = features
    if isinstance(fitted, Exception) or isinstance(features, Exception):
        result = _failure(task, fitted)
        score_time = 0.0
    else:
        start = time.time()
        if features.frame is not None:
            _check_feature_names(fitted, features.frame, reset=True)
        result = {"fit_error": None, "test_scores": _scores(task, plan, fitted, features, 0, known)}
        score_time = time.time() - start
        if task.options["return_train_score"]:
            result["train_scores"] = _scores(task, plan, fitted, features, 1, None)
    result |= {"n_test_samples": _num_samples(task.test), "fit_time": fit_time, "score_time": score_time}
    _report(task, result)
    return result


def _failure(task: Task, error: Any) -> Result:
    error_score, scorer = task.options["error_score"], task.options["scorer"]
    if error_score == "raise":
        raise error
    scores = error_score
    if isinstance(scorer, _MultimetricScorer):
        scores = dict.fromkeys(scorer._scorers, error_score)
    text = "".join(format_exception(error))
    result = {"fit_error": f"{text}(of the candidate {task.options['parameters']})\n", "test_scores": scores}
    if task.options["return_train_score"]:
        result["train_scores"] = dict(scores) if isinstance(scores, dict) else scores
    return result


def _scores(
    task: Task, plan: Plan, head: FeatureClassifier, features: FoldFeatures, part: int, known: Array | None
) -> Any:
    """Scores on the test samples, or on the training samples where `part` is 1."""
    rows = task.train if part else task.test
    scorer, error_score = task.options["scorer"], task.options["error_score"]
    estimator, X, y, params = head, features.scored[part], _safe_indexing(task.y, rows), task.score_params(rows)
    if known is not None and not params and (value := accuracy(scorer, head, known, y)) is not None:
        return value
    if X is None or not asks_for_predictions(scorer):
        estimator, X = _assembled(plan, head, features), _safe_indexing(task.X, rows)
    with scored_once(head, X, known):
        return _score(estimator, X, y, scorer, params, error_score)


@contextmanager
def scored_once(head: FeatureClassifier, X: Any = None, known: Array | None = None) -> Iterator[None]:
    """Let labels, probabilities and decision values of the same samples come from one computation; X's may be known."""
    compute, last = head._checked_scores, list[Any]((None, None) if known is None else (X, known))

    def once(X: Any) -> Any:
        if last[0] is not X:
            last[:] = X, compute(X)
        return last[1]

    head.__dict__["_checked_scores"] = once
    try:
        yield
    finally:
        del head.__dict__["_checked_scores"]


def _assembled(plan: Plan, head: FeatureClassifier, features: FoldFeatures) -> Any:
    if plan.estimator is plan.head:
        return head
    pipeline = clone(plan.estimator)
    fitted = {**dict(features.steps), plan.estimator.steps[-1][0]: head}
    pipeline.steps = [(name, fitted.get(name, step)) for name, step in pipeline.steps]
    return pipeline


def _report(task: Task, result: Result) -> None:
    """Print a line for one fit where ``verbose`` is 2 or more, as scikit-learn does."""
    verbose, options = task.options["verbose"], task.options
    if verbose <= 1:
        return
    progress = f" {task.split + 1}/{options['split_progress'][1]}" if verbose > 2 else ""
    progress += f"; {task.candidate + 1}/{options['candidate_progress'][1]}" if verbose > 9 else ""
    message = ", ".join(f"{key}={value}" for key, value in sorted((options["parameters"] or {}).items()))
    message += (";" if message else "") + (_scores_in_words(result) if verbose > 2 else "")
    message += f" total time={result['fit_time'] + result['score_time']:6.1f}s"
    start = f"[CV{progress}] END "
    print(f"{start}{'.' * (80 - len(start) - len(message))}{message}")


def _scores_in_words(result: Result) -> str:
    test, train = result["test_scores"], result.get("train_scores")
    if not isinstance(test, dict):
        return f", score=({f'train={train:.3f}, test={test:.3f}'})" if train is not None else f", score={test:.3f}"
    words = [
        f"{name}: ({'' if train is None else f'train={train[name]:.3f}, '}test={test[name]:.3f})"
        for name in sorted(test)
    ]
    return f" {' '.join(words)}"
