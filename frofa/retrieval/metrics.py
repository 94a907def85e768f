"""Scores by which neighbours are found, larger is nearer, and distances as which they are given: pure functions."""

from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Metric: TypeAlias = Literal["cosine", "euclidean", "inner_product"]
METRICS: tuple[str, ...] = get_args(Metric)
Doubles: TypeAlias = npt.NDArray[np.float64]


def check_metric(metric: str) -> None:
    """Raise a ValueError for a metric that is not known."""
    if metric not in METRICS:
        raise ValueError(f"expected 'metric' to be one of {', '.join(map(repr, METRICS))}. Got {metric!r}.")


def ready_queries(queries: Doubles, metric: str) -> Doubles:
    """Bring queries (q, D) to the form that scores are taken of: of length one for cosines."""
    if metric != "cosine":
        return queries
    lengths = np.linalg.norm(queries, axis=1, keepdims=True)
    unit: Doubles = queries / np.where(lengths > 0, lengths, 1)
    return unit


def scores(queries: Tensor, rows: Tensor, squares: Tensor, metric: str) -> Tensor:
    """Score rows (m, D), of these squares of lengths (m,), for ready queries (q, D); (q, m), in the queries' dtype.

    Cosines; inner products; or inner products less half of the square, which order as distances do.
    """
    products = queries @ rows.to(queries.dtype).T
    if metric == "cosine":
        return products.mul_(torch.where(squares > 0, squares.rsqrt(), 0.0))
    return products if metric == "inner_product" else products.sub_(0.5 * squares)


def rounding(queries: Doubles, largest_row: float, width: int, metric: str) -> Doubles:
    """Bound the error (q,) that scores in float32 have for ready queries, if rows are not longer than `largest_row`."""
    lengths = np.linalg.norm(queries, axis=1)
    relative = float(np.finfo(np.float32).eps) * (4.0 + width**0.5)
    longest = 1.0 if metric == "cosine" else largest_row
    offset = largest_row if metric == "euclidean" else 0.0
    bound: Doubles = relative * longest * (lengths + offset) + float(np.finfo(np.float32).tiny)
    return bound


def distances(queries: Tensor, rows: Tensor, metric: str) -> Tensor:
    """Distances (p,) between ready queries (p, D) and rows (p, D), pair by pair, in float64.

    Equal rows have equal distances to the last bit, wherever they lie: each is computed by itself.
    """
    queries, rows = queries.double(), rows.double()
    if metric == "euclidean":
        return (queries - rows).square_().sum(1).sqrt_()
    products = (queries * rows).sum(1)
    if metric == "inner_product":
        return -products
    lengths = rows.square().sum(1).sqrt_()
    return (1.0 - products / torch.where(lengths > 0, lengths, 1.0)).clamp_(0.0, 2.0)


def score_of(distance: Doubles, queries: Doubles, metric: str) -> Doubles:
    """Turn distances (q, k) of ready queries (q, D) back into scores."""
    if metric == "cosine":
        return 1.0 - distance
    if metric == "inner_product":
        return -distance
    halves: Doubles = 0.5 * (np.square(queries).sum(1)[:, None] - np.square(distance))
    return halves
