"""Scores of the linear heads of a search, whose samples are checked once for all heads of a fold."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np
from sklearn.metrics import accuracy_score
from sklearn.metrics._scorer import _PassthroughScorer, _Scorer

from frofa.estimators.core.classifier import FeatureClassifier
from frofa.estimators.core.linear import LinearClassifier
from frofa.estimators.core.support import Array
from frofa.estimators.searching.features import FoldFeatures

LINEAR = ("_checked_scores", "_check_features", "_tokens", "_prepare", "_scores", "predict", "score")
"""What is done for all heads at once: a subclass that has its own of any of these is asked itself."""
MOST = 2**25
"""Bytes of weights and scores of heads whose scores are one product."""
Fitted: TypeAlias = FeatureClassifier | Exception


def known_scores(heads: Sequence[Fitted], folds: Sequence[FoldFeatures | Exception]) -> Iterator[Array | None]:
    """Scores (n, n_classes) on the test samples of the folds, head by head; those of neighbours in one product.

    None of heads that are not linear, and where samples are not what a head takes, which it is to say.
    """
    for key, pairs in groupby(zip(heads, folds, strict=True), key=lambda pair: _group(*pair)):
        members: list[tuple[Any, Any]] = list(pairs)
        yield from (None for _ in members) if key is None else _products([head for head, _ in members], members[0][1])


def _group(head: Fitted, fold: FoldFeatures | Exception) -> Any:
    """Equal for heads whose scores may be one product; None where they may not."""
    if isinstance(fold, Exception) or fold.frame is not None or fold.scored[0] is None or not _is_linear(head):
        return None
    linear: Any = head
    return id(fold.scored[0]), type(head), linear.coef_.dtype, linear.coef_.shape


def _products(heads: Sequence[Any], fold: FoldFeatures) -> Iterator[Array | None]:
    first, X = heads[0], fold.scored[0]
    try:
        features = first._prepare(first._tokens(first._check_features(X, reset=False)))
    except Exception:
        yield from (None for _ in heads)
        return
    n_scores, width = first.coef_.shape
    n_together = max(1, MOST // (first.coef_.itemsize * n_scores * (width + len(features))))
    for start in range(0, len(heads), n_together):
        part = heads[start : start + n_together]
        products = features @ np.concatenate([head.coef_ for head in part]).T
        for head, own in zip(part, np.split(products, len(part), axis=1), strict=True):
            yield head._completed(own)


def _is_linear(head: Fitted) -> bool:
    if not isinstance(head, LinearClassifier) or head._given("n_views"):
        return False
    return all(getattr(type(head), name) is getattr(LinearClassifier, name) for name in LINEAR)


def accuracy(scorer: Any, head: FeatureClassifier, scores: Array, y: Any) -> float | None:
    """Accuracy of known scores, where that is what the scorer asks for and labels are as those fitted.

    It is the same number as scikit-learn's, whose checks take longer than all else here.
    """
    passed = isinstance(scorer, _PassthroughScorer) and type(head).score is FeatureClassifier.score
    named = (
        isinstance(scorer, _Scorer)
        and scorer._score_func is accuracy_score
        and not scorer._kwargs
        and scorer._sign == 1
    )
    if not (passed or named) or not isinstance(y, np.ndarray) or y.ndim != 1 or y.dtype != head.classes_.dtype:
        return None
    return float(np.mean(head.classes_[scores.argmax(1)] == y))
