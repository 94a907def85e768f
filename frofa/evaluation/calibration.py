"""Calibration of probabilities: how far they are from how often they come true."""

from typing import Any, Literal, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from frofa.evaluation.intervals import Interval, proportion_interval
from frofa.evaluation.labels import label_positions
from frofa.evaluation.probabilities import check_confidence, checked_probabilities

Array = npt.NDArray[np.float64]
Kind = Literal["top", "class-wise"]
DRAWS = 1000
"""Samples of the bootstrap."""


class Reliability(NamedTuple):
    """Bins of probabilities, with how often they came true; empty bins are NaN, but for their counts.

    Attributes
    ----------
    edges : ndarray of shape (n_bins + 1,)
        Ends of the bins, each of which holds its upper end.
    counts : ndarray of int, shape (n_bins,)
        Samples in each bin.
    confidence : ndarray of shape (n_bins,)
        Mean probability.
    accuracy : ndarray of shape (n_bins,)
        Share that came true.
    low, high : ndarray of shape (n_bins,)
        Ends of Wilson's interval of that share.
    """

    edges: Array
    counts: npt.NDArray[np.intp]
    confidence: Array
    accuracy: Array
    low: Array
    high: Array

    def to_dict(self) -> dict[str, list[float | None]]:
        """Give the bins as JSON can hold them, None for NaN."""
        fields = {name: getattr(self, name).tolist() for name in self._fields}
        return {name: [None if value != value else value for value in values] for name, values in fields.items()}


def reliability(
    y: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    classes: npt.ArrayLike,
    n_bins: int = 15,
    *,
    label: Any = None,
    confidence: float = 0.95,
) -> Reliability:
    """Sort predictions into bins of their probability, and count in each how many are right.

    Parameters
    ----------
    y, probabilities, classes, n_bins
        As in `calibration_error`.
    label : str or int, default=None
        A class, whose probability is looked at, and how often it was the true one; None looks at the predicted class.
    confidence : float, default=0.95
        Confidence of Wilson's intervals, bin by bin.

    Returns
    -------
    Reliability

    Raises
    ------
    ValueError
        As of `calibration_error`, or if `label` is none of the classes.

    Examples
    --------
    >>> from frofa.evaluation import reliability
    >>> bins = reliability(["a", "a", "b"], [[0.9, 0.1], [0.3, 0.7], [0.2, 0.8]], ["a", "b"], n_bins=2)
    >>> bins.counts.tolist(), bins.confidence.round(2).tolist(), bins.accuracy.round(2).tolist()
    ([0, 3], [nan, 0.8], [nan, 0.67])
    """
    check_confidence(confidence)
    _check_bins(n_bins)
    rows, table = checked_probabilities(y, probabilities, classes)
    if label is None:
        given, true = table.max(1), table.argmax(1) == rows
    else:
        [position] = label_positions([label], classes)
        if position < 0:
            raise ValueError(f"label must be one of the classes. Got {label!r}.")
        given, true = table[:, position], rows == position
    bins = _bins(given, n_bins)
    counts, hits = np.bincount(bins, minlength=n_bins), np.bincount(bins, true, n_bins)
    ends = np.full((3, n_bins), np.nan)
    for i in np.flatnonzero(counts):
        ends[:, i] = proportion_interval(int(hits[i]), int(counts[i]), confidence)
    means = np.bincount(bins, given, n_bins) / np.where(counts > 0, counts, np.nan)
    return Reliability(np.linspace(0, 1, n_bins + 1), counts, means, *ends)


@overload
def calibration_error(
    y: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    classes: npt.ArrayLike,
    n_bins: int = 15,
    *,
    kind: Kind = "top",
    confidence: None = None,
    random_state: int = 0,
) -> float: ...


@overload
def calibration_error(
    y: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    classes: npt.ArrayLike,
    n_bins: int = 15,
    *,
    kind: Kind = "top",
    confidence: float,
    random_state: int = 0,
) -> Interval: ...


