"""Heads that keep their samples, and are fitted anew in closed form when there are more, or other classes."""

from numbers import Number
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from frofa.blocks import FeatureBlocks
from frofa.estimators.core.classifier import FeatureClassifier
from frofa.estimators.core.support import Array, CheckedData, Labels
from frofa.estimators.core.unlabelled import divide, resolved
from frofa.estimators.core.validation import one_label_each, require_labels
from frofa.utils.callbacks import fit_task, with_callbacks


class Pool(NamedTuple):
    """Samples without labels, blocks and weights (m,), of which there may be none."""

    features: FeatureBlocks | None = None
    weights: npt.NDArray[np.float64] | None = None

    def and_also(self, other: "Pool") -> "Pool":
        """Put the samples of another after these."""
        if self.weights is None or other.weights is None:
            return other if self.weights is None else self
        return Pool(joined(self.features, other.features), np.concatenate([self.weights, other.weights]))


NO_POOL = Pool()


class GrowingClassifier(FeatureClassifier):
    """Base of the heads on FeatureBlocks that keep their samples: samples and classes come and go exactly.

    A subclass has the parameter `keep_support`, and works on FeatureBlocks that ``_check_features`` makes.
    """

    keep_support: bool
    support_: dict[str, Any]
    blocks_: dict[str, int]

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "GrowingClassifier":
        """Fit the head.

        Parameters
        ----------
        X : FeatureBlocks, array-like of shape (n, C) or (n, N, C), or RaggedTokens
            Blocks of features and their views; features; or tokens, which are averaged over the tokens.
        y : array-like of shape (n,)
            Labels, of at least two classes.
        sample_weight : array-like of shape (n,), default=None
            Non-negative; only their proportions matter.

        Returns
        -------
        self
        """
        self._check_parameters()
        data = self._check_data(X, y, sample_weight)
        with fit_task(self, *data.told(X, y, sample_weight)):
            self._forget()
            support = self._adopt(data)
            left_out = self._fit(support)
            if data.tokens is data.features:
                self._keep(data.features, data.labels, Pool(data.pool, data.pool_weights))
            else:
                # Copies of tokens cannot be drawn anew from their means: more samples could not be added exactly.
                self._forget()
            self._finish(support, left_out, alone=True)
            self._spread(data)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> "GrowingClassifier":
        """Fit to these samples and all that came before: the same as `fit` to all of them.

        Parameters
        ----------
        X : FeatureBlocks, array-like of shape (n, C) or (n, N, C), or RaggedTokens
            As in `fit`, with the same blocks and views in every call.
        y : array-like of shape (n,)
            Labels, of known classes; `add_class` adds one. Samples without a label are, as in `fit`, where `unlabeled`
            says so; ``"auto"`` takes -1 for no label unless it is among the classes.
        classes : array-like of shape (n_classes,), default=None
            All classes, in the first call; None takes those of y. One that has no sample yet is not predicted.
        sample_weight : array-like of shape (n,), default=None
            As in `fit`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a label is of no known class, or the head was fitted without ``keep_support``.
        """
        self._check_parameters()
        self._check_can_grow(X)
        first, name = not hasattr(self, "classes_"), type(self).__name__
        require_labels(y, name)
        blocks: Any = self._check_features(X, reset=first)
        told = classes if first else self.classes_
        part = divide(blocks, y, sample_weight, resolved(self._given("unlabeled"), told), name)
        blocks, y = part.X, one_label_each(part.y, name)
        check_consistent_length(blocks, y)
        known = np.unique(y if classes is None else one_label_each(classes, name)) if first else self.classes_
        if len(known) < 2:
            raise ValueError(f"{name} needs at least 2 classes. Got one class only: {known[0]}.")
        if not first and classes is not None and not np.array_equal(np.unique(one_label_each(classes, name)), known):
            raise ValueError(f"classes must be those of the first call, {known.tolist()}. Got {classes!r}.")
        strange = ~np.isin(y, known)
        if strange.any():
            raise ValueError(f"expected labels of known classes; add_class adds one. Got {y[strange].tolist()[0]!r}.")
        weights = _check_sample_weight(part.sample_weight, y, dtype=np.float64, ensure_non_negative=True)
        if first:
            return self._fit_to(blocks, y, weights, known, Pool(part.pool, part.pool_weights))
        return self._fit_with(blocks, y, weights, known, Pool(part.pool, part.pool_weights))

    def add_class(self, X: Any, label: Any, sample_weight: Any = None) -> "GrowingClassifier":
        """Add a class from its samples: the same as `fit` to all samples and these.

        Parameters
        ----------
        X : FeatureBlocks, array-like of shape (n, C) or (n, N, C), or RaggedTokens
            Samples of the new class, with the blocks and views of those before.
        label : str or int
            Its label, of the kind of the others.
        sample_weight : array-like of shape (n,), default=None
            As in `fit`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If there is such a class, its label is of another kind, or the head was fitted without ``keep_support``.
        """
        check_is_fitted(self)
        if isinstance(X, (str, bytes, Number)):
            raise TypeError(f"add_class takes the features of samples first, and then their label. Got X={X!r}.")
        self._check_can_grow(X)
        blocks: Any = self._check_features(X, reset=False)
        y = np.full(len(blocks), label)
        if (y.dtype.kind in "US") != (self.classes_.dtype.kind in "USOT"):
            raise ValueError(f"expected a label of the kind of {self.classes_.tolist()[0]!r}. Got {label!r}.")
        if label in self.classes_.tolist():
            raise ValueError(f"expected a new class; partial_fit adds samples. Got {label!r}.")
        weights = _check_sample_weight(sample_weight, y, dtype=np.float64, ensure_non_negative=True)
        return self._fit_with(blocks, y, weights, np.unique(np.append(self.classes_, y[:1])))

    def drop_class(self, label: Any) -> "GrowingClassifier":
        """Drop a class with its samples: the same as `fit` to the others.

        Parameters
        ----------
        label : str or int
            The class, of at least three.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If there is no such class, there are but two, or the head was fitted without ``keep_support``.
        """
        check_is_fitted(self)
        rest = self.classes_[self.classes_ != label]
        if len(rest) == len(self.classes_) or len(rest) < 2:
            raise ValueError(f"expected one of at least 3 classes, {self.classes_.tolist()}. Got {label!r}.")
        blocks, y, weights = self._kept()
        others = y != label
        if others.all() or not others.any():
            raise ValueError(f"expected samples of {label!r} and of other classes. Got none.")
        return self._fit_to(blocks[others], y[others], weights[others], rest, self._kept_pool())

    def _check_can_grow(self, X: Any) -> None:
        """Raise a ValueError if a fit to samples that are kept and those of X could not be exact."""

    def _fit_with(
        self, blocks: FeatureBlocks, y: Array, weights: Array, classes: Array, pool: Pool = NO_POOL
    ) -> "GrowingClassifier":
        """Fit to the samples that are kept, and these."""
        kept, labels, before = self._kept()
        y, weights = np.concatenate([labels, y]), np.concatenate([before, weights])
        return self._fit_to(joined(kept, blocks), y, weights, classes, self._kept_pool().and_also(pool))

    def _fit_to(
        self,
        blocks: Any,
        y: Array,
        weights: npt.NDArray[np.float64],
        classes: Array,
        pool: Pool = NO_POOL,
    ) -> "GrowingClassifier":
        self.blocks_ = blocks.widths
        labels = Labels(y, classes, np.searchsorted(classes, y), weights)
        names = getattr(self, "feature_names_in_", None)
        data = CheckedData(blocks, blocks, labels, self.n_features_in_, names, *pool)
        support = self._adopt(data)
        left_out = self._fit(support)
        self._keep(blocks, labels, pool, always=True)
        self._finish(support, left_out, alone=True)
        self._spread(data)
        return self

    def _keep(self, blocks: Any, labels: Labels, pool: Pool = NO_POOL, *, always: bool = False) -> None:
        """Keep samples, with all views in the dtype that they have, or what was kept no longer."""
        also = self._also_kept()
        self._forget()
        if always or self.keep_support:
            features = {name: blocks.block(name) for name in blocks.names}
            if pool.features is not None:
                also["unlabelled"] = {name: pool.features.block(name) for name in pool.features.names}
                also["unlabelled_weights"] = pool.weights
            self.support_ = {"features": features, "labels": labels.y, "weights": labels.weights, **also}

    def _forget(self) -> None:
        if hasattr(self, "support_"):
            del self.support_

    def _also_kept(self) -> dict[str, Any]:
        """Return what else the fit was to, beside samples."""
        return {}

    def _kept(self) -> tuple[FeatureBlocks, Array, Array]:
        """Return the samples that were kept: features, labels and sample weights."""
        if not hasattr(self, "support_"):
            raise ValueError(f"{type(self).__name__} was fitted with keep_support=False, and has no samples to add to.")
        return blocks_of(self.support_["features"]), self.support_["labels"], self.support_["weights"]

    def _kept_pool(self) -> Pool:
        """Return the samples without labels that were kept."""
        kept = getattr(self, "support_", {}).get("unlabelled")
        return NO_POOL if kept is None else Pool(blocks_of(kept), self.support_["unlabelled_weights"])


def blocks_of(kept: dict[str, Array]) -> FeatureBlocks:
    """Make blocks of kept features (n, n_views, C) by name."""
    return FeatureBlocks({name: list(views.swapaxes(0, 1)) for name, views in kept.items()})


def joined(first: FeatureBlocks | None, second: FeatureBlocks | None) -> FeatureBlocks | None:
    """Put samples one after another, those of either of which there may be none."""
    if first is None or second is None:
        return second if first is None else first
    if first.n_views != second.n_views:
        raise ValueError(f"expected {first.n_views} views, as of the samples before. Got {second.n_views}.")
    return FeatureBlocks(
        {
            name: [np.concatenate(pair) for pair in zip(first.views(name), second.views(name), strict=True)]
            for name in first.names
        }
    )
