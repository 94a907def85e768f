"""Decisions by their costs: one label, several, or none of these."""

from dataclasses import replace
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.utils import Tags, get_tags
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import check_is_fitted

from frofa.estimators.confidence.learners import features_of, forget, show_features_of
from frofa.estimators.confidence.novelty import NoveltyDetector
from frofa.estimators.core.confident.novelty import reject_label_for, with_rejected
from frofa.estimators.core.support import Array
from frofa.utils.callbacks import CallbackSupportMixin, fit_task, with_callbacks

NOT_NEGATIVE = [Interval(Real, 0, None, closed="left")]


class AbstentionClassifier(CallbackSupportMixin, ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Classifier that says one label, several, or none of these, whichever costs least as far as it can tell.

    What is likely is told by the classifier's probabilities and by how novel an image is; what that is worth is told by
    costs, of which only the proportions matter. Say that a wrong label costs one coin. If a person who looks at three
    labels rather than one takes time that is worth a fifth, `cost_label` is 0.1; if one who looks at an image without
    any help takes time that is worth a third, `cost_reject` is 0.33.

    Parameters
    ----------
    classifier : classifier
        With ``predict_proba``, calibrated, as frofa's are; a head of frofa or an `frofa.ImageClassifier` tells novelty
        itself, and others get a `NoveltyDetector` on the same features.
    cost_error : float, default=1.0
        Cost of an image of a known class whose label is not among those that are said.
    cost_label : float, default=0.1
        Cost of each label that is said beside the first.
    cost_reject : float, default=0.5
        Cost of saying none, whatever the image shows.
    cost_unknown : float, default=1.0
        Cost of saying any label of an image that is of no known class.
    unknown_share : float, default=0.1
        Share of images of no known class among those that are to come, from 0, which makes novelty not matter, to 1.
    reject_label : object, default=None
        What `predict` says of images without a label; None is "none of these", or of classes that are numbers -1, and
        one less than the least class where -1 is one.

    Attributes
    ----------
    classifier_ : classifier
        Fitted.
    detector_ : NoveltyDetector
        Where the classifier does not tell novelty itself.
    classes_ : ndarray of shape (n_classes,)
    reject_label_ : object
        What `predict` says of images without a label.

    Notes
    -----
    Of an image of p-value p, the odds of being of no known class are ``unknown_share / (1 - unknown_share)`` times
    ``0.5 / sqrt(p)``, an e-value: whatever the unknown images are like, it is 1 on average among known ones, so that
    p-values cannot count for more than they are worth. With u the probability of this, and probabilities P of the
    classes, k labels, the likeliest, are expected to cost ``(1 - u) * cost_error * (1 - sum of the k largest P) + u *
    cost_unknown + (k - 1) * cost_label``, and none ``cost_reject``.

    References
    ----------
    Chow, "On optimum recognition error and reject tradeoff", 1970; Vovk and Wang, "E-values: calibration, combination
    and applications", Annals of Statistics 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa.estimators import AbstentionClassifier, ShrinkageProbeClassifier
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(["cat", "dog", "owl"], 20)
    >>> features = rng.normal(size=(60, 8)) + 3 * np.eye(3, 8)[np.repeat([0, 1, 2], 20)]
    >>> model = AbstentionClassifier(ShrinkageProbeClassifier(), cost_label=0.1, cost_reject=0.3).fit(features, y)
    >>> cat, dog, owl = np.eye(3, 8) * 4
    >>> labels, sets = model.predict_set([cat, (cat + dog) / 2, -cat - dog - owl])
    >>> labels[[0, 2]].tolist(), [model.classes_[row].tolist() for row in sets[:, :, 0]]
    (['cat', 'none of these'], [['cat'], ['cat', 'dog'], []])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "classifier": [HasMethods(["fit", "predict_proba"])],
        "cost_error": NOT_NEGATIVE,
        "cost_label": NOT_NEGATIVE,
        "cost_reject": NOT_NEGATIVE,
        "cost_unknown": NOT_NEGATIVE,
        "unknown_share": [Interval(Real, 0, 1, closed="left")],
        "reject_label": [object],
    }

    def __init__(
        self,
        classifier: Any,
        *,
        cost_error: float = 1.0,
        cost_label: float = 0.1,
        cost_reject: float = 0.5,
        cost_unknown: float = 1.0,
        unknown_share: float = 0.1,
        reject_label: Any = None,
    ):
        self.classifier = classifier
        self.cost_error = cost_error
        self.cost_label = cost_label
        self.cost_reject = cost_reject
        self.cost_unknown = cost_unknown
        self.unknown_share = unknown_share
        self.reject_label = reject_label

    @with_callbacks
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "AbstentionClassifier":
        """Fit the classifier; costs play no part in it, and may be set afterwards.

        Parameters
        ----------
        X : array-like, or whatever the classifier takes
            Features of n samples; images, where it is an `frofa.ImageClassifier`.
        y : array-like of shape (n,)
            Labels, of two classes at least.
        sample_weight : array-like of shape (n,), default=None
            Weights that the classifier is fitted with.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If `reject_label` is a class, or of another kind than they are.
        """
        self._validate_params()
        weight = {} if sample_weight is None else {"sample_weight": sample_weight}
        with fit_task(self, X, y, sample_weight, n_tasks=1) as task:
            classifier = clone(self.classifier)
            with task.hand_to(classifier, "fit-classifier"):
                self.classifier_ = classifier.fit(X, y, **weight)
            self._take_classes(X, y)
        return self

    def _take_classes(self, X: Any, y: Any) -> None:
        """Take over what the fitted classifier knows, and keep what novelty is told by, if it does not."""
        self.classes_ = self.classifier_.classes_
        self.reject_label_ = reject_label_for(self.classes_, self._label())
        forget(self, "detector_")
        show_features_of(self, self.classifier_)
        if not hasattr(self.classifier_, "novelty_p_value"):
            self.detector_ = NoveltyDetector(reject=0.5).fit(X, y)

    def _label(self) -> Any:
        taken = self.classes_.dtype.kind in "iuf" and -1 in self.classes_
        return self.classes_.min() - 1 if self.reject_label is None and taken else self.reject_label

    def expected_cost(self, X: Any) -> npt.NDArray[np.float64]:
        """Weigh all that could be said of samples.

        Parameters
        ----------
        X : array-like, or whatever the classifier takes
            Features of m samples, or images.

        Returns
        -------
        ndarray of shape (m, 1 + n_classes)
            Expected costs of saying none, and of saying the 1, 2, ... likeliest labels.
        """
        return self._costs(*self._asked(X))

    def predict(self, X: Any) -> Array:
        """Predict the likeliest label of samples, or `reject_label_` where it costs least to say none; shape (m,)."""
        return self.predict_set(X)[0]

    def predict_set(self, X: Any) -> tuple[Array, npt.NDArray[np.bool_]]:
        """Say of samples what costs least.

        Parameters
        ----------
        X : array-like, or whatever the classifier takes
            Features of m samples, or images.

        Returns
        -------
        labels : ndarray of shape (m,)
            As `predict` has them.
        sets : ndarray of bool, shape (m, n_classes, 1)
            Whether a label, in the order of ``classes_``, is among those that are said; a row of a rejected sample has
            none. It is the form of `ConformalClassifier.predict_set`.
        """
        proba, p_values = self._asked(X)
        n_labels = self._costs(proba, p_values).argmin(1)
        # The rank (m, n_classes) of each label, likeliest first.
        order = (-proba).argsort(axis=1, kind="stable")
        ranks = order.argsort(axis=1)
        labels = with_rejected(self.classes_[order[:, 0]], n_labels == 0, self.reject_label_)
        return labels, (ranks < n_labels[:, None])[:, :, None]

    def predict_proba(self, X: Any) -> Array:
        """Predict the probability of each class, if it is one of these; shape (m, n_classes)."""
        check_is_fitted(self)
        proba: Array = self.classifier_.predict_proba(X)
        return proba

    def novelty_p_value(self, X: Any) -> Array:
        """Estimate the share of images of the known classes that are as novel as each sample, or more; (m,)."""
        check_is_fitted(self)
        return self._p_values(self.classifier_, X)

    def _p_values(self, classifier: Any, X: Any) -> Array:
        found: Array = self.detector_.p_value(X) if hasattr(self, "detector_") else classifier.novelty_p_value(X)
        return found

    def _asked(self, X: Any) -> tuple[Array, Array]:
        """Return probabilities (m, n_classes) and p-values (m,) of samples; features of images are taken once."""
        check_is_fitted(self)
        classifier, features = features_of(self.classifier_, X)
        return classifier.predict_proba(features), self._p_values(classifier, features)

    def _costs(self, proba: Array, p_values: Array) -> npt.NDArray[np.float64]:
        unknown = self._unknown(p_values)[:, None]
        # Of k labels, k = 1 to n_classes: what is missed, (m, n_classes).
        missed = 1 - np.sort(proba, axis=1)[:, ::-1].cumsum(1)
        beside = np.arange(proba.shape[1]) * self.cost_label
        said = (1 - unknown) * self.cost_error * missed.clip(0) + unknown * self.cost_unknown + beside
        return np.hstack([np.full((len(proba), 1), float(self.cost_reject)), said])

    def _unknown(self, p_values: Array) -> npt.NDArray[np.float64]:
        """Estimate the probability (m,) that a sample is of no known class."""
        evidence = 0.5 / np.sqrt(p_values)
        unknown: npt.NDArray[np.float64] = self.unknown_share * evidence
        return unknown / (unknown + 1 - self.unknown_share)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        of_classifier = get_tags(self.classifier)
        # A detector takes no sparse features, and heads that tell novelty take none, either.
        tags.input_tags = replace(of_classifier.input_tags, sparse=False)
        tags.target_tags = of_classifier.target_tags
        return tags
