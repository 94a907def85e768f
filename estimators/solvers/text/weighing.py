"""Weights of words and of images, by the likelihood of samples that neither has seen."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_softmax, logsumexp

from frofa.estimators.solvers.text.samples import Samples

Array = npt.NDArray[np.float64]
WORDS = np.array([0, 0.25, 0.5, 0.75, 1, 1.4, 2, 2.8, 4, 5.6])
"""Factors of scores of words, once their deviation over the classes is one; 0 is that words say nothing."""
IMAGES = np.array([0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1, 1.4])
"""Factors of calibrated scores of images."""
SILENT = 0.6
"""Probability, before a sample is seen, that words say nothing."""
ALONE = 0.5
"""Power of what words alone say of it against chance: the same samples are asked again, with images beside."""
LEAST_SILENT = 0.02
"""Least probability of it, and of the opposite, by words alone, so that images beside can still change it."""
USUAL_WORDS, WORDS_DEVIATION = 1.5, 0.8
"""Usual factor of words that say something, and its deviation in logarithms."""
TURN, GROWTH, STEEPNESS = 1.0, 0.25, 3.0
"""The factor of words at which images usually count half, at one shot; the power of the shots that it grows by; and how
fast they count less beyond it."""
IMAGES_DEVIATION = 0.7
"""Deviation of the factor of images from what is usual, in logarithms."""
WRONG = np.array([0, 0.1, 0.25, 0.5])
WRONG_PRIOR = np.array([0.55, 0.25, 0.15, 0.05])
"""Shares of samples that scores may be altogether wrong of, as where names of some classes are; and how likely."""
DOUBTED, TRUSTED = 0.3, 0.7
"""Probabilities that words say something, up to which they do not count, and from which they count in full."""


class Weighed(NamedTuple):
    """Factors of words and of images, and the probability that words say something."""

    words: float
    images: float
    helps: float


def weigh_words(words: Array, images: Array, samples: Samples) -> Weighed:
    """Weigh scores (n, K) of words, of deviation one, and calibrated ones of images that samples were left out of.

    Each pair of factors has a prior, and the likelihood of the samples: that of both together for samples that can be
    left out, and of words alone for the others. The factors are averages by both. Whether words say anything is asked
    of them alone first: where images are right on the few samples, too, both together are hardly more likely.
    """
    part = samples.some()
    words, images, samples = words[part], images[part], samples.rows(part)
    known = samples.known
    silent = silence(words[known], samples.rows(known))
    logs = _log_prior(samples.shots, silent)[:, :, None] + np.log(WRONG_PRIOR)
    if known.any():
        logs = logs + np.stack([_likelihood(a * words[known], images[known], samples.rows(known)) for a in WORDS])
    if not known.all():
        alone = samples.rows(~known)
        nothing = np.zeros_like(words[~known])
        logs = logs + np.stack([_likelihood(a * words[~known], nothing, alone, IMAGES[:1]) for a in WORDS])
    shares = np.exp(logsumexp(logs, axis=2) - logsumexp(logs))  # (factors of words, factors of images)
    helps = float(1 - shares[0].sum())
    counted = float(np.clip((helps - DOUBTED) / (TRUSTED - DOUBTED), 0, 1))
    return Weighed(counted * float(shares.sum(1) @ WORDS), float(np.exp(shares.sum(0) @ np.log(IMAGES))), helps)


def silence(words: Array, samples: Samples) -> float:
    """Give the probability that words say nothing, by their scores (n, K) of samples alone, against chance."""
    nothing = np.zeros_like(words)
    logs = np.concatenate([_likelihood(a * words, nothing, samples, IMAGES[:1]) for a in WORDS])
    logs = logsumexp(logs + np.log(WRONG_PRIOR), axis=1)
    said = logsumexp(logs[1:] + _spoken()) - logs[0]
    return float(np.clip(expit(np.log(SILENT / (1 - SILENT)) - ALONE * said), LEAST_SILENT, 1 - LEAST_SILENT))


def usual_images(words: Array, shots: float) -> Array:
    """Give the usual factors of images beside factors of words, for so many samples a class."""
    found: Array = 1 / (1 + (words / (TURN * shots**GROWTH)) ** STEEPNESS)
    return found


def _log_prior(shots: float, silent: float) -> Array:
    """Logarithms (factors of words, factors of images) of what is expected, if words say nothing so likely."""
    of_words = np.append(np.log(silent), _spoken() + np.log1p(-silent))
    off = np.log(IMAGES / usual_images(WORDS, shots)[:, None]) / IMAGES_DEVIATION
    found: Array = of_words[:, None] + _normalised(-0.5 * off**2)
    return found


def _spoken() -> Array:
    """Logarithms of how usual factors of words are, of words that say something."""
    return _normalised(-0.5 * (np.log(WORDS[1:] / USUAL_WORDS) / WORDS_DEVIATION) ** 2)


def _normalised(logs: Array) -> Array:
    found: Array = logs - logsumexp(logs, axis=-1, keepdims=True)
    return found


def _likelihood(words: Array, images: Array, samples: Samples, factors: Array = IMAGES) -> Array:
    """Log-likelihoods (factors of images, shares that are wrong) of samples, by scores (n, K) of words and images."""
    rows = np.arange(len(words))
    n_classes = words.shape[1]
    found = np.empty((len(factors), len(WRONG)))
    for i, factor in enumerate(factors):
        own = log_softmax(words + factor * images + samples.offsets, axis=1)[rows, samples.codes]
        mixed = (1 - WRONG) * np.exp(own)[:, None] + WRONG / n_classes
        found[i] = samples.importance @ np.log(np.maximum(mixed, 1e-300))
    return found
