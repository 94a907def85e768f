"""Weights of a blend: log-probabilities of left-out samples by several members, mixed so that labels are likely.

A first member is there in any case. The others join it by what they add to the likelihood, and only if that is more
than chance gives.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import log_softmax

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]
STANDARD_ERRORS = 1.0
"""Price of a member, in standard errors of what it gains at first (``benchmarks/blend_price.py``)."""
LEAST_PRICE = 1e-3
"""Price of a member whose gain has no error, as there is none."""
LEAST_WEIGHT = 0.01
"""Weight below which a member is left out."""
HELD = 2.0
"""Samples that a sum of coefficients of one is worth, as members are calibrated: without, it has no bound where all
labels are right."""


class Blend(NamedTuple):
    """Weights (M,) of members, of sum 1, and the inverse temperature of the blend.

    `gains` (M,) are what the mean log-likelihood rises by for each unit of a member, from the first member alone, and
    `prices` what it has to.
    """

    weights: Array
    scale: float
    gains: Array
    prices: Array


def choose_weights(log_probs: Array, codes: Indices, importance: Array) -> Blend:
    """Choose weights by the penalised likelihood of samples (n,) under members' log-probabilities (M, n, n_classes).

    The blend's logits are the sum of log-probabilities times coefficients, none negative: weights times a scale. Each
    coefficient but the first has a price, so that a member joins only if the slope of the likelihood, at the best scale
    of the first member alone, is more than a standard error of that slope: fewer join where samples are few. The
    objective is convex. `importance` (n,) is what samples count.
    """
    share = importance / importance.sum()
    held = HELD * (share**2).sum()
    alone = _minimise(_objective(log_probs[:1], codes, share, np.zeros(1), held))
    gains, prices = _gains_and_prices(alone[0] * log_probs[0], log_probs, codes, share)
    found = _minimise(_objective(log_probs, codes, share, prices, held), np.append(alone, np.zeros(len(gains) - 1)))
    weights = found / found.sum()
    weights = np.where(weights < LEAST_WEIGHT, 0, weights)
    if weights[0] == weights.sum():  # the first is calibrated already
        return Blend(np.where(weights > 0, 1.0, 0.0), 1.0, gains, prices)
    return Blend(weights / weights.sum(), float(found.sum()), gains, prices)


def _objective(
    log_probs: Array, codes: Indices, share: Array, prices: Array, held: float
) -> Callable[[Array], tuple[float, Array]]:
    """Make the function of coefficients (M,) that is minimised, and its slope."""

    def objective(coefficients: Array) -> tuple[float, Array]:
        logs = log_softmax(np.tensordot(coefficients, log_probs, 1), axis=1)
        # Slope of the loss by the logits, (n, K).
        slope = np.exp(logs)
        slope[np.arange(len(codes)), codes] -= 1
        slope *= share[:, None]
        beyond = coefficients.sum() - 1
        loss = -share @ _of_labels(logs, codes) + prices @ coefficients + held / 2 * beyond**2
        return float(loss), np.tensordot(log_probs, slope, 2) + prices + held * beyond

    return objective


def _minimise(objective: Callable[[Array], tuple[float, Array]], start: Array | None = None) -> Array:
    start = np.ones(1) if start is None else start
    options = {"ftol": 1e-12, "gtol": 1e-8, "maxiter": 500}
    bounds = [(1e-3, None)] + [(0.0, None)] * (len(start) - 1)
    found: Array = minimize(objective, start, jac=True, bounds=bounds, method="L-BFGS-B", options=options).x
    return found


def _gains_and_prices(logits: Array, log_probs: Array, codes: Indices, share: Array) -> tuple[Array, Array]:
    """Give slopes of the likelihood by coefficients at logits of the first member, and what they are to exceed: (M,).

    The error of a slope is without what the first member's coefficient explains of it, which is fitted itself.
    """
    expected = np.exp(log_softmax(logits, axis=1))
    # What each sample's log-likelihood gains by each member, (M, n).
    slopes = _of_labels(log_probs, codes) - (expected * log_probs).sum(-1)
    gains = slopes @ share
    centred = slopes - gains[:, None]
    first = centred[0]
    explained = (centred * share) @ first / max(float(share @ first**2), 1e-300)
    errors = np.sqrt((centred - explained[:, None] * first) ** 2 @ share**2)
    prices = np.maximum(STANDARD_ERRORS * errors, LEAST_PRICE)
    gains[0] = prices[0] = 0
    return gains, prices


def _of_labels(values: Array, codes: Indices) -> Array:
    """Pick the values (..., n) of the samples' own classes from (..., n, K)."""
    own: Array = values[..., np.arange(len(codes)), codes]
    return own
