"""Weighted nearest neighbours of DINO.

Source: Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021, arXiv 2104.14294,
appendix F.1, and ``eval_knn.py`` of facebookresearch/dino: cosine similarities of normalised features, the k = 20
nearest vote for their classes with weights exp(similarity / 0.07). Fewer samples than 20 all vote.
"""

import numpy as np

from baselines.head import Array, Codes, Head, normalised

NEIGHBOURS = 20
TEMPERATURE = 0.07


class WeightedNeighbours(Head):
    """Votes of the 20 nearest samples."""

    def _fit(self, X: Array, codes: Codes) -> None:
        self.samples_, self.votes_ = normalised(X), np.eye(codes.max() + 1)[codes]

    def _scores(self, X: Array) -> Array:
        similar = normalised(X) @ self.samples_.T
        # All but the k highest of each row have no vote.
        k = min(NEIGHBOURS, similar.shape[1])
        least = np.partition(similar, -k, axis=1)[:, -k, None]
        scores: Array = np.where(similar >= least, np.exp(similar / TEMPERATURE), 0.0) @ self.votes_
        return scores
