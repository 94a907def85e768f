"""Ranks of scores among those of known samples: p-values, and the threshold that rejects a stated share of them."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def least_samples(share: float) -> int:
    """Return the number of known samples without which no score says that a share, of 0 to 1, lies beyond it."""
    # 1 / (n + 1) is the least p-value; rounded, as 1 / 0.05 may be a little more than 20.
    return math.ceil(round(1 / share, 9)) - 1


def p_values(known: Array, scores: Array) -> Array:
    """Estimate of scores (m,) the share of known samples that score as much or more, by the scores (n,) of some.

    At a score between those of ``k - 1`` and of k known samples, counted from the largest, it is ``(1 + #{known >=
    score}) / (n + 1) = k / (n + 1)`` in theory; here it falls linearly from ``k / (n + 1)`` to ``(k - 1) / (n + 1)`` on
    the way up, so that shares between these steps can be asked for. It is never less than ``1 / (n + 1)``.
    """
    values, shares = _steps(known)
    found: Array = np.interp(scores, values, shares, left=1.0)
    return np.maximum(found, 1 / (len(known) + 1))


def threshold(known: Array, share: float) -> float:
    """Return the score that a share of known samples exceed: p-values beyond it are less than the share."""
    values, shares = _steps(known)
    return float(np.interp(share, shares[::-1], values[::-1]))


def _steps(known: Array) -> tuple[Array, Array]:
    """Return the scores that occur, rising, and the share expected to score as much or more, falling."""
    values, counts = np.unique(known, return_counts=True)
    return values, counts[::-1].cumsum()[::-1] / (len(known) + 1)
