"""Calibration of scores by samples that were left out: by a temperature, or by a scale and an offset of each class.

Logits are ``scales * log_softmax(scores / temperature) + offsets``. Vector scaling of log-probabilities is the diagonal
case of Dirichlet calibration: unlike that of scores, it does not depend on what scores of a sample have in common.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import log_softmax

from frofa.estimators.solvers.left_out import LeftOut

Array = npt.NDArray[Any]
SCALE_DEVIATION, OFFSET_DEVIATION = 0.1, 0.3
"""Usual deviations of scales of classes from 1, and of offsets from 0, at which they are held as by a normal prior
(``benchmarks/calibration_constants.py``)."""
PARTS = 5
"""Parts of the left-out samples, of which each rates scales and offsets that were fitted to the others."""
LEAST_OF_CLASS = 5
"""Left-out samples of each class, below which scales and offsets are not tried."""
LARGE = 2**22
"""Scores of left-out samples beyond which scales and offsets are not tried, as that would take seconds."""


class Scaling(NamedTuple):
    """A temperature, and scales and offsets (n_classes,) of log-probabilities, None of either where there is none."""

    temperature: float
    scales: Array | None = None
    offsets: Array | None = None

    @property
    def is_plain(self) -> bool:
        """Whether logits are scores, but for a temperature."""
        return self.scales is None and self.offsets is None

    def logits(self, scores: Array) -> Array:
        """Turn scores (n, n_classes) into logits."""
        scaled: Array = scores * (1 / self.temperature)
        if self.is_plain:
            return scaled
        scaled = log_softmax(scaled, axis=1)
        scaled = scaled if self.scales is None else scaled * self.scales
        return scaled if self.offsets is None else scaled + self.offsets


def fit_scaling(
    scores: Array, seen: LeftOut, method: bool | str, temperature: float | None = None, factor: float = 1.0
) -> Scaling:
    """Calibrate scores (n, n_classes) of left-out samples.

    Parameters
    ----------
    scores : ndarray of shape (n, n_classes)
        Finite.
    seen : LeftOut
        The samples; their offsets, logarithms of what class priors are changed by, are added to those that are fitted.
    method : True, "temperature" or "vector"
        True chooses: scales and offsets are taken where they gain more than chance may on samples that they were not
        fitted to.
    temperature : float, default=None
        That of scores which have one; None fits it.
    factor : float, default=1.0
        By how much scores of other samples are worth more than those of left-out ones: the temperature is divided by
        it.

    References
    ----------
    Guo et al., "On calibration of modern neural networks", ICML 2017; Kull et al., "Beyond temperature scaling",
    NeurIPS 2019.
    """
    temperature = 1 / seen.calibrated(scores).scale if temperature is None else temperature
    log_probs = log_softmax(scores / temperature, axis=1)
    shift = seen.offsets if seen.offsets.any() else None
    found = temperature / factor
    if method == "vector" or (method is True and vector_pays(log_probs, seen)):
        scales, offsets = fit_vectors(log_probs, seen, seen.importance[None])[0]
        return Scaling(found, scales, offsets + seen.offsets)
    return Scaling(found, None, shift)


def fit_vectors(log_probs: Array, seen: LeftOut, importance: Array) -> Array:
    """Fit scales and offsets (B, 2, n_classes) for log-probabilities (n, n_classes), B times, by importances (B, n).

    The penalised likelihood is concave. All problems are one sum, and are solved together.
    """
    n_problems, n_classes = len(importance), log_probs.shape[1]
    totals = importance.sum(1, keepdims=True)
    share, held = importance / totals, (importance**2).sum(1) / totals[:, 0] ** 2
    precision = np.array([SCALE_DEVIATION, OFFSET_DEVIATION])[:, None] ** -2.0
    usual = np.array([1.0, 0.0])[:, None]
    every = np.arange(len(log_probs))

    def objective(flat: Array) -> tuple[float, Array]:
        found = flat.reshape(n_problems, 2, n_classes)
        # Logits (B, n, n_classes), which become their probabilities less one at the label: the slope.
        logs = log_softmax(found[:, :1] * log_probs + found[:, 1:] + seen.offsets, axis=2)
        loss = -(share * logs[:, every, seen.codes]).sum()
        slope = np.exp(logs)
        slope[:, every, seen.codes] -= 1
        slope *= share[:, :, None]
        slopes = np.stack([(slope * log_probs).sum(1), slope.sum(1)], 1)
        off, pull = found - usual, held[:, None, None] * precision
        return float(loss + 0.5 * (pull * off**2).sum()), (slopes + pull * off).ravel()

    start = np.broadcast_to(usual, (n_problems, 2, n_classes)).ravel()
    options = {"ftol": 1e-10, "gtol": 1e-7, "maxiter": 200}
    # No scale is negative, which would turn the order of a class round.
    bounds = ([(0.0, None)] * n_classes + [(None, None)] * n_classes) * n_problems
    best = minimize(objective, start, jac=True, bounds=bounds, method="L-BFGS-B", options=options).x
    fitted: Array = best.reshape(n_problems, 2, n_classes)
    return fitted


def vector_pays(log_probs: Array, seen: LeftOut) -> bool:
    """Tell whether scales and offsets of classes are worth more than chance gives, on samples that do not fit them."""
    n, n_classes = log_probs.shape
    counts = np.bincount(seen.codes, minlength=n_classes)
    if counts.min() < LEAST_OF_CLASS or log_probs.size > LARGE or not _is_off(log_probs, seen):
        return False
    # Each class dealt to all parts, in turn.
    order = np.argsort(seen.codes, kind="stable")
    parts = np.empty(n, np.intp)
    parts[order] = np.arange(n) % PARTS
    importance = np.where(parts == np.arange(PARTS)[:, None], 0, seen.importance)
    fitted = fit_vectors(log_probs, seen, importance)[parts]
    # Each sample's log-likelihood by the fit without its part, and by the temperature alone.
    every, shifted = np.arange(n), log_probs + seen.offsets
    before = log_softmax(shifted, axis=1)[every, seen.codes]
    logits = fitted[:, 0] * log_probs + fitted[:, 1] + seen.offsets
    gains = log_softmax(logits, axis=1)[every, seen.codes] - before
    return float(seen.importance @ gains) > 0


def _is_off(log_probs: Array, seen: LeftOut) -> bool:
    """Tell by the slopes of the likelihood whether scales and offsets can gain more than they do from noise.

    It is the score test with the diagonal of the information, and takes a thousandth of the time of the fits that it
    saves.
    """
    logs = log_softmax(log_probs + seen.offsets, axis=1)
    residuals = -np.exp(logs)
    spread = np.exp(logs) * (1 + residuals)
    residuals[np.arange(len(logs)), seen.codes] += 1
    weights = seen.importance / seen.importance.mean()
    gained = chance = 0.0
    for values, deviation in ((log_probs, SCALE_DEVIATION), (np.ones_like(log_probs), OFFSET_DEVIATION)):
        slopes = weights @ (residuals * values)
        information = weights @ (spread * values**2)
        held = information + deviation**-2.0
        gained += float((slopes**2 / held).sum())
        chance += float((information / held).sum())
    return gained > chance
