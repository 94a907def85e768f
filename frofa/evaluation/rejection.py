"""Accuracy of the samples that are kept, where those of which a classifier is least sure are left out."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RejectionCurve:
    """Accuracy of the samples that are kept, the surest first.

    Attributes
    ----------
    kept : ndarray of float64, shape (m,)
        Shares of the samples that are kept, ascending, from above 0 to 1; samples that are equally sure are kept
        together, so that m is at most the number of samples.
    accuracy, low, high : ndarray of float64, shape (m,)
        Accuracy of those kept, from 0 to 1, and the ends of its interval (Wilson's).
    threshold : ndarray of float64, shape (m,)
        The least confidence among those kept.
    area : float
        Mean accuracy over all numbers of samples kept, from 0 to 1, which is best.
    """

    kept: Array
    accuracy: Array
    low: Array
    high: Array
    threshold: Array
    area: float


def rejection_curve(right: npt.ArrayLike, confidence: npt.ArrayLike, level: float = 0.95) -> RejectionCurve:
    """Follow the accuracy of the samples that are kept, from the surest one to all.

    Parameters
    ----------
    right : array-like of bool, shape (n,)
        Whether each prediction is right.
    confidence : array-like of shape (n,)
        How sure it is; larger is surer. The unit does not matter.
    level : float, default=0.95
        Level of the intervals, each of which is for one share alone.

    Returns
    -------
    RejectionCurve

    Raises
    ------
    ValueError
        If there is no sample, lengths differ, or a confidence is not a number.

    Notes
    -----
    Samples of equal confidence come in no order: within them, the area takes the accuracy that a random order has on
    average. It is one minus the area under the risk-coverage curve (AURC) of Geifman and El-Yaniv, "Selective
    classification for deep neural networks", 2017.

    Examples
    --------
    >>> from frofa.evaluation import rejection_curve
    >>> curve = rejection_curve([True, True, False, True], [0.9, 0.8, 0.6, 0.7])
    >>> curve.kept.tolist(), curve.accuracy.tolist(), curve.area
    ([0.25, 0.5, 0.75, 1.0], [1.0, 1.0, 1.0, 0.75], 0.9375)
    """
    hits, sure = np.asarray(right, np.bool_), np.asarray(confidence, np.float64)
    if hits.ndim != 1 or hits.shape != sure.shape or not len(hits):
        raise ValueError(f"expected one confidence for each prediction. Got shapes {hits.shape} and {sure.shape}.")
    if np.isnan(sure).any():
        raise ValueError(f"expected confidences that are numbers. Got {int(np.isnan(sure).sum())} NaN.")
    order = np.argsort(-sure, kind="stable")
    hits, sure = hits[order], sure[order]
    # Numbers of samples (m,) kept at the end of each run of equal confidences, and how many of these are right.
    ends = np.flatnonzero(np.append(np.diff(sure) != 0, True)) + 1
    n_right = np.cumsum(hits)[ends - 1].astype(np.float64)
    low, high = _wilson(n_right, ends, level)
    return RejectionCurve(ends / len(hits), n_right / ends, low, high, sure[ends - 1], _area(ends, n_right))


def _wilson(n_right: Array, n: npt.NDArray[np.intp], level: float) -> tuple[Array, Array]:
    """Wilson's intervals of many shares at once, as `frofa.evaluation.proportion_interval` has them of one."""
    z = float(stats.norm.ppf((1 + level) / 2))
    share, weight = n_right / n, 1 / (1 + z * z / n)
    centre = weight * (share + z * z / (2 * n))
    half = z * weight * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = np.maximum(centre - half, 0), np.minimum(centre + half, 1)
    # Rounding would leave a share of 0 or 1 just outside of its own interval.
    return np.where(n_right == 0, 0.0, low), np.where(n_right == n, 1.0, high)


def _area(ends: npt.NDArray[np.intp], n_right: Array) -> float:
    numbers = np.arange(1, ends[-1] + 1)
    expected = np.interp(numbers, np.append(0, ends), np.append(0, n_right))
    return float((expected / numbers).mean())
