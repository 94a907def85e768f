"""Probabilities of labels by themselves, from scores of left-out samples: how steep logits are, and where zero.

Scores (n, L) are predictions of indicators of 0 and 1, one column a label; weights (n,) have a mean of one.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit

Array = npt.NDArray[np.float64]
HELD = 4.0
"""Precision by which the logarithm of a slope is held at the common one, that of the common one at zero, which is a
discriminant's, and the offset of a label at zero: what a few samples say counts little."""
LEAST_COUNT = 2
"""Samples with a label, and without it, below which the label has no line of its own."""
STEPS, PRECISION = 100, 1e-8


class Lines(NamedTuple):
    """Lines (L,) from scores to logits: ``slope * score + offset``."""

    slope: Array
    offset: Array

    def of(self, scores: Array) -> Array:
        """Turn scores (n, L) into logits."""
        found: Array = scores * self.slope + self.offset
        return found


def calibrate(left_out: Array, labels: Array, weights: Array) -> tuple[Lines, Array]:
    """Fit the lines of labels (n, L) to scores of left-out samples, and return logits (L,) of prevalences, too.

    Lines are those of discriminants, without prevalences, but steeper or flatter: all labels together, and each a
    little by itself. Those of labels that all or no samples have are zero.
    """
    base, plain = log_odds(labels, weights), discriminant_lines(left_out, labels, weights)
    slopes, moved = np.ones(len(base)), np.zeros(len(base))
    known = np.minimum(weights @ labels, weights @ (1 - labels)) > LEAST_COUNT - 0.5
    if known.any():
        logits, y = plain.of(left_out)[:, known], smoothed(labels, weights)[:, known]
        common = _slope(logits, base[known], y, weights)
        slopes[:] = np.exp(common)
        slopes[known], moved[known] = _lines(logits, base[known], y, weights, common)
    return Lines(plain.slope * slopes, plain.offset * slopes + moved), base


def log_odds(labels: Array, weights: Array) -> Array:
    """Logits (L,) of prevalences, with half a sample more of either kind, so that they are finite."""
    counts = weights @ labels
    found: Array = np.log((counts + 0.5) / (weights.sum() - counts + 0.5))
    return found


def smoothed(labels: Array, weights: Array) -> Array:
    """Move labels (n, L) from 0 and 1 as Platt (1999) does: where scores are all right, logits are finite."""
    with_it = weights @ labels
    found: Array = np.where(labels > 0, (with_it + 1) / (with_it + 2), 1 / (weights.sum() - with_it + 2))
    return found


def discriminant_lines(left_out: Array, labels: Array, weights: Array) -> Lines:
    """Lines by which scores are those of two classes of equal covariance and equal prevalence.

    A regression to 0 and 1 that explains the part R of the variance has scores that differ by R between the classes:
    logits are scores, from the middle of the two, by the variance that is not explained.
    """
    share = np.average(labels, axis=0, weights=weights)
    variance = share * (1 - share)
    # A sample more that nothing is explained of: few samples may all be right by chance.
    errors = (weights @ (labels - left_out) ** 2 + variance) / (weights.sum() + 1)
    known = variance > 0
    explained = np.clip(1 - errors / np.where(known, variance, 1), 0, 1)
    slope = np.where(known, 1 / np.where(known, errors, 1), 0)
    return Lines(slope, -slope * (share + (0.5 - share) * explained))


def _slope(logits: Array, base: Array, labels: Array, weights: Array) -> float:
    """Find the logarithm of the slope that all labels have in common, by Newton's method within bounds."""
    log, low, high = 0.0, -10.0, 5.0
    for _ in range(STEPS):
        steep = np.exp(log) * logits
        p = expit(steep + base)
        slope = float(weights @ ((p - labels) * steep).sum(1)) + HELD * log
        curvature = float(weights @ (p * (1 - p) * steep**2 + (p - labels) * steep).sum(1)) + HELD
        low, high = (low, log) if slope > 0 else (log, high)
        moved = log - slope / curvature if curvature > 0 else np.inf
        moved = moved if low < moved < high else (low + high) / 2
        if abs(moved - log) < PRECISION:
            break
        log = moved
    return float(log)


def _lines(logits: Array, base: Array, labels: Array, weights: Array, common: float) -> tuple[Array, Array]:
    """Fit slopes and offsets (L,) of labels, held at the common slope and at zero, by Newton's method with halving."""
    n_labels = logits.shape[1]
    logs, offsets = np.full(n_labels, common), np.zeros(n_labels)

    def loss(logs: Array, offsets: Array) -> Array:
        z = np.exp(logs) * logits + base + offsets
        found: Array = weights @ (np.logaddexp(0, z) - labels * z)
        return found + 0.5 * HELD * ((logs - common) ** 2 + offsets**2)

    before = loss(logs, offsets)
    for _ in range(STEPS):
        steep = np.exp(logs) * logits
        p = expit(steep + base + offsets)
        # Gradient and Gauss-Newton's curvature, which is positive definite, of each label: (L,) and 2 x 2.
        off, curved = (p - labels) * weights[:, None], p * (1 - p) * weights[:, None]
        first, second = (off * steep).sum(0) + HELD * (logs - common), off.sum(0) + HELD * offsets
        a, b, c = (curved * steep**2).sum(0) + HELD, (curved * steep).sum(0), curved.sum(0) + HELD
        determinant = a * c - b**2
        d_log, d_offset = (c * first - b * second) / determinant, (a * second - b * first) / determinant
        step = np.ones(n_labels)
        for _ in range(40):
            after = loss(logs - step * d_log, offsets - step * d_offset)
            worse = after > before
            if not worse.any():
                break
            step[worse] /= 2
        step[worse] = 0
        logs, offsets, before = logs - step * d_log, offsets - step * d_offset, np.where(worse, before, after)
        if max(np.abs(step * d_log).max(), np.abs(step * d_offset).max()) < PRECISION:
            break
    return np.exp(logs), offsets
