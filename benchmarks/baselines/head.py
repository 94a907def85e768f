"""What all published heads here share."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


class Head(ABC):
    """A head on vectors (n, C) that scores classes: labels in and out as they are, all arithmetic in float64."""

    classes_: npt.NDArray[Any]

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Fit to features (n, C) and labels (n,)."""
        self.classes_, codes = np.unique(np.asarray(y), return_inverse=True)
        self._fit(np.asarray(X, np.float64), codes)
        return self

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[Any]:
        """Labels (n,) of the highest scores, of the first of equal ones."""
        chosen: npt.NDArray[Any] = self.classes_[self.decision_function(X).argmax(1)]
        return chosen

    def decision_function(self, X: npt.ArrayLike) -> Array:
        """Scores (n, n_classes)."""
        return self._scores(np.asarray(X, np.float64))

    @abstractmethod
    def _fit(self, X: Array, codes: Codes) -> None:
        """Fit to features (n, C) and class numbers (n,)."""

    @abstractmethod
    def _scores(self, X: Array) -> Array:
        """Scores (n, n_classes) of features (n, C)."""


def normalised(X: Array) -> Array:
    """Rows of length 1; rows of zeros stay."""
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    return X / np.where(lengths > 0, lengths, 1.0)


def class_means(X: Array, codes: Codes) -> Array:
    """Means (n_classes, C)."""
    return np.stack([X[codes == code].mean(0) for code in range(codes.max() + 1)])
