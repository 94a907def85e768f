"""What heads with words share, and the classifier that has words alone."""

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from baselines.head import Array, Codes, Head, normalised


class TextHead(Head):
    """A head on image vectors that lie in the space of words.

    Parameters
    ----------
    texts : array-like of shape (n_classes, C)
        Vectors of the class names, in the order of the sorted labels; their lengths do not matter.
    scale : float, default=100
        What multiplies cosines in the model's own scores: 1 / tau of the papers, whose CLIP has 100.
    """

    def __init__(self, texts: npt.ArrayLike, scale: float = 100.0) -> None:
        self.texts = normalised(np.asarray(texts, np.float64))
        self.scale = scale

    def cosines(self, X: Array) -> Array:
        """Cosines (n, n_classes) of normalised vectors (n, C) with the words."""
        found: Array = X @ self.texts.T
        return found

    def own_probabilities(self, X: Array, codes: Codes) -> Array:
        """Mean zero-shot probability (n_classes,) of each class on its own normalised samples."""
        own = softmax(self.scale * self.cosines(X), axis=1)[np.arange(len(X)), codes]
        found: Array = np.bincount(codes, own, len(self.texts)) / np.bincount(codes, minlength=len(self.texts))
        return found


class ZeroShot(TextHead):
    """The words alone; the samples of `fit` say which labels there are, and nothing else."""

    def _fit(self, X: Array, codes: Codes) -> None:
        pass

    def _scores(self, X: Array) -> Array:
        return self.scale * self.cosines(normalised(X))
