"""Folds of samples, from which every class can still be learnt."""

from typing import Any

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.intp]


def assign_folds(codes: Indices, n_folds: int, random_state: np.random.RandomState) -> Indices:
    """Deal samples of each class to folds, in turn; shape (n,).

    Each class is in every training part: the only sample of a class gets the fold -1, and is never held out.
    """
    folds, first = np.full(len(codes), -1), 0
    for code in np.unique(codes):
        rows = random_state.permutation(np.flatnonzero(codes == code))
        if len(rows) > 1:
            # Classes start where the one before ended, so that folds are of about the same size.
            folds[rows] = (first + np.arange(len(rows))) % n_folds
            first += len(rows)
    return folds


def assign_weighted(
    codes: Indices, weights: npt.NDArray[Any], n_folds: int, random_state: np.random.RandomState
) -> Indices:
    """Deal samples as `assign_folds` does; those without weight get the fold -1, and change no other's."""
    used = np.flatnonzero(weights)
    folds = np.full(len(codes), -1)
    folds[used] = assign_folds(codes[used], n_folds, random_state)
    return folds
