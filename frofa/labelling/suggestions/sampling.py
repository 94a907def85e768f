"""Samples of a pool that stand for all of it, drawn by weight."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.intp]
Array = npt.NDArray[np.float64]


class WeightedSample(NamedTuple):
    """Rows (m,), in order, and weights (m,) of sum 1, by which a mean over them estimates that over all rows."""

    rows: Indices
    weights: Array


def weighted_sample(weights: Array, size: int, random_state: np.random.RandomState) -> WeightedSample:
    """Draw rows for a weighted mean over n rows, the likelier the more each weighs (n,).

    Up to `size` rows are all of them. Of more, the `size` of the smallest keys E / w are drawn, with E exponential; w
    over the probability that a key is below the next one is an estimate without bias (bottom-k sampling: Cohen and
    Kaplan, "Summarizing data using bottom-k sketches", 2007). Where all weights are zero, they count as equal.
    """
    if not weights.any():
        weights = np.ones_like(weights)
    if len(weights) <= size:
        return WeightedSample(np.arange(len(weights)), weights / weights.sum())
    with np.errstate(divide="ignore"):
        keys = random_state.exponential(size=len(weights)) / weights
    order = np.argpartition(keys, size)
    rows, threshold = np.sort(order[:size]), keys[order[size]]
    rows = rows[weights[rows] > 0]
    chosen = weights[rows]
    estimates = chosen / -np.expm1(-threshold * chosen) if np.isfinite(threshold) else chosen
    return WeightedSample(rows, estimates / estimates.sum())
