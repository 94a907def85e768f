"""CLAP, and the two probes without a validation set that it is compared with.

Source: Silva-Rodriguez et al., "A Closer Look at the Few-Shot Adaptation of Large Vision-Language Models", CVPR 2024,
arXiv 2312.12730, section 4, and ``trainers/adapters.py`` of jusiro/CLAP: a cosine classifier that starts from the words
t_k, and is trained by cross-entropy plus mean_k lambda_k |w_k - t_k|^2, where lambda_k is the mean zero-shot
probability of class k on its own samples. SGD with a momentum of 0.9, a decay of 5e-4 and a rate of 0.1 that falls by a
cosine, after a first epoch of 1e-5, for 300 epochs of as many batches of 256 as there are among the images, drawn from
all of their views. Words have length one here.

`TextStartedProbe` is the same without the constraint (ZS-LP), and `CrossModalProbe` without it, but with words as
samples: Lin et al., "Multimodality Helps Unimodality", CVPR 2023, arXiv 2301.06267, as CLAP's authors train it, half of
all samples being words.
"""

from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from baselines.head import Array, Codes, normalised
from baselines.text.head import TextHead

EPOCHS, BATCH, RATE, FIRST_RATE, MOMENTUM, DECAY = 300, 256, 0.1, 1e-5, 0.9, 5e-4


class TextStartedProbe(TextHead):
    """A cosine classifier trained from the words on.

    Parameters
    ----------
    n_views : int, default=1
        Samples that are views of one image; an epoch is as long as if there were one of each.
    seed : int, default=0
        Shuffles the batches.
    """

    constrained: ClassVar[bool] = False

    def __init__(self, texts: npt.ArrayLike, scale: float = 100.0, n_views: int = 1, seed: int = 0) -> None:
        super().__init__(texts, scale)
        self.n_views = n_views
        self.seed = seed

    def _fit(self, X: Array, codes: Codes) -> None:
        rng = np.random.default_rng(self.seed)
        X = normalised(X)
        self.penalties_ = self.own_probabilities(X, codes) if self.constrained else np.zeros(len(self.texts))
        n_batches = max(1, len(X) // self.n_views // BATCH)
        X, codes = self._samples(X, codes, rng)
        weights, speed = self.texts.copy(), np.zeros_like(self.texts)
        for epoch in range(EPOCHS):
            rate = 0.5 * RATE * (1 + np.cos(np.pi * epoch / EPOCHS)) if epoch else FIRST_RATE
            for batch in np.split(rng.permutation(len(X))[: n_batches * BATCH], range(BATCH, n_batches * BATCH, BATCH)):
                _, slopes = self.loss(weights, X[batch], codes[batch])
                speed = MOMENTUM * speed + slopes + DECAY * weights
                weights = weights - rate * speed
        self.weights_ = normalised(weights)

    def _samples(self, X: Array, codes: Codes, rng: np.random.Generator) -> tuple[Array, Codes]:  # noqa: ARG002
        """Give the samples of all epochs."""
        return X, codes

    def loss(self, weights: Array, X: Array, codes: Codes) -> tuple[float, Array]:
        """Compute the loss of weights (n_classes, C) on normalised samples, and its gradient (n_classes, C)."""
        directions, own = normalised(weights), (np.arange(len(X)), codes)
        probabilities = softmax(self.scale * X @ directions.T, axis=1)
        loss = -np.log(np.maximum(probabilities[own], 1e-300)).mean()
        probabilities[own] -= 1
        slopes = self.scale * probabilities.T @ X / len(X)
        # Of a direction w / |w|, only what is across it changes with w.
        across = slopes - (slopes * directions).sum(1, keepdims=True) * directions
        moved, penalties = weights - self.texts, self.penalties_[:, None] / len(self.texts)
        gradient: Array = across / np.linalg.norm(weights, axis=1, keepdims=True) + 2 * penalties * moved
        return float(loss + (penalties * np.square(moved)).sum()), gradient

    def _scores(self, X: Array) -> Array:
        scores: Array = self.scale * normalised(X) @ self.weights_.T
        return scores


class ConstrainedProbe(TextStartedProbe):
    """CLAP: the probe is held at the words of each class as firmly as these are right."""

    constrained: ClassVar[bool] = True


class CrossModalProbe(TextStartedProbe):
    """Words are samples, too, as many as there are views of images."""

    def _samples(self, X: Array, codes: Codes, rng: np.random.Generator) -> tuple[Array, Codes]:
        words = rng.integers(len(self.texts), size=len(X))
        return np.concatenate([X, self.texts[words]]), np.concatenate([codes, words])