def calibration_error(
    y: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    classes: npt.ArrayLike,
    n_bins: int = 15,
    *,
    kind: Kind = "top",
    confidence: float | None = None,
    random_state: int = 0,
) -> float | Interval:
    """Expected calibration error: how far probabilities are from how often they come true.

    Parameters
    ----------
    y, probabilities, classes
        As in `log_loss`.
    n_bins : int, default=15
        Bins of equal width from 0 to 1 that the probabilities are sorted into; each holds its upper end.
    kind : {"top", "class-wise"}, default="top"
        Probability of the predicted class, and how often it is right; or of each class, and how often it is the true
        one, of which the mean over the classes is taken.
    confidence : float, default=None
        Confidence of an interval, between 0 and 1; None is the number alone.
    random_state : int, default=0
        Seed of the bootstrap.

    Returns
    -------
    float, or Interval
        From 0, which is best, to 1: the mean distance over the bins, weighted by their samples. The interval is a basic
        bootstrap over the samples, 1,000 draws.

    Raises
    ------
    ValueError
        As of `log_loss`, or if `n_bins` is less than 1 or `kind` none of the two.

    Notes
    -----
    Errors of few samples are too large: even perfect probabilities have the error `calibration_floor`, 3 % of 600
    images. The basic bootstrap takes about that much off, so that its interval may lie below the number.

    References
    ----------
    Guo et al., On calibration of modern neural networks, ICML 2017, section 2; class-wise: Kull et al., Beyond
    temperature scaling, NeurIPS 2019.

    Examples
    --------
    >>> from frofa.evaluation import calibration_error
    >>> round(calibration_error(["a", "a"], [[0.8, 0.2], [0.2, 0.8]], ["a", "b"]), 4)
    0.3
    """
    rows, table = checked_probabilities(y, probabilities, classes)
    values, keys, n_keys = _gaps(rows, table, n_bins, kind)
    n = len(rows)

    def error(counts: Array) -> float:
        # Sum of (right - probability) in each bin, its samples times the gap; class-wise, for each class.
        sums = np.bincount(keys.ravel(), (values * counts[:, None]).ravel(), n_keys)
        return float(np.abs(sums).sum() / (n * values.shape[1]))

    found = error(np.ones(n))
    if confidence is None:
        return found
    check_confidence(confidence)
    rng = np.random.default_rng(random_state)
    drawn = [error(rng.multinomial(n, np.full(n, 1 / n)).astype(np.float64)) for _ in range(DRAWS)]
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    # The draws are off from what was found as that is from the truth.
    return Interval(found, max(0.0, 2 * found - float(high)), max(0.0, 2 * found - float(low)))


def calibration_floor(probabilities: npt.ArrayLike, n_bins: int = 15, *, kind: Kind = "top") -> float:
    """Calibration error that perfect probabilities would have by chance, as there are so few samples.

    Parameters
    ----------
    probabilities : array-like of shape (n, n_classes)
    n_bins, kind
        As in `calibration_error`.

    Returns
    -------
    float
        Its expectation, were labels drawn from the probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa.evaluation import calibration_floor
    >>> round(calibration_floor(np.full((100, 2), 0.5)), 3)
    0.04
    """
    table = np.asarray(probabilities, np.float64)
    if table.ndim != 2 or not len(table):
        raise ValueError(f"expected probabilities of shape (n, n_classes), one row at least. Got shape {table.shape}.")
    _, keys, n_keys = _gaps(np.zeros(len(table), np.intp), table, n_bins, kind)
    given = table.max(1, keepdims=True) if kind == "top" else table
    # The sum of a bin is off by chance as of a normal distribution: E|z| = sqrt(2 / pi).
    variances = np.bincount(keys.ravel(), (given * (1 - given)).ravel(), n_keys)
    return float(np.sqrt(np.maximum(variances, 0) * 2 / np.pi).sum() / given.size)


def _gaps(rows: npt.NDArray[np.intp], table: Array, n_bins: int, kind: Kind) -> tuple[Array, npt.NDArray[np.intp], int]:
    """Give the gap (n, m) of each probability, 1 or 0 less itself, and its bin, those of m classes numbered on."""
    _check_bins(n_bins)
    if kind == "top":
        given = table.max(1, keepdims=True)
        values = (table.argmax(1) == rows)[:, None] - given
    elif kind == "class-wise":
        given = table
        values = (np.arange(table.shape[1]) == rows[:, None]) - table
    else:
        raise ValueError(f"kind must be 'top' or 'class-wise'. Got {kind!r}.")
    keys = _bins(given, n_bins) + n_bins * np.arange(given.shape[1])
    return values, keys, n_bins * given.shape[1]


def _bins(given: Array, n_bins: int) -> npt.NDArray[np.intp]:
    """Sort probabilities into bins (low, high], 0 into the first and 1 into the last."""
    return np.digitize(given, np.linspace(0, 1, n_bins + 1)[1:-1], right=True)


def _check_bins(n_bins: int) -> None:
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1. Got {n_bins}.")
