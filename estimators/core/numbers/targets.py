"""Checks of what users give to estimators of several outputs; errors name what was got and what was expected."""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_array
from torch import Tensor

from frofa.compute.arrays import as_features, check_magnitude
from frofa.estimators.core.support import Array
from frofa.estimators.core.validation import require_labels


def check_targets(y: Any, name: str) -> Array:
    """Check targets (n,) or (n, T), and return them in float64."""
    require_labels(y, name)
    y = as_features(y) if isinstance(y, Tensor) else y
    if np.asarray(y).dtype.kind in "USTMm" or _has_strings(y):
        raise ValueError(f"{name} predicts numbers. Got {np.asarray(y).dtype}: ShrinkageProbeClassifier takes labels.")
    targets: Array = check_array(y, ensure_2d=False, dtype=np.float64, estimator=name, input_name="y")
    if targets.ndim > 2 or (targets.ndim == 2 and not targets.shape[1]):
        raise ValueError(f"{name} expects y of shape (n,) or (n, n_outputs). Got {targets.shape}.")
    check_magnitude(targets, np.float64, name)
    return targets


def _has_strings(y: Any) -> bool:
    values = np.asarray(y)
    return values.dtype.kind == "O" and any(isinstance(value, str) for value in values.ravel()[:1])


def check_levels(given: Any, weights: npt.NDArray[np.float64], allow_infinite: bool) -> npt.NDArray[np.float64]:
    """Check confidence levels, and that samples of these weights (n,) are enough for bounds that are not infinite."""
    levels = np.atleast_1d(np.asarray(given, dtype=np.float64))
    if levels.ndim != 1 or not len(levels) or not ((levels > 0) & (levels < 1)).all():
        raise ValueError(f"confidence_level must be between 0 and 1, or a list of such numbers. Got {given!r}.")
    reached, n = weights.sum() / (weights.sum() + weights.mean()), len(weights)
    if not allow_infinite and (levels > reached + 1e-12).any():
        worst = float(levels.max())
        needed = int(np.ceil(1 / (1 - worst) - 1 - 1e-9))
        raise ValueError(
            f"an interval of {worst:g} needs {needed} samples of equal weight. Got {n}, which are enough for "
            f"{reached:.3g}: ask for less, or allow_infinite_bounds."
        )
    return levels
