"""Names of single classes that say nothing, as words that a tower does not know, told by the samples of each class."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax, logsumexp, softmax

from frofa.estimators.solvers.text.samples import Samples
from frofa.estimators.solvers.text.weighing import USUAL_WORDS, WORDS, WORDS_DEVIATION

Array = npt.NDArray[np.float64]
SHARES = np.array([0, 0.05, 0.1, 0.25, 0.5])
SHARES_PRIOR = np.array([0.6, 0.1, 0.1, 0.1, 0.1])
"""Shares of classes whose names may say nothing, and how likely these are before a sample is seen."""
DOUBTED = 0.8
"""Probability from which the name of a class counts as one that says nothing, in that part."""
MOST = 0.5
"""Share of the classes beyond which no name is doubted by itself: words as a whole are weighed in any case."""
LEAST_SAMPLES = 2
"""Samples of a class that are needed to doubt its name."""
ROUNDS = 2


class Doubt(NamedTuple):
    """Probabilities (K,) that names say nothing, zero of those that are not doubted; and the level of their scores.

    With the level in place of its own scores, a class is about as likely as any, whatever the image.
    """

    classes: Array
    level: float

    def apply(self, scores: Array) -> Array:
        """Bring scores (n, K) of doubted classes to the level."""
        found: Array = scores * (1 - self.classes) + self.level * self.classes
        return found


def doubt_names(words: Array, samples: Samples) -> Doubt | None:
    """Find names that say nothing by scores (n, K) of deviation one; None if none, or too many, are doubted.

    A name says something, and then samples of the class are as likely as scores have it, or nothing, and then as likely
    as by chance. Names that are doubted are doubted again with the scores of the others.
    """
    part = samples.some()
    words, codes = words[part], samples.codes[part]
    n_classes = words.shape[1]
    counts = np.bincount(codes, minlength=n_classes)
    found, level = np.zeros(n_classes), 0.0
    for _ in range(ROUNDS):
        shares, factor = _shares(words, found, codes, counts)
        found = np.maximum(found, shares)
    found = np.where((found > DOUBTED) & (counts >= LEAST_SAMPLES), found, 0)
    if not found.any() or found.mean() > MOST:
        return None
    level = float(_levels(words, found, factor).mean())
    return Doubt(found, level)


def _shares(
    words: Array, before: Array, codes: npt.NDArray[np.intp], counts: npt.NDArray[np.intp]
) -> tuple[Array, float]:
    """Probabilities (K,) that names say nothing, and the factor of the scores, averaged over factors and shares."""
    rows = np.arange(len(words))
    by_chance = np.log(np.maximum(SHARES, 1e-300))[:, None] - counts * np.log(len(counts))
    logs, doubts = [], []
    for factor in WORDS[1:]:
        scores = Doubt(before, float(_levels(words, before, factor).mean())).apply(words)
        own = np.bincount(codes, log_softmax(factor * scores, axis=1)[rows, codes], len(counts))
        said = np.log1p(-SHARES)[:, None] + own
        both = np.logaddexp(said, by_chance)  # (shares, K)
        usual = -0.5 * (np.log(factor / USUAL_WORDS) / WORDS_DEVIATION) ** 2
        logs.append(both.sum(1) + np.log(SHARES_PRIOR) + usual)
        doubts.append(np.exp(by_chance - both))
    weights = softmax(np.stack(logs))  # (factors, shares)
    return np.einsum("fs,fsk->k", weights, np.stack(doubts)), float(weights.sum(1) @ WORDS[1:])


def _levels(words: Array, doubted: Array, factor: float) -> Array:
    """Scores (n,) with which a class is as likely as those whose names are not doubted are on average."""
    weights = (1 - doubted) / (1 - doubted).sum()
    found: Array = logsumexp(factor * words, b=weights, axis=1) / factor
    return found
