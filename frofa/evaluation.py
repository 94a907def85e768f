"""Honest few-shot numbers: support samples, and means with intervals."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.utils import check_random_state


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
        """Half the interval's length: what stands after a plus-minus sign."""
        return (self.high - self.low) / 2

    def __format__(self, spec: str) -> str:
        mean = f"{self.mean:{spec or '.1f'}}"
        if not np.isfinite(self.half_width):
            return mean
        return f"{mean} ± {self.half_width:{(spec or '.1f').replace('+', '')}}"


def sample_shots(y: npt.ArrayLike, shots: int, random_state: Any = None) -> npt.NDArray[np.intp]:
    """Choose the same number of samples of every class.

    Parameters
    ----------
    y : array-like of shape (n,)
        Labels.
    shots : int
        Samples a class, at least 1.
    random_state : int, RandomState or None, default=None
        The same int gives nested samples: those of 5 shots are among those of 10.

    Returns
    -------
    ndarray of int, shape (shots * n_classes,)
        Positions in `y`, class by class.

    Raises
    ------
    ValueError
        If a class has fewer samples, or `shots` is less than 1.

    References
    ----------
    big_vision, ``evaluators/fewshot_lsr.py``: a seeded permutation a class, of which the first are taken.

    Examples
    --------
    >>> from frofa import sample_shots
    >>> labels = ["cat", "dog"] * 10
    >>> support = sample_shots(labels, shots=2, random_state=0)
    >>> sorted(labels[i] for i in support)
    ['cat', 'cat', 'dog', 'dog']
    """
    if shots < 1:
        raise ValueError(f"shots must be at least 1. Got {shots}.")
    labels = np.asarray(y)
    rng = check_random_state(random_state)
    chosen = []
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        if len(rows) < shots:
            raise ValueError(f"expected at least {shots} samples of every class. Got {len(rows)} of {label}.")
        chosen.append(rows[:shots])
    return np.concatenate(chosen)


def disjoint_shots(
    y: npt.ArrayLike, shots: int, n_samples: int, random_state: Any = None
) -> list[npt.NDArray[np.intp]]:
    """Choose several support samples that share no image.

    Parameters
    ----------
    y : array-like of shape (n,)
        Labels.
    shots : int
        Samples a class, in each support sample.
    n_samples : int
        Support samples.
    random_state : int, RandomState or None, default=None

    Returns
    -------
    list of ndarray of int, shape (shots * n_classes,)
        Positions in `y`, class by class.

    Raises
    ------
    ValueError
        If a class has fewer than ``shots * n_samples`` samples, or a number is less than 1.

    References
    ----------
    Bär et al., CVPR 2024, section 4: five disjoint samples of each shot set.

    Examples
    --------
    >>> from frofa import disjoint_shots
    >>> first, second = disjoint_shots(["cat", "dog"] * 10, shots=2, n_samples=2, random_state=0)
    >>> len(first), set(first) & set(second)
    (4, set())
    """
    if n_samples < 1:
        raise ValueError(f"n_samples must be at least 1. Got {n_samples}.")
    whole = sample_shots(y, shots * n_samples, random_state).reshape(-1, n_samples, shots)
    return [whole[:, i].ravel() for i in range(n_samples)]


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
