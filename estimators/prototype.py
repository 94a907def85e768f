"""Nearest class mean."""

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval

from frofa.estimators.batched.sharing import Shared, fit_sharing, once
from frofa.estimators.core.classifier import FeatureClassifier
from frofa.estimators.core.support import Array, Support

FAR = 1e150
"""Coordinate, on the first axis, of the prototype of a class without samples: its scores are finite, and least."""


class PrototypeClassifier(FeatureClassifier):
    """Nearest class mean, after centring and L2-normalisation: the baseline that few-shot gains often vanish against.

    Parameters
    ----------
    center : bool, default=True
        Subtract the mean of the training features.
    normalize : bool, default=True
        Scale each sample to length one, after centring.
    temperature : float, default=0.1
        Divides the scores, minus half the squared distances, before the softmax of `predict_proba`. It changes
        probabilities, never predictions.

    Attributes
    ----------
    prototypes_ : ndarray of shape (n_classes, C)
        Weighted mean of each class, after centring and normalisation. That of a class whose samples all have weight
        zero, as ensembles make them, is too far away for the class to be predicted, and its probability is zero.
    mean_ : ndarray of shape (C,)
        The mean that is subtracted; zero without centring.
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int

    References
    ----------
    Wang et al., "SimpleShot", 2019 (CL2N); Snell et al., "Prototypical networks", NeurIPS 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa.estimators import PrototypeClassifier
    >>> PrototypeClassifier().fit([[0.0, 1.0], [1.0, 0.0]], ["cat", "dog"]).predict([[0.1, 0.9]]).tolist()
    ['cat']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "center": ["boolean"],
        "normalize": ["boolean"],
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, *, center: bool = True, normalize: bool = True, temperature: float = 0.1):
        self.center = center
        self.normalize = normalize
        self.temperature = temperature

    def _fit(self, support: Support) -> None:
        self._fit_sharing(support, {})

    def _fit_sharing(self, support: Support, shared: Shared) -> None:
        """Take the means, or those of a fit on the same samples that normalises in the same way."""
        self.mean_, self.prototypes_ = once(shared, (self.center, self.normalize), lambda: self._means(support))

    _fit_many = staticmethod(fit_sharing)
    """Engine of `fit_many`: the data are checked once, and means taken once for all temperatures."""

    def _means(self, support: Support) -> tuple[Array, Array]:
        support = support.weighted()
        mean = np.average(support.features, axis=0, weights=support.weights)
        mean = mean if self.center else np.zeros_like(mean)
        # Weighted sums of each class, (n_classes, C), by one product with the weights (n, n_classes).
        membership = np.eye(len(self.classes_))[support.codes] * support.weights[:, None]
        totals = membership.sum(0)
        absent = totals == 0  # classes without weight
        sums = membership.T @ self._normalised(support.features, mean)
        prototypes = sums / np.where(absent, 1, totals)[:, None]
        prototypes[absent, 0] = FAR
        return mean, prototypes

    def _normalised(self, features: Array, mean: Array) -> Array:
        x: Array = features - mean
        if not self.normalize:
            return x
        length = np.linalg.norm(x, axis=1, keepdims=True)
        return x / np.where(length > 0, length, 1)

    def _scores(self, features: Array) -> Array:
        """Score by minus half the squared distance to each prototype, up to what all classes share."""
        scores: Array = self._normalised(features, self.mean_) @ self.prototypes_.T - 0.5 * (self.prototypes_**2).sum(1)
        return scores

    def _probability_scale(self) -> float:
        return 1 / self.temperature
