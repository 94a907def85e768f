"""Nearest class mean."""

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval

from frofa.estimators.batched.sharing import Shared, fit_sharing, once
from frofa.estimators.core.classifier import FeatureClassifier
from frofa.estimators.core.confident.parameters import CONFIDENCE, Calibrate, ClassPrior, Novelty
from frofa.estimators.core.support import Array, Support
from frofa.estimators.solvers.left_out import log_frequencies
from frofa.estimators.solvers.shrinkage.temperature import LOST

FAR = 1e100
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
        Divides the scores, minus half the squared distances, before the softmax of `predict_proba`, where `calibrate`
        is False. It changes probabilities, never predictions.
    calibrate : bool, "temperature" or "vector", default=True
        Fit probabilities to samples that were left out: by a temperature, or a scale and an offset of each class where
        these are worth more on samples that they were not fitted to. A name forces the one or the other; False leaves
        scores as they are.
    class_prior : "uniform", "empirical", array-like of shape (n_classes,) or dict, default=None
        Probability of each class before an image is seen, as in `ShrinkageProbeClassifier`; None is what the head has
        learnt, equal ones.
    reject : float, default=None
        Share, between 0 and 1, of known images that `predict` may reject as none of the classes; None rejects none.
    reject_label : object, default=None
        What `predict` calls rejected images; None is -1 for classes that are numbers, and "none of these" otherwise.
    novelty : {"auto", "mahalanobis", "relative", "knn", "energy"} or None, default="auto"
        How `novelty_score` tells images of other classes, as in `NoveltyDetector`, or by the energy of logits, which
        costs heads without leave-one-out five more fits. None keeps nothing of the training images.

    Attributes
    ----------
    prototypes_ : ndarray of shape (n_classes, C)
        Weighted mean of each class, after centring and normalisation. That of a class whose samples all have weight
        zero, as ensembles make them, is too far away for the class to be predicted, and its probability is zero.
    mean_ : ndarray of shape (C,)
        The mean that is subtracted; zero without centring.
    temperature_ : float
        What scores are divided by: fitted to the samples, each left out in turn; where all are the only one of their
        class, it gives the scores of other classes their usual spread.
    class_scales_, class_offsets_ : ndarray of shape (n_classes,) or None
        What log-probabilities by the temperature are multiplied by, and what is added: by vector scaling, and for
        `class_prior`. Where there are any, `decision_function` is the logits.
    loo_proba_ : ndarray of shape (n_samples, n_classes)
        Probabilities of each training sample without it, with the normalisation of all; NaN where its class has no
        other sample, or it has no weight.
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
        **CONFIDENCE,
    }

    _partly_unknown = ("loo_proba_",)
    _lost = LOST

    def __init__(
        self,
        *,
        center: bool = True,
        normalize: bool = True,
        temperature: float = 0.1,
        calibrate: Calibrate = True,
        class_prior: ClassPrior = None,
        reject: float | None = None,
        reject_label: Any = None,
        novelty: Novelty = "auto",
    ):
        self.center = center
        self.normalize = normalize
        self.temperature = temperature
        self.calibrate = calibrate
        self.class_prior = class_prior
        self.reject = reject
        self.reject_label = reject_label
        self.novelty = novelty

    @property
    def _left_out_in(self) -> str | None:
        return "loo_proba_"

    def _fit(self, support: Support) -> Array:
        return self._fit_sharing(support, {})

    def _fit_sharing(self, support: Support, shared: Shared) -> Array:
        """Take the means, or those of a fit on the same samples that normalises in the same way.

        Scores (n, n_classes) of left-out samples are returned.
        """
        key = self.center, self.normalize
        self.mean_, self.prototypes_ = once(shared, key, lambda: self._means(support))
        left_out: Array = once(shared, (*key, "left out"), lambda: self._left_out(support))
        return left_out

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

    def _left_out(self, support: Support) -> Array:
        """Score samples (n, n_classes) by the means without them; normalisation is that of all."""
        features, own = self._normalised(support.features, self.mean_), np.arange(len(support.codes))
        scores = self._scored(features)
        # Without a sample x of weight w in a class of weight W, the mean m is m - (x - m) w / (W - w).
        totals = np.bincount(support.codes, support.weights, len(self.classes_))[support.codes]
        left = totals - support.weights
        moved = support.weights / np.where(left > 0, left, 1)
        means = self.prototypes_[support.codes]
        means = means - moved[:, None] * (features - means)
        scores[own, support.codes] = (features * means).sum(1) - 0.5 * (means**2).sum(1)
        return scores

    def _as_of_all(self, support: Support, left_out: Array) -> Array:
        """Correct own classes, whose means without a sample are noisier than the others.

        Of k samples of a class with variance s in it, the squared distance of one to the mean of the others is s (1 + 1
        / (k - 1)) on average, and that of another sample to the mean of all s (1 + 1 / k): smaller by 1 - 1 / k^2.
        """
        rows, codes = np.arange(len(support.codes)), support.codes
        totals = np.bincount(codes, support.weights, len(self.classes_))[codes]
        squares = 0.5 * (self._normalised(support.features, self.mean_) ** 2).sum(1)
        scores, own = left_out.copy(), left_out[rows, codes]
        # Scores are half the square of the sample less half the squared distance.
        scores[rows, codes] = own + (squares - own) * (support.weights / np.where(totals > 0, totals, 1)) ** 2
        return scores

    def _normalised(self, features: Array, mean: Array) -> Array:
        x: Array = features - mean
        if not self.normalize:
            return x
        length = np.linalg.norm(x, axis=1, keepdims=True)
        return x / np.where(length > 0, length, 1)

    def _scores(self, features: Array) -> Array:
        """Score by minus half the squared distance to each prototype, up to what all classes share."""
        return self._scored(self._normalised(features, self.mean_))

    def _scored(self, normalised: Array) -> Array:
        scores: Array = normalised @ self.prototypes_.T - 0.5 * (self.prototypes_**2).sum(1)
        return scores

    def _fixed_temperature(self) -> float:
        return float(self.temperature)

    def _changed_prior(self, support: Support) -> tuple[Array | None, Array | None]:
        """Means know nothing of how frequent classes are: priors in scores are equal."""
        n_classes = len(self.classes_)
        log_prior, _ = super()._changed_prior(support)
        if isinstance(self.class_prior, str) and self.class_prior == "empirical":
            log_prior = log_frequencies(support.codes, support.weights, n_classes)
        return log_prior, np.full(n_classes, -np.log(n_classes))
