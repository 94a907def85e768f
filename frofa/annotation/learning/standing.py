"""Weights of labelled images: how many images each of them stands for.

Images that are labelled because they are hard are no sample of all: accuracy on them was twelve points too low after
200 labels of ten classes. Weighted by the number of images next to each (Loog, "Nearest neighbor-based importance
weighting", MLSP 2012), it was three points too low (``docs/results/labelling.md``).
"""

import numpy as np
import numpy.typing as npt
import torch

from frofa.annotation.learning.situation import Rows, Situation, with_all_classes
from frofa.compute.devices import resolve_device
from frofa.labelling.suggestions.pool import Pool

MOST_COUNTED = 2000
"""Images without a label that are counted; of more, so many at random."""


def stands_for(situation: Situation, labelled: Rows, random_state: int) -> npt.NDArray[np.float64]:
    """Number of images (l,) that each of some labelled rows (l,) stands for: itself, and those it is the nearest to."""
    others = np.flatnonzero(situation.open)
    counts = np.ones(len(labelled))
    if not len(others) or not len(labelled):
        return counts
    some = others
    if len(others) > MOST_COUNTED:
        some = np.sort(np.random.default_rng(random_state).permutation(others)[:MOST_COUNTED])
    on = resolve_device("auto")
    near = _nearest(Pool(situation.features(some), on), Pool(situation.features(labelled), on))
    counts += np.bincount(near, minlength=len(labelled)) * (len(others) / len(some))
    return counts


def _nearest(pool: Pool, labelled: Pool) -> Rows:
    """Position of the labelled sample (n,) that each of a pool is most like."""
    vectors = labelled.vectors(slice(None))
    parts = [(pool.vectors(part) @ vectors.T).argmax(1) for part in pool.parts()]
    near: Rows = torch.cat(parts).cpu().numpy().astype(np.intp)
    return near


def effective_number(weights: npt.NDArray[np.float64]) -> float:
    """Number of equally weighted samples whose mean is as certain as that of samples with these weights (n,)."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def like_all(weights: npt.NDArray[np.float64], y: npt.NDArray[np.str_], size: int, random_state: int) -> Rows:
    """Choose samples (s,) by weight, so that they are like all images, with two of each class that has two."""
    with np.errstate(divide="ignore"):
        keys = np.random.default_rng(random_state).exponential(size=len(weights)) / weights
    return with_all_classes(np.argsort(keys), y, size)
