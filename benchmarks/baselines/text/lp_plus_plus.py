"""LP++: a linear probe with one more weight a class, for the words.

Source: Huang et al., "LP++: A Surprisingly Strong Linear Probe for Few-Shot CLIP", CVPR 2024, arXiv 2404.02285, and
``methods/linear_probe_p2.py`` of FereshteShakeri/FewShot-CLIP-Strong-Baseline: scores are f.(w_k + alpha_k t_k). w_k
starts at the class means, alpha at 250 times the mean cosine of samples with their own words; steps of 4 N /
lambda_max(F'F), with a momentum of 0.9, and of N / (4 max_k sum_i (f_i.t_k)^2) for alpha, in every tenth of 300 passes.
The code takes the pass with the best accuracy on a validation set; this is the last. It has gradients of alpha pile up
from pass to pass; this is the paper's step.
"""

import numpy as np
from scipy.special import softmax

from baselines.head import Array, Codes, class_means, normalised
from baselines.text.head import TextHead

PASSES, EVERY, MOMENTUM, START = 300, 10, 0.9, 250.0


class BlendedProbe(TextHead):
    """A linear probe, and a weight of the words for each class."""

    def _fit(self, X: Array, codes: Codes) -> None:
        X = normalised(X)
        n, cosines, targets = len(X), self.cosines(X), np.eye(len(self.texts))[codes]
        weights, speed = class_means(X, codes), np.zeros_like(self.texts)
        alphas = np.full(len(self.texts), START * class_means(cosines, codes).diagonal().mean())
        step = 4 * n / np.linalg.norm(X, 2) ** 2
        text_step = n / (4 * np.square(cosines).sum(0).max())
        for each in range(1, PASSES + 1):
            residuals = (softmax(X @ weights.T + alphas * cosines, axis=1) - targets) / n
            speed = MOMENTUM * speed + residuals.T @ X
            weights = weights - step * speed
            if each % EVERY == 0:
                alphas = alphas - text_step * (residuals * cosines).sum(0)
        self.coef_ = weights + alphas[:, None] * self.texts

    def _scores(self, X: Array) -> Array:
        scores: Array = normalised(X) @ self.coef_.T
        return scores
