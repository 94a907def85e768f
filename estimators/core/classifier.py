"""The base of all heads: scikit-learn's contract, augmented views, and the hooks that a head fills in."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from frofa.augmentations import Augmentation
from frofa.compute.arrays import as_labels
from frofa.estimators.core.confident.calibrating import Calibrating, calibration_folds
from frofa.estimators.core.confident.novelty import TellsNovelty
from frofa.estimators.core.support import Array, CheckedData, Labels, Support
from frofa.estimators.core.unlabelled import divide
from frofa.estimators.core.unlabelled import spread as spread_rows
from frofa.estimators.core.validation import (
    check_augmentation,
    check_features,
    check_labels,
    require_labels,
    weigh_samples,
)
from frofa.estimators.tokens.lazy import average_tokens
from frofa.estimators.tokens.views import sum_over_views
from frofa.utils.callbacks import CallbackSupportMixin, fit_task, with_callbacks

_KNOWN = "classes_", "blocks_", "text_features_"
"""Attributes that fits to some of the samples have from all of them."""
Methods: TypeAlias = tuple[Callable[..., Any], ...]


class FeatureClassifier(CallbackSupportMixin, Calibrating, TellsNovelty, ClassifierMixin, BaseEstimator, ABC):
    """Base of the heads, which take features (n, C) or tokens (n, N, C) of any kind, RaggedTokens or FeatureBlocks.

    Tokens may be lazy (`frofa.estimators.tokens.lazy`), as those of a `FeatureStore` are: they are read in parts, first
    to be checked, then by whoever works on them.

    A subclass says in `_dtype` what it computes in and implements `_fit` and `_scores`. It may turn its input into what
    is augmented in `_tokens`, and that into what it works on in `_prepare`.
    """

    augment_seed_: int
    _dtype: type[np.floating[Any]] = np.float64
    _fit_many: ClassVar[Callable[..., list["FeatureClassifier | Exception"]] | None] = None
    """The batched engine, where there is one: see `frofa.estimators.batched.jobs`."""
    _unsaved: ClassVar[tuple[str, ...]] = ()
    """Parameters that files do not keep: a loaded head has None."""
    _partly_unknown: ClassVar[tuple[str, ...]] = ()
    """Fitted attributes that may be NaN: all others of a good fit are finite."""

    @classmethod
    @cache
    def _get_param_names(cls) -> list[str]:
        """Look the names up once, as a search clones heads by the hundred."""
        names: list[str] = super()._get_param_names()
        return names

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "FeatureClassifier":
        """Fit the head.

        Parameters
        ----------
        X : array-like of shape (n, C) or (n, N, C), RaggedTokens or FeatureBlocks
            Features, or tokens, which the probes average over the tokens. Of FeatureBlocks, most probes take vectors,
            side by side and averaged over views, and heads on tokens the block of tokens, with all of its views.
        y : array-like of shape (n,)
            Labels, of at least two classes.
        sample_weight : array-like of shape (n,), default=None
            Non-negative; a weight of 2 counts as the sample twice.

        Returns
        -------
        self
        """
        self._check_parameters()
        data = self._check_data(X, y, sample_weight)
        with fit_task(self, *data.told(X, y, sample_weight), n_tasks=self._n_fit_tasks()):
            support = self._adopt(data)
            self._finish(support, self._fit(support), alone=True)
            self._spread(data)
        return self

    def _n_fit_tasks(self) -> int:
        """Parts of a fit that `_fit` tells callbacks of."""
        return 0

    def _spread(self, data: CheckedData) -> None:
        """Give samples without labels their rows, of NaN, among the left-out ones."""
        if data.known is not None and self._left_out_in is not None and hasattr(self, self._left_out_in):
            setattr(self, self._left_out_in, spread_rows(getattr(self, self._left_out_in), data.known))

    def _finish(self, support: Support, left_out: Array | None = None, *, alone: bool = False) -> None:
        """Learn what predictions need beside scores; heads that are fitted by an engine come here, too.

        `left_out` are the scores (n, n_classes) of samples by fits without them, NaN where there are none, of a head
        that has them from its fit. One that is fitted `alone` also keeps what it may be asked for.
        """
        self._calibrate(support, left_out)
        self._learn_novelty(support, alone=alone)

    def _out_of_fold(self, support: Support) -> Array:
        """Score samples (n, n_classes) by heads that were fitted to others; NaN for the only one of a class."""
        folds = calibration_folds(support.codes, support.weights)
        scores = np.full((len(folds), len(self.classes_)), np.nan)
        for fold in range(folds.max() + 1):
            head = clone(self)
            # Of what is known of samples: classes, their words, and the names and widths of blocks.
            vars(head).update({name: vars(self)[name] for name in _KNOWN if name in vars(self)})
            head._fit(support.rows(folds != fold))
            scores[folds == fold] = head._scores(support.features[folds == fold])
        return scores

    def set_params(self, **params: Any) -> "FeatureClassifier":
        """Set parameters by name, those of the augmentation as ``augment__level`` and the like; returns self.

        Raises
        ------
        ValueError
            If there is no such parameter, or parameters of the augmentation are set where there is none.
        """
        # scikit-learn sets nested parameters on the object that is there: ``"auto"`` has to become one first.
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
        """Return the augmentation that a value of `augment` stands for."""
        return augment

    @abstractmethod
    def _fit(self, support: Support) -> Array | None:
        """Fit to checked data; return the scores (n, n_classes) of samples that were left out on the way, if any."""

    @abstractmethod
    def _scores(self, features: Array) -> Array:
        """Score prepared features, (n, n_classes)."""

    def _tokens(self, features: Array) -> Array:
        """Turn checked features into what is augmented: tokens (n, N, C), or pooled features (n, C)."""
        return features

    def _prepare(self, tokens: Array) -> Array:
        """Average tokens (n, N, C) over the tokens, in float64."""
        return average_tokens(tokens) if tokens.ndim == 3 else tokens

    def _draw_seed(self, random_state: np.random.RandomState) -> int:
        """Draw the seed of the views from a copy, so that the head itself draws the same with and without it."""
        return int(deepcopy(random_state).randint(2**31 - 1))

    def _copies(self, tokens: Array, features: Array, weights: Array) -> Array | None:  # noqa: ARG002
        """Augmented copies (n, m, C) to train on, by heads that do not draw their own."""
        return None

    def decision_function(self, X: Any) -> Array:
        """Score samples.

        Parameters
        ----------
        X : array-like of shape (n, C) or (n, N, C), RaggedTokens or FeatureBlocks

        Returns
        -------
        ndarray of shape (n, n_classes), or (n,) for two classes
            Larger is more likely; for two classes, of ``classes_[1]``.
        """
        return self._decisions_of(self._checked_scores(X))

    def predict(self, X: Any) -> Array:
        """Predict the class of samples, of the kinds that `fit` takes; returns labels, shape (n,).

        With `reject`, they are `reject_label` for samples whose `novelty_score` is beyond the threshold.
        """
        labels = self._labels_of(self._checked_scores(X))
        return labels if self._given("reject") is None else self._with_rejected(labels, X)

    def predict_proba(self, X: Any) -> Array:
        """Predict the probability of each class of samples, of the kinds that `fit` takes; shape (n, n_classes)."""
        return self._probabilities_of(self._checked_scores(X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy on samples, of the kinds that `fit` takes, and their labels (n,), which may be weighted."""
        return float(super().score(X, as_labels(y), sample_weight))

    def _checked_scores(self, X: Any) -> Array:
        """Score samples, (n, n_classes): the mean over the features as they are and `n_views` augmented views."""
        check_is_fitted(self)
        # Views are augmented tokens; what is scored, in either case, is what `_prepare` makes of them.
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
        n_views, grid = self._given("n_views", 0), self._given("grid")
        return check_augmentation(self._augmentation(), n_views, grid, type(self).__name__)

    def _augmentation(self) -> Augmentation | None:
        """Return the augmentation, if there is one."""
        augment: Augmentation | None = self._given("augment")
        return augment

    def _check_parameters(self) -> None:
        self._validate_params()
        if self._given("augment") is not None or self._given("n_views"):
            self._check_augment()

    def _check_features(self, X: Any, *, reset: bool) -> Array:
        return check_features(self, X, self._dtype, reset=reset)

    def _check_data(self, X: Any, y: Any, sample_weight: Any) -> CheckedData:
        """Check what does not depend on parameters, and set ``n_features_in_``."""
        name = type(self).__name__
        require_labels(y, name)
        X = self._check_features(X, reset=True)
        part = divide(X, y, sample_weight, self._given("unlabeled"), name)
        labels = check_labels(part.X, part.y, part.sample_weight, name)
        tokens = self._tokens(part.X)
        pool = None if part.pool is None else self._prepare(self._tokens(part.pool))
        feature_names = getattr(self, "feature_names_in_", None)
        features = self._prepare(tokens)
        return CheckedData(
            tokens, features, labels, self.n_features_in_, feature_names, pool, part.pool_weights, part.known
        )

    def _adopt(self, data: CheckedData) -> Support:
        """Set the attributes that tell of checked data; weigh the classes and draw the copies."""
        self.n_features_in_ = data.n_features
        if data.feature_names is not None:
            self.feature_names_in_ = data.feature_names
        weights = self._adopt_labels(data.labels)
        copies = self._copies(data.tokens, data.features, weights)
        return Support(data.features, data.labels.codes, weights, copies, data.pool, data.pool_weights)

    def _adopt_labels(self, labels: Labels) -> npt.NDArray[np.float64]:
        """Set ``classes_`` and the seed of views; return the weights of samples, those of their classes included."""
        self.classes_ = labels.classes.copy()
        weights = weigh_samples(labels, self._given("class_weight"))
        # A head that is fitted again, now without augmentation, is not to keep the seed of the fit before.
        if hasattr(self, "augment_seed_"):
            del self.augment_seed_
        if self._given("augment") is not None:
            self.augment_seed_ = self._draw_seed(check_random_state(self._given("random_state")))
        return weights

    # What shortcuts stand for (see `shortcuts`): a subclass that overrides one of these methods does not get them.
    _fit_steps: ClassVar[Methods] = (
        *(fit, _fit, _check_parameters, _check_data, _check_features),
        *(_adopt, _adopt_labels, _tokens, _prepare, _copies),
    )
    """Methods that the batched engine stands for."""
    _predict_steps: ClassVar[Methods] = (predict, predict_proba, decision_function, score, _checked_scores)
    """Methods that predictions from known scores stand for."""
    _pool_steps: ClassVar[Methods] = (_check_features, _tokens, _prepare)
    """Methods that averaging tokens before the head sees them stands for."""
