"""Support samples of few shots."""

from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_random_state

from frofa.compute.arrays import as_labels


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
