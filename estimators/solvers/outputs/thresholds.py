"""Thresholds of probabilities above which labels are predicted."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def f1_thresholds(probabilities: Array, weights: Array) -> Array:
    """Find thresholds (L,) that are best in expected F1, of calibrated probabilities (n, L) of weighted samples.

    The best is half of the F1 that it leads to (Lipton et al., "Optimal thresholding of classifiers to maximize F1
    measure", 2014). Only probabilities enter it, which is less noisy than counting labels that are right.
    """
    order = np.argsort(-probabilities, axis=0)
    ordered = np.take_along_axis(probabilities, order, 0)
    w = weights[order]
    # F1 of predicting the label of the first k samples, for each k: (n, L).
    gained, predicted, positive = (w * ordered).cumsum(0), w.cumsum(0), weights @ probabilities
    found: Array = (2 * gained / (predicted + positive)).max(0) / 2
    return found
