"""Promises of coverage that labels are too few for, refused in numbers."""

from typing import Any

import numpy as np
import numpy.typing as npt

from frofa.estimators.solvers.conformal.ranks import labels_needed

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]


def check_levels(given: Any) -> npt.NDArray[np.float64]:
    """Return confidence levels (n_levels,), one or several, each between 0 and 1."""
    try:
        levels = np.atleast_1d(np.asarray(given, dtype=np.float64))
    except (TypeError, ValueError):
        levels = np.empty(0)
    if levels.ndim != 1 or not len(levels) or not ((levels > 0) & (levels < 1)).all():
        raise ValueError(f"expected a confidence_level between 0 and 1, or a list of them. Got {given!r}.")
    return levels


def check_enough(codes: Indices, levels: Array, classes: Array, *, per_class: bool, split: bool) -> None:
    """Raise a ValueError where samples of these classes (n,) are too few for the highest of the levels."""
    level = float(levels.max())
    needed, held = labels_needed(level), " to calibrate with, which are not fitted to" if split else ""
    if not per_class and len(codes) < needed:
        raise ValueError(
            f"a confidence level of {level:g} needs at least {needed} labels{held}. Got {len(codes)}: label more "
            f"images, or ask for {_possible(len(codes))}."
        )
    counts = np.bincount(codes, minlength=len(classes))
    if per_class and counts.min() < needed:
        few = int(counts.argmin())
        raise ValueError(
            f"a confidence level of {level:g} for each class needs classes of at least {needed} labels{held}: "
            f"{classes.tolist()[few]!r} has {counts[few]}. Label more images of it, ask for {_possible(counts[few])}, "
            "or set per_class=False."
        )


def _possible(n: int) -> str:
    """Say which level this many samples allow for."""
    return f"{np.floor(1000 * n / (n + 1)) / 1000:g} at most" if n else "no level at all"


def check_full(head: Any, closed: Any, weights: Array | None) -> None:
    """Raise a ValueError where a fitted head has no closed form, or its samples (n,) do not count the same."""
    if closed is None:
        raise ValueError(
            "method='full' fits anew for every label that an image may have, which needs a closed form: "
            "RidgeProbeClassifier, PrototypeClassifier, ShrinkageProbeClassifier, all without augment and prior, or "
            f"FewShotClassifier with effort='fast'. Got {head!r}: take method='jackknife+' or 'cv+'."
        )
    if weights is not None and len(np.unique(weights)) > 1:
        raise ValueError("method='full' needs samples that count the same. Got a sample_weight of several values.")
