"""Means and shares with intervals."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats


class Interval(NamedTuple):
    """A mean with the two ends of its confidence interval.

    Attributes
    ----------
    mean, low, high : float
    """

    mean: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the interval's length, which stands after a plus-minus sign."""
        return (self.high - self.low) / 2

    def __format__(self, spec: str) -> str:
        # A plus sign is for the mean alone; one value has no interval to show.
        mean = f"{self.mean:{spec or '.1f'}}"
        if not np.isfinite(self.half_width):
            return mean
        return f"{mean} ± {self.half_width:{(spec or '.1f').replace('+', '')}}"


def mean_interval(values: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Mean and Student-t confidence interval over seeds.

    Parameters
    ----------
    values : array-like of shape (n,)
        One value a seed; for a paired comparison, the differences. One value alone has an infinite interval.
    confidence : float, default=0.95

    Returns
    -------
    Interval

    Examples
    --------
    >>> from frofa import mean_interval
    >>> interval = mean_interval([50.0, 52.0, 54.0])
    >>> f"{interval:.1f}"
    '52.0 ± 5.0'
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"expected one value a seed, at least one. Got an array of shape {array.shape}.")
    mean = float(array.mean())
    if len(array) < 2:
        return Interval(mean, -np.inf, np.inf)
    half = float(stats.sem(array) * stats.t.ppf((1 + confidence) / 2, len(array) - 1))
    return Interval(mean, mean - half, mean + half)


def proportion_interval(n_hits: float, n: int, confidence: float = 0.95) -> Interval:
    """Share of hits, such as an accuracy, with Wilson's score interval.

    Parameters
    ----------
    n_hits : float
        A sum of shares, where some samples count in part.
    n : int
        Of how many, at least 1.
    confidence : float, default=0.95

    Returns
    -------
    Interval
        From 0 to 1; not symmetric about its mean, and never empty, even where all or none are hits.

    Raises
    ------
    ValueError
        If `n` is less than 1, or `n_hits` is not from 0 to `n`.

    References
    ----------
    Wilson, Probable inference, the law of succession, and statistical inference, JASA 1927.

    Examples
    --------
    >>> from frofa.evaluation import proportion_interval
    >>> mean, low, high = proportion_interval(9, 10)
    >>> f"{mean:.2f}, from {low:.2f} to {high:.2f}"
    '0.90, from 0.60 to 0.98'
    """
    if n < 1 or not 0 <= n_hits <= n:
        raise ValueError(f"expected at least one sample, and hits among them. Got {n_hits} hits of {n}.")
    # The ends are the shares p at which |share - p| is z standard errors, sqrt(p (1 - p) / n).
    z = float(stats.norm.ppf((1 + confidence) / 2))
    share = n_hits / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    # Rounding would leave a share of 0 or 1 just outside of its own interval.
    low = 0.0 if n_hits == 0 else max(0.0, centre - half)
    return Interval(share, low, 1.0 if n_hits == n else min(1.0, centre + half))


def paired_interval(first: npt.ArrayLike, second: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Difference of two shares of hits on the same samples, such as accuracies, with an adjusted Wald interval.

    Samples on which both hit, or neither does, say little of the difference, and so the interval is narrower than those
    of the two shares.

    Parameters
    ----------
    first, second : array-like of bool, shape (n,)
        Whether each sample is a hit.
    confidence : float, default=0.95

    Returns
    -------
    Interval
        The second share less the first, from -1 to 1; never empty, even where both hit the same samples.

    Raises
    ------
    ValueError
        If there is no sample, or not the same number of both.

    References
    ----------
    Bonett and Price, Adjusted Wald confidence interval for a difference of binomial proportions based on paired data,
    Journal of Educational and Behavioral Statistics 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa.evaluation import paired_interval
    >>> first = np.arange(100) < 80
    >>> mean, low, high = paired_interval(first, first | (np.arange(100) >= 95))
    >>> f"{mean:.2f}, from {low:.2f} to {high:.2f}"
    '0.05, from -0.00 to 0.10'
    """
    one, other = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if one.ndim != 1 or one.shape != other.shape or not len(one):
        raise ValueError(f"expected hits of the same samples, at least one. Got shapes {one.shape} and {other.shape}.")
    n, gained, lost = len(one), int((other & ~one).sum()), int((one & ~other).sum())
    # One more sample of each kind, gained and lost, before the usual formula.
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = float(stats.norm.ppf((1 + confidence) / 2) * np.sqrt((up + down - (up - down) ** 2) / (n + 2)))
    return Interval((gained - lost) / n, max(-1.0, up - down - half), min(1.0, up - down + half))
