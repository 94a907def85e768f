"""Temperature of scores by words, fitted to a few images."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from frofa.estimators.solvers.left_out import LeftOut
from frofa.estimators.solvers.shrinkage.temperature import SPREAD

Array = npt.NDArray[Any]
HELD = 0.5
"""Images that hold the temperature where it is expected. Half an image lost the least on average, and about the least
at worst: among training images of five sets, with names that the model knows and names that it does not, for scales
that are right and wrong by ten (``benchmarks/zero_shot.py --constants``)."""
REACH = 12.0
"""Logarithms of the scale to either side of what is expected, within which it is looked for."""
PRECISION, NOTHING = 1e-6, 1e-12
RATED = 2**22
"""Scores that a temperature is fitted to, at most: those of every so many images, where there are very many."""


def fit_temperature(scores: Array, seen: LeftOut) -> float:
    """Fit a temperature to scores (n, n_classes) of images, of which words know nothing.

    The likelihood is held halfway, in logarithms, between the model's own scale and the one that gives logits their
    usual spread: the first is right for names that the model knows, the second where its scale is not known.
    """
    some = np.arange(0, len(scores), -(-scores.size // RATED))
    scores, seen = scores[some], seen.rows(some)
    every = np.arange(len(scores))
    # Scores and offsets relative to the own class, (n, n_classes).
    relative = scores - scores[every, seen.codes][:, None]
    offsets = seen.offsets - seen.offsets[seen.codes][:, None]
    share = seen.importance / seen.importance.sum()
    spread = float(share @ scores.std(1))
    if spread <= NOTHING * max(float(np.abs(scores).max()), 1.0):  # scores that are all the same say nothing
        return 1.0
    centre = 0.5 * np.log(SPREAD / spread)

    def loss(logarithm: float) -> float:
        likelihood = share @ logsumexp(np.exp(logarithm) * relative + offsets, axis=1)
        return float(likelihood + HELD / seen.n_effective * (logarithm - centre) ** 2 / 2)

    bounds = centre - REACH, centre + REACH
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": PRECISION})
    return float(np.exp(-found.x))
