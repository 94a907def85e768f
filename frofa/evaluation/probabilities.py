"""Scores of probabilities that are means over samples."""

import math
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from frofa.evaluation.intervals import Interval, mean_interval
from frofa.evaluation.labels import known_positions


@overload
def log_loss(
    y: npt.ArrayLike, probabilities: npt.ArrayLike, classes: npt.ArrayLike, confidence: None = None
) -> float: ...


@overload
def log_loss(y: npt.ArrayLike, probabilities: npt.ArrayLike, classes: npt.ArrayLike, confidence: float) -> Interval: ...


def log_loss(
    y: npt.ArrayLike, probabilities: npt.ArrayLike, classes: npt.ArrayLike, confidence: float | None = None
) -> float | Interval:
    """Mean negative logarithm of the probability that was given to the true class.

    Parameters
    ----------
    y : array-like of shape (n,)
        True labels, all among the classes.
    probabilities : array-like of shape (n, n_classes)
        Probability of each class, in the order of `classes`; bounded away from 0 by the resolution of float64.
    classes : array-like of shape (n_classes,)
        Labels that the model knows.
    confidence : float, default=None
        Confidence of an interval, between 0 and 1; None is the number alone.

    Returns
    -------
    float, or Interval
        In nats; 0 is best. The interval is Student's, over the samples, cut at 0, and for other images of the same
        kind: it says nothing of another draw of training images.

    Raises
    ------
    ValueError
        If a label is not among the classes, or `probabilities` has another shape or is not from 0 to 1.

    Examples
    --------
    >>> from frofa.evaluation import log_loss
    >>> round(log_loss(["a", "b"], [[0.9, 0.1], [0.5, 0.5]], ["a", "b"]), 4)
    0.3993
    """
    rows, table = checked_probabilities(y, probabilities, classes)
    tiny = np.finfo(np.float64).eps
    return _mean(-np.log(np.clip(table[np.arange(len(rows)), rows], tiny, 1)), confidence)


@overload
def brier_score(
    y: npt.ArrayLike, probabilities: npt.ArrayLike, classes: npt.ArrayLike, confidence: None = None
) -> float: ...


@overload
def brier_score(
    y: npt.ArrayLike, probabilities: npt.ArrayLike, classes: npt.ArrayLike, confidence: float
) -> Interval: ...


def brier_score(
    y: npt.ArrayLike, probabilities: npt.ArrayLike, classes: npt.ArrayLike, confidence: float | None = None
) -> float | Interval:
    """Mean squared distance of the probabilities of all classes from 1 for the true class and 0 for the others.

    Parameters
    ----------
    y, probabilities, classes, confidence
        As in `log_loss`.

    Returns
    -------
    float, or Interval
        From 0, which is best, to 2, for any number of classes: Brier's own, twice what is often given for two classes.
        The interval is Student's, cut to this range. Like the log-loss it has no bias, however few samples there are.

    Raises
    ------
    ValueError
        As of `log_loss`.

    References
    ----------
    Brier, Verification of forecasts expressed in terms of probability, Monthly Weather Review 1950.

    Examples
    --------
    >>> from frofa.evaluation import brier_score
    >>> round(brier_score(["a", "b"], [[0.9, 0.1], [0.5, 0.5]], ["a", "b"]), 4)
    0.26
    """
    rows, table = checked_probabilities(y, probabilities, classes)
    off = table.copy()
    off[np.arange(len(rows)), rows] -= 1
    return _mean((off**2).sum(1), confidence, 2.0)


def checked_probabilities(y: npt.ArrayLike, probabilities: npt.ArrayLike, classes: npt.ArrayLike) -> tuple[Any, Any]:
    """Positions of the true classes, and the probabilities in float64."""
    rows, table = known_positions(y, classes), np.asarray(probabilities, np.float64)
    shape = (len(rows), len(np.asarray(classes)))
    if table.shape != shape:
        raise ValueError(f"expected probabilities of shape {shape}, a row a label. Got shape {table.shape}.")
    if not (len(rows) and (table >= 0).all() and (table <= 1 + 1e-6).all()):
        raise ValueError("expected probabilities from 0 to 1, of one sample at least. Got others, NaN or none.")
    return rows, table


def check_confidence(confidence: float) -> None:
    """Raise a ValueError for what is no confidence of an interval."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1. Got {confidence}.")


def _mean(values: npt.NDArray[np.float64], confidence: float | None, most: float = math.inf) -> float | Interval:
    if confidence is None:
        return float(values.mean())
    check_confidence(confidence)
    mean, low, high = mean_interval(values, confidence)
    # Student's interval knows no bounds: of few samples, it goes below what any score can be.
    return Interval(mean, max(low, 0.0), min(high, most))
