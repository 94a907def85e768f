"""Scores of the linear heads of a search, whose samples are checked once for all heads of a fold."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.metrics._scorer import _PassthroughScorer, _Scorer

from frofa.estimators._base import Array, FeatureClassifier, LinearClassifier
from frofa.estimators._search_features import FoldFeatures

LINEAR = ("_checked_scores", "_check_features", "_tokens", "_prepare", "_scores", "predict", "score")
"""What is done for all heads at once: a subclass that has its own of any of these is asked itself."""
Fitted: TypeAlias = FeatureClassifier | Exception


def prepared_features(heads: Sequence[Fitted], folds: Sequence[FoldFeatures | Exception]) -> list[Array | None]:
    """What the scores on the test samples of the folds are computed from, once for all linear heads of a fold.

    None of other heads, and where samples are not what the heads take, which each of them is to say.
    """
    known: dict[tuple[int, type], Array | None] = {}
    return [_prepared(head, fold, known) for head, fold in zip(heads, folds, strict=True)]


def _prepared(
    head: Fitted, fold: FoldFeatures | Exception, known: dict[tuple[int, type], Array | None]
) -> Array | None:
    if isinstance(fold, Exception) or fold.frame is not None or fold.scored[0] is None or not _is_linear(head):
        return None
    key = id(fold.scored[0]), type(head)
    if key not in known:
        linear: Any = head
        try:
            known[key] = linear._prepare(linear._tokens(linear._check_features(fold.scored[0], reset=False)))
        except Exception:
            known[key] = None
    return known[key]


def _is_linear(head: Fitted) -> bool:
    if not isinstance(head, LinearClassifier) or head.n_views:
        return False
    return all(getattr(type(head), name) is getattr(LinearClassifier, name) for name in LINEAR)


def accuracy(scorer: Any, head: FeatureClassifier, scores: Array, y: Any) -> float | None:
    """Accuracy of known scores, where that is what the scorer asks for and labels are as those fitted.

    It is the same number as scikit-learn's, whose checks take longer than all else here.
    """
    passed = isinstance(scorer, _PassthroughScorer) and type(head).score is ClassifierMixin.score
    named = (
        isinstance(scorer, _Scorer)
        and scorer._score_func is accuracy_score
        and not scorer._kwargs
        and scorer._sign == 1
    )
    if not (passed or named) or not isinstance(y, np.ndarray) or y.ndim != 1 or y.dtype != head.classes_.dtype:
        return None
    return float(np.mean(head.classes_[scores.argmax(1)] == y))
