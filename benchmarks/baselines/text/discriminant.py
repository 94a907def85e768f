"""Gaussian discriminants beside the zero-shot scores.

Source: Wang et al., "A Hard-to-Beat Baseline for Training-Free CLIP-based Adaptation", ICLR 2024, arXiv 2402.04087,
equation 7: scale * f.t + alpha * (W f + b). The paper chooses alpha among seven powers of ten on a validation set; here
it is 1, their middle but one. `baselines.ShrunkDiscriminant` has W and b.
"""

from baselines.discriminant import ShrunkDiscriminant
from baselines.head import Array, Codes, normalised
from baselines.text.head import TextHead

ALPHA = 1.0


class ZeroShotDiscriminant(TextHead):
    """Zero-shot scores and those of discriminants with a shrunk covariance."""

    def _fit(self, X: Array, codes: Codes) -> None:
        self.discriminant_ = ShrunkDiscriminant().fit(X, codes)

    def _scores(self, X: Array) -> Array:
        return self.scale * self.cosines(normalised(X)) + ALPHA * self.discriminant_.decision_function(X)
