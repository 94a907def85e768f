"""What all heads share: the boundary where features, labels and weights come in, and prediction."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import assert_all_finite, check_array, check_consistent_length, check_random_state
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d, validate_data

from frofa.augmentations import Augmentation
from frofa.compute.arrays import as_features, as_labels, check_magnitude, check_not_empty, check_weights
from frofa.estimators.tokens.lazy import LazyFeatures, check_finite, mean_over_tokens
from frofa.estimators.tokens.padding import check_ragged, mean_over_images
from frofa.estimators.tokens.views import check_grid, sum_over_views, with_copies
from frofa.ragged import RaggedTokens

Array = npt.NDArray[Any]
Methods = tuple[Callable[..., Any], ...]


@dataclass(frozen=True)
class Support:
    """Checked training data.

    Attributes
    ----------
    features : ndarray of shape (n, N, C) or (n, C)
        Or lazy ones of shape (n, N, C), for heads that work on tokens.
    codes : ndarray of int, shape (n,)
        Index of each label in ``classes_``.
    weights : ndarray of float64, shape (n,)
        Sample weights times class weights.
    copies : ndarray of float64, shape (n, m, C), or None
        Each sample and its m - 1 augmented copies; None where there are none.
    """

    features: Array
    codes: npt.NDArray[np.intp]
    weights: npt.NDArray[np.float64]
    copies: Array | None = None

    @property
    def group_size(self) -> int:
        """The number m of rows that a sample becomes in `augmented`: itself and its copies."""
        return 1 if self.copies is None else self.copies.shape[1]

    def rows(self, rows: Any) -> "Support":
        """Those of the samples."""
        copies = None if self.copies is None else self.copies[rows]
        return Support(self.features[rows], self.codes[rows], self.weights[rows], copies)

    def weighted(self) -> "Support":
        """The samples of positive weight."""
        return self if self.weights.all() else self.rows(self.weights > 0)

    def augmented(self) -> "Support":
        """Samples and copies, n * m of them, sample by sample; together they weigh what the samples do."""
        if self.copies is None:
            return self
        m = self.group_size
        features = self.copies.reshape(-1, self.copies.shape[2])
        return Support(features, self.codes.repeat(m), (self.weights / m).repeat(m))


class Labels(NamedTuple):
    """Labels of training samples, their classes, the index of each among these, and sample weights."""

    y: Array
    classes: Array
    codes: npt.NDArray[np.intp]
    weights: npt.NDArray[np.float64]


class CheckedData(NamedTuple):
    """Training data that fit for any parameters: what `FeatureClassifier.fit` gets, checked, and what tells of it."""

    tokens: Array
    features: Array
    labels: Labels
    n_features: int
    feature_names: Array | None


class FeatureClassifier(ClassifierMixin, BaseEstimator, ABC):
    """Base of the heads: 2-D features (n, C) or tokens (n, N, C), as arrays, tensors or data frames; or RaggedTokens.

    Tokens may be lazy (`frofa.estimators.tokens.lazy`), as those of a `FeatureStore` are: they are read in parts,
    here to be checked, and then by whoever works on them.

    A subclass says in `_dtype` what it computes in and implements `_fit` and `_scores`. It may turn its input into what
    is augmented in `_tokens`, and that into what it works on in `_prepare`.
    """

    _dtype: type[np.floating[Any]] = np.float64
    _fit_many: ClassVar[Callable[..., list["FeatureClassifier | Exception"]] | None] = None
    """The batched engine, where there is one: see `frofa.estimators.batched.jobs`."""

    @classmethod
    @cache
    def _get_param_names(cls) -> list[str]:
        """scikit-learn's, looked up once: a search clones heads by the hundred."""
        names: list[str] = super()._get_param_names()
        return names

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "FeatureClassifier":
        """Fit the head.

        Parameters
        ----------
        X : array-like of shape (n, C) or (n, N, C), or RaggedTokens
            Features, or tokens, which the probes average over the tokens.
        y : array-like of shape (n,)
            Labels, of at least two classes.
        sample_weight : array-like of shape (n,), default=None
            Non-negative; a weight of 2 counts as the sample twice.

        Returns
        -------
        self
        """
        self._fit(self._check_support(X, y, sample_weight))
        return self

    def set_params(self, **params: Any) -> "FeatureClassifier":
        """Set parameters.

        Parameters
        ----------
        **params : dict of str to object
            Those of the augmentation are ``augment__level`` and the like.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If there is no such parameter, or parameters of the augmentation are set where there is none.
        """
        nested = [name for name in params if name.startswith("augment__")]
        if nested and "augment" in self._get_param_names():
            augment = self._default_of(params.get("augment", self._given("augment")))
            if augment is None:
                raise ValueError(
                    f"{nested[0]} needs an augmentation. Got augment=None. A search over features without augmentation "
                    "and with it has a list of grids: [{'augment': [None]}, {'augment': [Brightness()], "
                    "'augment__level': [0.1, 0.3]}]."
                )
            params["augment"] = augment
        super().set_params(**params)
        return self

    def _default_of(self, augment: Any) -> Any:
        """The augmentation that a value of `augment` stands for."""
        return augment

    def _given(self, name: str, otherwise: Any = None) -> Any:
        """A parameter, or what stands for it in heads that do not take it."""
        return getattr(self, name, otherwise)

    @abstractmethod
    def _fit(self, support: Support) -> None:
        """Fit to checked data."""

    @abstractmethod
    def _scores(self, features: Array) -> Array:
        """Scores (n, n_classes) of prepared features."""

    def _tokens(self, features: Array) -> Array:
        """What is augmented: tokens (n, N, C), or pooled features (n, C)."""
        return features

    def _prepare(self, tokens: Array) -> Array:
        """Average tokens (n, N, C) over the tokens, in float64."""
        if isinstance(tokens, RaggedTokens):
            return mean_over_images(tokens)
        if isinstance(tokens, LazyFeatures):
            return mean_over_tokens(tokens)
        return tokens.mean(1, dtype=np.float64) if tokens.ndim == 3 else tokens

    def _draw_seed(self, random_state: np.random.RandomState) -> int:
        """Seed of the views, from a copy: what the head itself draws in `_fit` is the same with and without it."""
        return int(deepcopy(random_state).randint(2**31 - 1))

    def _copies(self, tokens: Array, features: Array, weights: Array) -> Array | None:  # noqa: ARG002
        """Augmented copies (n, m, C) to train on, by heads that do not draw their own."""
        return None

    def decision_function(self, X: Any) -> Array:
        """Score samples.

        Parameters
        ----------
        X : array-like of shape (n, C) or (n, N, C), or RaggedTokens

        Returns
        -------
        ndarray of shape (n, n_classes), or (n,) for two classes
            Larger is more likely; for two classes, of ``classes_[1]``.
        """
        return self._decisions_of(self._checked_scores(X))

    def predict(self, X: Any) -> Array:
        """Predict the class of samples (n, C), (n, N, C) or RaggedTokens; returns labels, shape (n,)."""
        return self._labels_of(self._checked_scores(X))

    def predict_proba(self, X: Any) -> Array:
        """Predict the probability of each class for samples (n, C), (n, N, C) or RaggedTokens; shape (n, n_classes)."""
        return self._probabilities_of(self._checked_scores(X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy on samples (n, C), (n, N, C) or RaggedTokens and their labels (n,), which may be weighted."""
        return float(super().score(X, as_labels(y), sample_weight))

    def _decisions_of(self, scores: Array) -> Array:
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def _labels_of(self, scores: Array) -> Array:
        labels: Array = self.classes_[scores.argmax(1)]
        return labels

    def _probabilities_of(self, scores: Array) -> Array:
        probabilities: Array = softmax(scores * self._probability_scale(), axis=1)
        return probabilities

    def _probability_scale(self) -> float:
        """What scores are multiplied with before the softmax."""
        return 1.0

    def _checked_scores(self, X: Any) -> Array:
        """Scores (n, n_classes), the mean over the features as they are and `n_views` augmented views of them."""
        check_is_fitted(self)
        tokens = self._tokens(self._check_features(X, reset=False))
        scores = self._scores(self._prepare(tokens))
        n_views = self._given("n_views", 0)
        if not n_views:
            return scores
        averaged: Array = (scores + self._sum_over_views(tokens, n_views)) / (1 + n_views)
        return averaged

    def _sum_over_views(self, tokens: Array, n_views: int) -> Array:
        augment = self._check_augment()
        check_is_fitted(self, "augment_seed_", msg="This %(name)s was fitted without augment, and has no views.")
        return sum_over_views(
            lambda view: self._scores(self._prepare(view)),
            tokens,
            augment,
            n_views,
            self.augment_seed_,
            n_prefix=self._given("n_prefix", 0),
            grid=self._given("grid"),
        )

    def _check_augment(self) -> Augmentation:
        """Return the augmentation, if there is one and it can be had at prediction."""
        augment, n_views = self._augmentation(), self._given("n_views", 0)
        if augment is None:
            raise ValueError(f"n_views={n_views} needs an augmentation. Got augment=None.")
        augment.validate()
        check_grid(self._given("grid"), type(self).__name__)
        if n_views and augment.mixes_labels:
            raise ValueError(
                f"n_views={n_views} needs an augmentation of single images, and this one mixes them: {augment!r}."
            )
        return augment

    def _augmentation(self) -> Augmentation | None:
        """The augmentation, if there is one."""
        augment: Augmentation | None = self._given("augment")
        return augment

    def _check_support(self, X: Any, y: Any, sample_weight: Any) -> Support:
        """Check parameters and training data, and set ``classes_`` and ``n_features_in_``."""
        self._check_parameters()
        return self._adopt(self._check_data(X, y, sample_weight))

    def _check_parameters(self) -> None:
        self._validate_params()
        if self._given("augment") is not None or self._given("n_views"):
            self._check_augment()

    def _check_data(self, X: Any, y: Any, sample_weight: Any) -> CheckedData:
        """Check what does not depend on parameters."""
        self._require_labels(y)
        X = self._check_features(X, reset=True)
        labels = self._check_labels(X, y, sample_weight)
        tokens = self._tokens(X)
        names = getattr(self, "feature_names_in_", None)
        return CheckedData(tokens, self._prepare(tokens), labels, self.n_features_in_, names)

    def _require_labels(self, y: Any) -> None:
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")

    def _check_labels(self, X: Any, y: Any, sample_weight: Any) -> Labels:
        """Check labels and weights of samples, of which X has one each."""
        y = column_or_1d(as_labels(y), warn=True)
        assert_all_finite(y, input_name="y")
        check_consistent_length(X, y)
        check_classification_targets(y)
        classes, codes = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                f"{type(self).__name__} needs samples of at least 2 classes. Got one class only: {classes[0]}."
            )
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        return Labels(y, classes, codes, weights)

    def _adopt(self, data: CheckedData) -> Support:
        """Set the attributes that tell of checked data; weigh the classes and draw the copies."""
        self.n_features_in_ = data.n_features
        if data.feature_names is not None:
            self.feature_names_in_ = data.feature_names
        weights = self._adopt_labels(data.labels)
        return Support(data.features, data.labels.codes, weights, self._copies(data.tokens, data.features, weights))

    def _adopt_labels(self, labels: Labels) -> npt.NDArray[np.float64]:
        """Set ``classes_`` and the seed of views; return the weights of samples, those of their classes included."""
        self.classes_, weights = labels.classes.copy(), labels.weights
        class_weight = self._given("class_weight")
        if class_weight is not None:
            weights = weights * compute_sample_weight(class_weight, labels.y)
        check_weights(weights)
        self.__dict__.pop("augment_seed_", None)
        if self._given("augment") is not None:
            self.augment_seed_ = self._draw_seed(check_random_state(self._given("random_state")))
        return weights

    def _check_features(self, X: Any, *, reset: bool) -> Array:
        X, name = as_features(X), type(self).__name__
        if getattr(X, "ndim", 2) != 3:
            with np.errstate(over="ignore"):  # what becomes infinite is an error
                features: Array = validate_data(self, X, reset=reset, dtype=self._dtype)
            check_magnitude(features, self._dtype, name)
            return features
        # scikit-learn would take the number of tokens for the number of features.
        check_not_empty(X.shape, name)
        tokens: Any = X
        if isinstance(X, RaggedTokens):
            check_ragged(X, self, self._dtype)
        elif isinstance(X, LazyFeatures):
            check_finite(X, self, self._dtype)
        else:
            tokens = check_array(X, allow_nd=True, dtype=[np.float32, np.float64], estimator=self, input_name="X")
            check_magnitude(tokens, self._dtype, name)
        if reset:
            self.n_features_in_ = tokens.shape[2]
            self.__dict__.pop("feature_names_in_", None)
        elif tokens.shape[2] != self.n_features_in_:
            raise ValueError(
                f"X has {tokens.shape[2]} features a token, but {name} is expecting {self.n_features_in_} features as "
                "input."
            )
        checked: Array = tokens
        return checked

    # What shortcuts stand for (see `shortcuts`): a subclass that overrides one of these methods does not get them.
    _fit_steps: ClassVar[Methods] = (
        *(fit, _fit, _check_support, _check_parameters, _check_data, _check_labels, _check_features),
        *(_adopt, _adopt_labels, _tokens, _prepare, _copies),
    )
    """Of the batched engine."""
    _predict_steps: ClassVar[Methods] = (predict, predict_proba, decision_function, score, _checked_scores)
    """Of predictions from scores that are known."""
    _pool_steps: ClassVar[Methods] = (_tokens, _prepare)
    """Of tokens that are averaged before the head sees them."""


class LinearClassifier(FeatureClassifier):
    """Base of the heads whose scores are linear in the features.

    ``coef_`` (n_classes, C) and ``intercept_`` (n_classes,) give the scores; for two classes they have a single row, as
    in scikit-learn, whose score is that of ``classes_[1]``, and that of ``classes_[0]`` is ``_opposite`` times it.
    They train on the samples and, with `augment`, on `n_augmented` copies of each, drawn once.
    """

    coef_: Array
    intercept_: Array
    _opposite = 0.0
    augment: Augmentation | None
    n_augmented: int
    n_prefix: int
    grid: tuple[int, int] | None

    def _decisions_of(self, scores: Array) -> Array:
        """Return ``X @ coef_.T + intercept_``."""
        return scores[:, 1] if len(self.classes_) == 2 else scores

    def _scores(self, features: Array) -> Array:
        return self._completed(features @ self.coef_.T)

    def _completed(self, products: Array) -> Array:
        """Scores of all classes from the products (n, n_scores) with the weights."""
        scores: Array = products + self.intercept_
        return np.hstack([self._opposite * scores, scores]) if scores.shape[1] == 1 else scores

    def _check_augment(self) -> Augmentation:
        augment = super()._check_augment()
        if augment.mixes_labels:
            raise ValueError(
                f"{type(self).__name__} needs an augmentation that leaves labels as they are; MAPClassifier takes any. "
                f"Got {augment!r}."
            )
        return augment

    def _draw_seed(self, random_state: np.random.RandomState) -> int:
        """Seed of copies and views, which is all that is drawn."""
        return int(random_state.randint(2**31 - 1))

    def _copies(self, tokens: Array, features: Array, weights: Array) -> Array | None:
        if self.augment is None or not self.n_augmented:
            return None
        return with_copies(
            tokens,
            features,
            np.flatnonzero(weights),
            self.augment,
            self.n_augmented,
            self.augment_seed_,
            n_prefix=self.n_prefix,
            grid=self.grid,
        )

    _product_steps: ClassVar[Methods] = (
        *(*FeatureClassifier._predict_steps, FeatureClassifier._check_features),
        *(FeatureClassifier._tokens, FeatureClassifier._prepare, _scores),
    )
    """What a product with the weights of many heads stands for, as `FeatureClassifier._fit_steps` does."""
