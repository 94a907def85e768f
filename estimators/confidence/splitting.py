"""Parts of the samples that classifiers are fitted without: halves, folds, or each sample by itself."""

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.intp]


def hold_out(codes: Indices, share: float, random_state: np.random.RandomState) -> npt.NDArray[np.bool_]:
    """Choose about this share of the samples of each class at random; (n,).

    Each sample is held out with this very probability, also the only one of a class: what is held out is to be as what
    comes later. What classes round off is by chance, and adds up to the share of all.
    """
    held, start = np.zeros(len(codes), bool), random_state.random_sample()
    done = 0
    for code in np.unique(codes):
        rows = random_state.permutation(np.flatnonzero(codes == code))
        first, done = done, done + len(rows)
        held[rows[: int(done * share + start) - int(first * share + start)]] = True
    return held


def one_by_one(codes: Indices) -> Indices:
    """Number the samples, each of which is a fold; the only one of a class gets -1, and is never left out."""
    alone = np.bincount(codes)[codes] < 2
    return np.where(alone, -1, np.cumsum(~alone) - 1)
