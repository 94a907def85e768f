"""Model of label noise: how often each class is labelled as each other, and which labels are wrong.

A sample of the left-out probabilities p has the true class k with probability p[k], and class k is labelled j with
probability M[k, j]. M, and a temperature of p, are those under which the given labels are most likely. It is because
wrong labels are met with confidence, and hard images with none, that both can be told apart.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

Array = npt.NDArray[Any]
PRIOR_SAMPLES = 40.0
"""Samples of each class that M is believed to be uniform off its diagonal by. Of 20, 50 and 100, less found more of the
labels that were flipped to the most similar class, and more counted fewer of the right ones as wrong, on training
images of four sets by three backbones (``docs/results/confidence.md``)."""
PRIOR_WRONG, PRIOR_OF = 1.0, 20.0
"""Wrong labels that are believed to have been seen, and among how many."""
N_ITERATIONS = 30
N_TEMPERATURES, WIDEST = 7, 0.3
"""Inverse temperatures that are tried at every third iteration, and the logarithm of the farthest, relative to now."""
MOST_SAMPLES = 20_000
"""Samples that M is estimated from at most."""
LEAST = 1e-12


class Noise(NamedTuple):
    """Posterior (n, K) of the true class of samples, and the probabilities M (K, K) of labels of each class."""

    posterior: Array
    matrix: Array


def label_noise(proba: Array, codes: Array, weights: Array) -> Noise:
    """Estimate how labels go wrong.

    `proba` (n, K) are probabilities of samples by fits without them, `codes` (n,) their labels, and `weights` (n,) say
    how much each counts.
    """
    logs = np.log(np.maximum(proba, LEAST))
    # Every so many-th sample, as they may be sorted.
    some = slice(None, None, -(-len(codes) // MOST_SAMPLES))
    matrix, scale = _estimated(logs[some], codes[some], weights[some])
    return Noise(_posterior(logs, codes, matrix, scale), matrix)


def wrong_probability(noise: Noise, codes: Array) -> Array:
    """Return the probability (n,) that the true class of samples is another than their label."""
    return 1 - noise.posterior[np.arange(len(codes)), codes]


def bounded(wrong: Array) -> Array:
    """Take probabilities (n,) that labels are wrong to 1 - 1 / (n + 1) at most, in the same order.

    The model takes the probabilities of the fits at their word, and may be as sure as it likes. But that right labels
    are never met with such answers is known from n samples alone: as these are exchangeable, the next one is the
    strangest of all n + 1 with a probability of 1 / (n + 1) (rule of succession). What is beyond 1 / 2 is drawn in by
    one factor, so that no two samples change places, and none becomes or ceases to be a suspect. What is below stays: a
    bound there would count n / (n + 1) of a wrong label more where all are right.
    """
    # NaN, of which nothing is known, stays.
    n = int(np.isfinite(wrong).sum())
    return np.where(wrong > 1 / 2, 1 / 2 + (wrong - 1 / 2) * (n - 1) / (n + 1), wrong)


def _estimated(logs: Array, codes: Array, weights: Array) -> tuple[Array, float]:
    """Return M and the inverse temperature, by expectation maximisation."""
    n_classes = logs.shape[1]
    labels = np.eye(n_classes)[codes] * (weights * np.count_nonzero(weights) / weights.sum())[:, None]
    share, scale = PRIOR_WRONG / PRIOR_OF, 1.0
    matrix = _uniform(share, n_classes)
    for iteration in range(N_ITERATIONS):
        # Counts (true class, label) that are expected.
        counts = _posterior(logs, codes, matrix, scale).T @ labels
        share = (counts.sum() - np.trace(counts) + PRIOR_WRONG) / (counts.sum() + PRIOR_OF)
        matrix = counts + PRIOR_SAMPLES * _uniform(share, n_classes)
        matrix /= matrix.sum(1, keepdims=True)
        if iteration % 3 == 0:
            scale = _best_scale(logs, codes, weights, matrix, scale)
    return matrix, scale


def _uniform(share: float, n_classes: int) -> Array:
    """Return the M (K, K) of which a share of each class has any of the other labels."""
    matrix = np.full((n_classes, n_classes), share / (n_classes - 1))
    np.fill_diagonal(matrix, 1 - share)
    return matrix


def _best_scale(logs: Array, codes: Array, weights: Array, matrix: Array, scale: float) -> float:
    scales = scale * np.exp(np.linspace(-WIDEST, WIDEST, N_TEMPERATURES))
    likelihoods = [
        weights @ np.log(np.maximum((softmax(one * logs, axis=1) * matrix[:, codes].T).sum(1), LEAST)) for one in scales
    ]
    return float(scales[int(np.argmax(likelihoods))])


def _posterior(logs: Array, codes: Array, matrix: Array, scale: float) -> Array:
    """Return the probability (n, K) of true classes, given image and label."""
    joint = softmax(scale * logs, axis=1) * matrix[:, codes].T
    posterior: Array = joint / joint.sum(1, keepdims=True)
    return posterior
