"""Scores of the linear heads of a search, whose samples are checked once for all heads of a fold."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.metrics._scorer import _PassthroughScorer, _Scorer

from frofa.estimators._base import Array, FeatureClassifier, LinearClassifier
from frofa.estimators._search_features import FoldFeatures

LINEAR = ("_checked_scores", "_check_features", "_tokens", "_prepare", "_scores", "predict", "score")
"""What a product stands for: a subclass that has its own of any of these has its own scores."""
Fitted: TypeAlias = FeatureClassifier | Exception


def known_scores(heads: Sequence[Fitted], folds: Sequence[FoldFeatures | Exception]) -> list[Array | None]:
    """Scores (n, n_classes) on the test samples of the folds, or None, of heads that are not linear, for one."""
    known: list[Array | None] = [None] * len(heads)
    groups: dict[tuple[int, type], list[int]] = {}
    for i, (head, fold) in enumerate(zip(heads, folds, strict=True)):
        if isinstance(fold, FoldFeatures) and fold.frame is None and fold.scored[0] is not None and _is_linear(head):
            groups.setdefault((id(fold.scored[0]), type(head)), []).append(i)
    for members in groups.values():
        fold = folds[members[0]]
        assert isinstance(fold, FoldFeatures)
        for i, scores in zip(members, _products([heads[i] for i in members], fold.scored[0]), strict=False):
            known[i] = scores
    return known


def _is_linear(head: Fitted) -> bool:
    if not isinstance(head, LinearClassifier) or head.n_views:
        return False
    return all(getattr(type(head), name) is getattr(LinearClassifier, name) for name in LINEAR)


def _products(heads: Sequence[Any], X: Any) -> Iterator[Array]:
    """Scores of the heads, in their order; none where X is not what they take."""
    first = heads[0]
    try:
        features = first._prepare(first._tokens(first._check_features(X, reset=False)))
    except Exception:  # each head will say so
        return
    for head in heads:
        yield head._scores(features)


def accuracy(scorer: Any, head: FeatureClassifier, scores: Array, y: Any) -> float | None:
    """Accuracy of known scores, where that is what the scorer asks for and labels are as those fitted.

    It is the same number as scikit-learn's, whose checks take longer than all else here.
    """
    passed = isinstance(scorer, _PassthroughScorer) and type(head).score is ClassifierMixin.score
    named = isinstance(scorer, _Scorer) and scorer._score_func is accuracy_score and not scorer._kwargs
    if not (passed or named) or not isinstance(y, np.ndarray) or y.ndim != 1 or y.dtype != head.classes_.dtype:
        return None
    return float(np.mean(head.classes_[scores.argmax(1)] == y))
