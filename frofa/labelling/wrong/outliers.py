"""Samples that are like no others, by the scores of novelty that samples have when they are left out."""

from typing import Any

import numpy as np
import numpy.typing as npt

from frofa.estimators.solvers.novelty.scores import left_out_scores_of

Array = npt.NDArray[Any]
MOST_NEIGHBOURS = 5000
"""Samples of which all are scored at once; more are scored in parts of as many, drawn evenly."""
FENCE = 3.0
"""Tukey's far fence, in interquartile ranges beyond the upper quartile."""


def outlier_scores(rows: Array, codes: Array) -> Array:
    """Score rows (n, D) of length one, of classes (n,); larger is more unlike the others."""
    scores = np.empty(len(rows))
    n_parts = -(-len(rows) // MOST_NEIGHBOURS)
    for part in range(n_parts):
        some = slice(part, None, n_parts)
        scores[some] = left_out_scores_of(rows[some], codes[some], "auto")
    return scores


def far_out(scores: Array) -> npt.NDArray[np.intp]:
    """Return the positions beyond the fence, farthest first: none of scores that have no long tail."""
    low, high = np.quantile(scores, [0.25, 0.75])
    order = np.argsort(-scores, kind="stable")
    found: npt.NDArray[np.intp] = order[scores[order] > high + FENCE * (high - low)]
    return found
