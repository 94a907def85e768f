"""ProKeR: kernel ridge regression of what the zero-shot scores leave.

Source: Bendou et al., "ProKeR: A Kernel Perspective on Few-Shot Adaptation of Large Vision-Language Models", CVPR 2025,
arXiv 2501.11175, section 3.2, and ``trainers/proker.py`` of omarnust/BReg-Adapter: of cosines F and the kernel k(x, x')
= exp(-beta (1 - x.x')), scores are F(x) + k(x, X) (K / lambda + I)^-1 (Y - F(X)). Its setting without a validation set
carries (beta, lambda) over from ImageNet, by the number of shots.
"""

import numpy as np

from baselines.head import Array, Codes, normalised
from baselines.text.head import TextHead

PUBLISHED = {1: (3.0, 0.05), 2: (2.6, 0.05), 4: (1.5, 0.05), 8: (1.66, 0.07), 16: (1.7, 0.1)}
"""Beta and lambda by shots, of ResNet-50; for other numbers of shots, the nearest ratio decides."""


class ProximalKernelRidge(TextHead):
    """Kernel ridge regression around the words."""

    def _fit(self, X: Array, codes: Codes) -> None:
        self.samples_ = normalised(X)
        shots = len(codes) / len(self.texts)
        self.beta_, penalty = PUBLISHED[min(PUBLISHED, key=lambda each: abs(np.log(each / shots)))]
        residuals = np.eye(len(self.texts))[codes] - self.cosines(self.samples_)
        kernel = self._kernel(self.samples_)
        self.dual_ = np.linalg.solve(kernel / penalty + np.eye(len(kernel)), residuals)

    def _kernel(self, X: Array) -> Array:
        found: Array = np.exp(-self.beta_ * (1 - X @ self.samples_.T))
        return found

    def _scores(self, X: Array) -> Array:
        X = normalised(X)
        scores: Array = self.cosines(X) + self._kernel(X) @ self.dual_
        return scores
