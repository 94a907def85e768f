"""SimpleShot: nearest class mean of centred, normalised features.

Source: Wang et al., "SimpleShot: Revisiting Nearest-Neighbor Classification for Few-Shot Learning", arXiv 1911.04623,
section 3, CL2N: x <- x - mean, x <- x / |x|, then the class whose mean is nearest. The paper's mean is that of the base
classes that its network was trained on; without them, it is that of the support samples.
"""

import numpy as np

from baselines.head import Array, Codes, Head, class_means, normalised


class NearestMean(Head):
    """Nearest class mean, CL2N."""

    def _fit(self, X: Array, codes: Codes) -> None:
        self.centre_ = X.mean(0)
        self.means_ = class_means(normalised(X - self.centre_), codes)

    def _scores(self, X: Array) -> Array:
        # Minus squared distances (n, n_classes), without the term that all classes of an image share.
        scores: Array = 2 * normalised(X - self.centre_) @ self.means_.T - np.square(self.means_).sum(1)
        return scores
