"""Scores of the linear heads of a search: one product for the heads of a fold, whose samples are checked once."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from frofa.compute.memory import row_chunks
from frofa.estimators.batched.jobs import Fitted
from frofa.estimators.core.linear import LinearClassifier
from frofa.estimators.core.shortcuts import follows
from frofa.estimators.core.support import Array
from frofa.estimators.searching.features import FoldFeatures

PRODUCT_BYTES = 2**25
"""Limit of the weights and scores of a product: on the features of ``benchmarks/search.py``, larger ones are no faster,
and those of an eighth take 7 % longer."""


def scores_by_product(heads: Sequence[Fitted], folds: Sequence[FoldFeatures | Exception]) -> Iterator[Array | None]:
    """Yield scores (n, n_classes) on the test samples of the folds, head by head; neighbours' come from one product.

    None stands for heads that are not linear, and for samples that a head does not take, which it is to say itself.
    """
    for key, pairs in groupby(zip(heads, folds, strict=True), key=lambda pair: _group(*pair)):
        members: list[tuple[Any, Any]] = list(pairs)
        yield from (None for _ in members) if key is None else _products([head for head, _ in members], members[0][1])


def _group(head: Fitted, fold: FoldFeatures | Exception) -> Any:
    """Return what heads have in common whose scores may be one product; None for others."""
    if isinstance(fold, Exception) or fold.frame is not None or fold.scored[0] is None:
        return None
    if not isinstance(head, LinearClassifier) or head._given("n_views"):
        return None
    if not follows(type(head), LinearClassifier, LinearClassifier._product_steps):
        return None
    return id(fold.scored[0]), type(head), head.coef_.dtype, head.coef_.shape


def _products(heads: Sequence[Any], fold: FoldFeatures) -> Iterator[Array | None]:
    # features (n, C) of the test samples, checked and averaged by one head for all
    first, X = heads[0], fold.scored[0]
    try:
        features = first._prepare(first._tokens(first._check_features(X, reset=False)))
    except Exception:
        yield from (None for _ in heads)
        return
    n_scores, width = first.coef_.shape
    for rows in row_chunks(len(heads), PRODUCT_BYTES, first.coef_.itemsize * n_scores * (width + len(features))):
        part = heads[rows]
        # (n, C) @ (C, n_heads * n_scores), cut into each head's own columns
        products = features @ np.concatenate([head.coef_ for head in part]).T
        for head, own in zip(part, np.split(products, len(part), axis=1), strict=True):
            yield head._completed(own)
