"""Several labels an image: a discriminant of each, by one decomposition for all."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from sklearn.base import ClassifierMixin
from sklearn.metrics import average_precision_score
from sklearn.utils import Tags

from frofa.estimators.core.numbers.estimator import OutputsEstimator
from frofa.estimators.core.numbers.indicators import check_indicator, check_shares, is_indicator, log_odds_of
from frofa.estimators.core.support import Array
from frofa.estimators.core.validation import check_labels, require_labels
from frofa.estimators.solvers.outputs.calibration import calibrate
from frofa.estimators.solvers.outputs.thresholds import f1_thresholds
from frofa.utils.callbacks import tells_callbacks


class MultiLabelProbeClassifier(ClassifierMixin, OutputsEstimator):
    """Discriminants of several labels an image, averaged by leave-one-out likelihood, with calibrated probabilities.

    Each label is told from its absence by ridge regression to 0 and 1, which is a linear discriminant up to its scale.
    One decomposition serves all labels and penalties; as in `ShrinkageRegressor`, there is nothing to tune, and samples
    are left out in closed form. On these, logits are calibrated: steepness for all labels together, and for each label
    by itself as far as its samples are many.

    Parameters
    ----------
    threshold : float, array-like of shape (n_labels,) or "auto", default=0.5
        Probability above which `predict` has a label. ``"auto"`` chooses one for each label by the expected F1 of left-
        out samples, which are lower for rare labels: for few and rare labels, F1 is several times that of 0.5, where
        hardly any is predicted. The default is that of scikit-learn, by which the fewest labels are wrong.
    class_prior : "empirical", "uniform", float, array-like of shape (n_labels,) or dict, default="empirical"
        Prevalence of each label where it is predicted: that of the training samples; 0.5; or as given, for all labels,
        each of them, or some by name.
    block_sizes : sequence of int, default=None
        Widths of the blocks that plain features (n, C) are cut into, in order, which add up to C; None is one block.
        `frofa.FeatureBlocks` bring their own.
    block_weights : "equal", array-like of shape (n_blocks,) or dict, default="equal"
        Share of each block in the variance of what they are side by side: equal, or as given, in the order of the
        blocks or by name.
    device : str, default="auto"
        Device that fits: a torch device, or ``"auto"``, which is the GPU where there is one. What is fitted is on the
        CPU, and predictions are computed there.

    Attributes
    ----------
    classes_ : ndarray of shape (n_labels,)
        Names of the labels: columns of a data frame, or 0, 1, and so on; of one label an image, these.
    multilabel_ : bool
        Whether images may have several labels: y was an indicator.
    coef_ : ndarray of shape (3, n_labels, C)
        Weights of the average for the features of each space; calibrated, so that scores are logits.
    intercept_ : ndarray of shape (n_labels,)
    thresholds_ : ndarray of shape (n_labels,)
        Probabilities above which labels are predicted.
    shifts_, scales_ : ndarray of shape (3, C)
        What features are shifted and divided by on the way to each space.
    members_ : tuple of str
        Discriminants that were averaged: their space and penalty, in mean squared distances of samples to their mean.
    weights_ : ndarray of shape (n_members, n_labels)
        Weights of the members in the average, of sum 1.
    loo_proba_ : ndarray of shape (n_samples, n_labels)
        Probabilities of each training sample without it; NaN where it has no weight.
    loo_average_precision_ : ndarray of shape (n_labels,)
        Average precision of these; NaN of labels that all or no samples have.
    blocks_ : dict of str to int
        Name and width of each block.
    block_weights_ : dict of str to float
        Share of each block, of sum 1.
    n_features_in_ : int
        Sum of the widths.

    Notes
    -----
    A label that no sample has is never likely: its probability is ``0.5 / (n + 1)`` for n samples, and that of one that
    all have is one minus this, whatever `class_prior`. A label of a single sample has the common steepness, and the
    sample is not counted in it: without it, nothing is known of the label. Weights of samples are relative. Labels that
    are missing are an error, as all labels share their samples.

    References
    ----------
    Hastie, Tibshirani and Friedman, "The Elements of Statistical Learning", exercise 4.2, on discriminants by
    regression; Lipton et al., "Optimal thresholding of classifiers to maximize F1 measure", 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa.estimators import MultiLabelProbeClassifier
    >>> features = np.random.default_rng(0).normal(size=(60, 8))
    >>> labels = (features[:, :3] > 0.5).astype(int)
    >>> head = MultiLabelProbeClassifier().fit(features, labels)
    >>> head.predict(features[:2]).tolist() == labels[:2].tolist(), head.predict_proba(features).shape
    (True, (60, 3))
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "threshold": [float, "array-like", str],
        "class_prior": [str, dict, float, "array-like", None],
        **OutputsEstimator._parameter_constraints,
    }
    _partly_unknown = ("loo_proba_", "loo_average_precision_")

    def __init__(
        self,
        *,
        threshold: float | npt.ArrayLike | str = 0.5,
        class_prior: str | float | npt.ArrayLike | Mapping[Any, float] | None = "empirical",
        block_sizes: Sequence[int] | None = None,
        block_weights: str | npt.ArrayLike | Mapping[str, float] = "equal",
        device: str = "auto",
    ):
        self.threshold = threshold
        self.class_prior = class_prior
        self.block_sizes = block_sizes
        self.block_weights = block_weights
        self.device = device

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.target_tags.multi_output = True
        return tags

    @tells_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "MultiLabelProbeClassifier":
        """Fit the classifier.

        Parameters
        ----------
        X : FeatureBlocks, array-like of shape (n, C) or (n, N, C), or RaggedTokens
            Blocks of features and their views; features; or tokens, which are averaged over the tokens.
        y : array-like of shape (n, n_labels) or (n,)
            Indicator: 1 where an image has a label, and 0 where it has not. Or one label an image, each of which is
            told from the rest, as scikit-learn's classifiers do; `ShrinkageProbeClassifier` is made for that.
        sample_weight : array-like of shape (n,), default=None
            Non-negative; only their proportions matter.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If y is no indicator; the message says what takes it.
        """
        self._validate_params()
        require_labels(y, type(self).__name__)
        blocks = self._check_features(X, reset=True)
        labels = self._check_labels(blocks, y)
        weights = self._check_weights(blocks, labels, sample_weight)
        left_out = self._fit_outputs(blocks, labels, weights).left_out
        self._calibrate(left_out, labels, weights)
        return self

    def _check_labels(self, blocks: Any, y: Any) -> Array:
        """Set ``classes_``, and give the indicator (n, L); of one label an image, two are one column."""
        self.multilabel_ = is_indicator(y)
        if self.multilabel_:
            labels, self.classes_ = check_indicator(y, type(self).__name__)
            return labels
        found = check_labels(blocks, y, None, type(self).__name__)
        self.classes_ = found.classes
        indicator: Array = (found.codes[:, None] == np.arange(len(found.classes))).astype(np.float64)
        return indicator[:, 1:] if len(found.classes) == 2 else indicator

    def _calibrate(self, left_out: Array, labels: Array, weights: Array) -> None:
        """Make scores logits, by predictions (n, L) of left-out samples, and choose thresholds."""
        used = weights > 0
        y, w = labels[used], weights[used] / weights[used].mean()
        lines, empirical = calibrate(left_out[used], y, w)
        # Labels that all or no samples have keep what is said of them, whatever priors.
        alone = (y == y[:1]).all(0)
        names = self.classes_[-len(alone) :]
        base = np.where(alone, empirical, log_odds_of(self.class_prior, names, empirical))
        self.coef_ = self.coef_ * lines.slope[:, None]
        self.intercept_ = lines.of(self.intercept_[None])[0] + base
        probabilities = expit(lines.of(left_out) + base)
        self.thresholds_ = self._choose_thresholds(probabilities[used], w)
        self.loo_proba_ = self._completed(probabilities)
        self.loo_average_precision_ = np.full(len(alone), np.nan)
        for i in np.flatnonzero(~alone):
            found = average_precision_score(y[:, i], probabilities[used, i], sample_weight=w)
            self.loo_average_precision_[i] = found

    def _completed(self, probabilities: Array) -> Array:
        """Make probabilities (n, L) those of classes, of which each sample has one, where there are such."""
        if self.multilabel_:
            return probabilities
        if len(self.classes_) == 2:
            return np.hstack([1 - probabilities, probabilities])
        total = probabilities.sum(1, keepdims=True)
        shares: Array = probabilities / np.where(total > 0, total, 1)
        return shares

    def decision_function(self, X: Any) -> Array:
        """Score samples, of the kinds that `fit` takes.

        Returns
        -------
        ndarray of shape (n, n_labels)
            Logits, minus those of the thresholds: positive where `predict` has a label. Of one label an image, logits
            of each against the rest, or (n,) for two.
        """
        logits = self._logits(X)
        if not self.multilabel_:
            return logits[:, 0] if len(self.classes_) == 2 else logits
        beyond: Array = logits - np.log(self.thresholds_ / (1 - self.thresholds_))
        return beyond

    def predict_proba(self, X: Any) -> Array:
        """Predict the probability of each label of samples, of the kinds that `fit` takes; shape (n, n_labels)."""
        return self._completed(expit(self._logits(X)))

    def predict(self, X: Any) -> Array:
        """Predict the labels of samples, of the kinds that `fit` takes.

        Returns
        -------
        ndarray of shape (n, n_labels) or (n,)
            Indicator of 0 and 1, or the likeliest label where there is one an image.
        """
        scores = self.decision_function(X)
        if self.multilabel_:
            indicator: Array = (scores > 0).astype(np.int64)
            return indicator
        labels: Array = self.classes_[scores.argmax(1) if scores.ndim == 2 else (scores > 0).astype(int)]
        return labels

    def _logits(self, X: Any) -> Array:
        return self._predict(X)

    def _choose_thresholds(self, probabilities: Array, weights: Array) -> Array:
        if not isinstance(self.threshold, str):
            return check_shares(self.threshold, probabilities.shape[1], "threshold")
        if self.threshold != "auto":
            raise ValueError(f"threshold must be 'auto', a probability, or one of each label. Got {self.threshold!r}.")
        return f1_thresholds(probabilities, weights)
