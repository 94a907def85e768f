"""Honest few-shot numbers: support samples, means and shares with intervals, and scores of predictions."""

from numbers import Integral
from typing import Any, NamedTuple
from unicodedata import normalize

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.utils import check_random_state

from frofa.compute.arrays import as_labels


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
        If a class has fewer samples, `shots` is less than 1, a label is missing, or labels are of several kinds.
    TypeError
        If `shots` is no whole number.

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
    if not isinstance(shots, Integral) or isinstance(shots, bool):
        raise TypeError(f"shots must be a whole number, at least 1. Got {shots!r}.")
    if shots < 1:
        raise ValueError(f"shots must be at least 1. Got {shots}.")
    labels = as_labels(y)
    if labels.ndim != 1 or not len(labels):
        raise ValueError(f"expected labels of shape (n,), one at least. Got shape {labels.shape}.")
    # Whole classes are shuffled, however few are taken: more shots take more of the same permutations.
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
    # Axes (class, sample, shot): each class's permutation is cut into the samples, one after another.
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


def proportion_interval(n_hits: int, n: int, confidence: float = 0.95) -> Interval:
    """Share of hits, such as an accuracy, with Wilson's score interval.

    Parameters
    ----------
    n_hits : int
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


def label_positions(labels: npt.ArrayLike, classes: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Position of each label among the classes, whether both are strings or numbers.

    Parameters
    ----------
    labels : array-like of shape (n,)
    classes : array-like of shape (n_classes,)
        Labels that a model knows, in its order.

    Returns
    -------
    ndarray of int, shape (n,)
        Positions in `classes`; -1 for labels that are not there. ``3`` and ``"3"`` are the same label, and so are
        spellings of one name in different Unicode normalisations, unless both are classes.

    Examples
    --------
    >>> from frofa.evaluation import label_positions
    >>> label_positions(["rose", "tulip", "daisy"], ["daisy", "rose"])
    array([ 1, -1,  0])
    """
    names = [str(label) for label in np.asarray(classes).tolist()]
    known = {normalize("NFC", name): position for position, name in enumerate(names)}
    # A class that is spelled exactly so goes before one that is equal only when normalised.
    known |= {name: position for position, name in enumerate(names)}
    given = [str(label) for label in np.asarray(labels).tolist()]
    return np.array([known.get(name, known.get(normalize("NFC", name), -1)) for name in given], np.intp)


def confusion_matrix(y: npt.ArrayLike, predicted: npt.ArrayLike, classes: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Count how often each class was taken for each.

    Parameters
    ----------
    y, predicted : array-like of shape (n,)
        True and predicted labels, all among the classes.
    classes : array-like of shape (n_classes,)

    Returns
    -------
    ndarray of int, shape (n_classes, n_classes)
        A row for each true class, a column for each predicted one.

    Raises
    ------
    ValueError
        If a label is not among the classes, or the numbers of labels differ.

    Examples
    --------
    >>> from frofa.evaluation import confusion_matrix
    >>> confusion_matrix(["a", "a", "b"], ["a", "b", "b"], ["a", "b"])
    array([[1, 1],
           [0, 1]])
    """
    rows, columns = _known_positions(y, classes), _known_positions(predicted, classes)
    if len(rows) != len(columns):
        raise ValueError(f"expected one prediction a label. Got {len(rows)} labels and {len(columns)} predictions.")
    matrix = np.zeros((len(np.asarray(classes)),) * 2, np.intp)
    # A pair (true, predicted) counts as often as it comes: `matrix[rows, columns] += 1` would count it once.
    np.add.at(matrix, (rows, columns), 1)
    return matrix


def log_loss(y: npt.ArrayLike, probabilities: npt.ArrayLike, classes: npt.ArrayLike) -> float:
    """Mean negative logarithm of the probability that was given to the true class.

    Parameters
    ----------
    y : array-like of shape (n,)
        True labels, all among the classes.
    probabilities : array-like of shape (n, n_classes)
        Probability of each class, in the order of `classes`; bounded away from 0 by the resolution of float64.
    classes : array-like of shape (n_classes,)
        Labels that the model knows.

    Returns
    -------
    float
        In nats; 0 is best.

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
    rows, table = _checked(y, probabilities, classes)
    tiny = np.finfo(np.float64).eps
    return float(-np.log(np.clip(table[np.arange(len(rows)), rows], tiny, 1)).mean())


def calibration_error(
    y: npt.ArrayLike, probabilities: npt.ArrayLike, classes: npt.ArrayLike, n_bins: int = 15
) -> float:
    """Expected calibration error: how far the probability of the predicted class is from how often it is right.

    Parameters
    ----------
    y, probabilities, classes
        As in `log_loss`.
    n_bins : int, default=15
        Bins of equal width from 0 to 1 that the probabilities are sorted into; each holds its upper end.

    Returns
    -------
    float
        From 0, which is best, to 1: the mean distance over the bins, weighted by their samples.

    Raises
    ------
    ValueError
        As of `log_loss`, or if `n_bins` is less than 1.

    References
    ----------
    Guo et al., On calibration of modern neural networks, ICML 2017, section 2.

    Examples
    --------
    >>> from frofa.evaluation import calibration_error
    >>> round(calibration_error(["a", "a"], [[0.8, 0.2], [0.2, 0.8]], ["a", "b"]), 4)
    0.3
    """
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1. Got {n_bins}.")
    rows, table = _checked(y, probabilities, classes)
    confidence, right = table.max(1), table.argmax(1) == rows
    # Bins (low, high] by their inner edges, so that 0 falls into the first and 1 into the last.
    bins = np.digitize(confidence, np.linspace(0, 1, n_bins + 1)[1:-1], right=True)
    # Sum of (right - confidence) in each bin: the gap between accuracy and confidence, times the bin's samples.
    gaps = np.bincount(bins, right - confidence, n_bins)
    return float(np.abs(gaps).sum() / len(rows))


def _checked(y: npt.ArrayLike, probabilities: npt.ArrayLike, classes: npt.ArrayLike) -> tuple[Any, Any]:
    """Positions of the true classes, and the probabilities in float64."""
    rows, table = _known_positions(y, classes), np.asarray(probabilities, np.float64)
    shape = (len(rows), len(np.asarray(classes)))
    if table.shape != shape:
        raise ValueError(f"expected probabilities of shape {shape}, a row a label. Got shape {table.shape}.")
    if not (len(rows) and (table >= 0).all() and (table <= 1 + 1e-6).all()):
        raise ValueError("expected probabilities from 0 to 1, of one sample at least. Got others, NaN or none.")
    return rows, table


def _known_positions(labels: npt.ArrayLike, classes: npt.ArrayLike) -> npt.NDArray[np.intp]:
    positions = label_positions(labels, classes)
    if (positions < 0).any():
        unknown = np.asarray(labels)[positions < 0][0]
        raise ValueError(f"expected labels among the classes. Got {unknown}.")
    return positions
