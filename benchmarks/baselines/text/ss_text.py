"""SS-Text: class means that start from the words, in one pass.

Source: Silva-Rodriguez et al., "Few-Shot, Now for Real: Medical VLMs Adaptation without Balanced Sets or Validation",
arXiv 2506.17500, and ``solvers/sstext.py`` of jusiro/SS-Text: w_k = t_k + 1 / (N lambda_k tau) * (sum of the samples of
class k), with lambda_k = 1 / n_k, 1e-3 at least; scores are cosines with w_k.
"""

import numpy as np

from baselines.head import Array, Codes, normalised
from baselines.text.head import TextHead

LEAST = 1e-3


class TextCentredMean(TextHead):
    """Cosines with words that class sums are added to."""

    def _fit(self, X: Array, codes: Codes) -> None:
        members = np.eye(len(self.texts))[codes]
        penalties = np.maximum(1 / members.sum(0), LEAST)
        sums = members.T @ normalised(X)
        self.weights_ = normalised(self.texts + self.scale * sums / (len(X) * penalties[:, None]))

    def _scores(self, X: Array) -> Array:
        scores: Array = self.scale * normalised(X) @ self.weights_.T
        return scores
