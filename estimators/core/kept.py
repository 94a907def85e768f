"""Heads that keep their samples, and are fitted anew in closed form when there are more, or other classes."""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import assert_all_finite, check_consistent_length
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d

from frofa.blocks import FeatureBlocks
from frofa.compute.arrays import as_labels
from frofa.estimators.core.classifier import FeatureClassifier
from frofa.estimators.core.support import Array, CheckedData, Labels
from frofa.estimators.core.validation import require_labels


class GrowingClassifier(FeatureClassifier):
    """Base of the heads on FeatureBlocks that keep their samples: samples and classes come and go exactly.

    A subclass has the parameter `keep_support`, and works on FeatureBlocks that ``_check_features`` makes.
    """

    keep_support: bool
    support_: dict[str, Any]
    blocks_: dict[str, int]

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
        self._forget()
        self._fit(self._adopt(data))
        if data.tokens is data.features:
            self._keep(data.features, data.labels)
        else:
            # Copies of tokens cannot be drawn anew from their means, so that more samples could not be added exactly.
            self._forget()
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> "GrowingClassifier":
        """Fit to these samples and all that came before: the same as `fit` to all of them.

        Parameters
        ----------
        X : FeatureBlocks, array-like of shape (n, C) or (n, N, C), or RaggedTokens
            As in `fit`, with the same blocks and views in every call.
        y : array-like of shape (n,)
            Labels, of known classes; `add_class` adds one.
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
        y = _labels_of(y)
        check_consistent_length(blocks, y)
        known = np.unique(y if classes is None else _labels_of(classes)) if first else self.classes_
        if len(known) < 2:
            raise ValueError(f"{name} needs at least 2 classes. Got one class only: {known[0]}.")
        if not first and classes is not None and not np.array_equal(np.unique(_labels_of(classes)), known):
            raise ValueError(f"classes must be those of the first call, {known.tolist()}. Got {classes!r}.")
        strange = ~np.isin(y, known)
        if strange.any():
            raise ValueError(f"expected labels of known classes; add_class adds one. Got {y[strange].tolist()[0]!r}.")
        weights = _check_sample_weight(sample_weight, y, dtype=np.float64, ensure_non_negative=True)
        if first:
            return self._fit_to(blocks, y, weights, known)
        return self._fit_with(blocks, y, weights, known)

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
        return self._fit_to(blocks[others], y[others], weights[others], rest)

    def _check_can_grow(self, X: Any) -> None:
        """Raise a ValueError if a fit to samples that are kept and those of X could not be exact."""

    def _fit_with(self, blocks: FeatureBlocks, y: Array, weights: Array, classes: Array) -> "GrowingClassifier":
        """Fit to the samples that are kept, and these."""
        kept, labels, before = self._kept()
        if blocks.n_views != kept.n_views:
            raise ValueError(f"expected {kept.n_views} views, as of the samples before. Got {blocks.n_views}.")
        both = {
            name: [np.concatenate(pair) for pair in zip(kept.views(name), blocks.views(name), strict=True)]
            for name in kept.names
        }
        y, weights = np.concatenate([labels, y]), np.concatenate([before, weights])
        return self._fit_to(FeatureBlocks(both), y, weights, classes)

    def _fit_to(self, blocks: Any, y: Array, weights: npt.NDArray[np.float64], classes: Array) -> "GrowingClassifier":
        self.blocks_ = blocks.widths
        labels = Labels(y, classes, np.searchsorted(classes, y), weights)
        names = getattr(self, "feature_names_in_", None)
        self._fit(self._adopt(CheckedData(blocks, blocks, labels, self.n_features_in_, names)))
        self._keep(blocks, labels, always=True)
        return self

    def _keep(self, blocks: Any, labels: Labels, *, always: bool = False) -> None:
        """Keep samples, with all views in the dtype that they have, or what was kept no longer."""
        also = self._also_kept()
        self._forget()
        if always or self.keep_support:
            features = {name: blocks.block(name) for name in blocks.names}
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
        features = {name: list(views.swapaxes(0, 1)) for name, views in self.support_["features"].items()}
        return FeatureBlocks(features), self.support_["labels"], self.support_["weights"]


def _labels_of(y: Any) -> Array:
    labels = column_or_1d(as_labels(y), warn=True)
    assert_all_finite(labels, input_name="y")
    check_classification_targets(labels)
    found: Array = labels
    return found
