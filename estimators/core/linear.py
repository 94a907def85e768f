"""Heads whose scores are linear in the features."""

from typing import ClassVar

import numpy as np

from frofa.augmentations import Augmentation
from frofa.estimators.core.classifier import FeatureClassifier, Methods
from frofa.estimators.core.support import Array
from frofa.estimators.core.validation import refuse_mixing
from frofa.estimators.tokens.views import with_copies


class LinearClassifier(FeatureClassifier):
    """Base of the heads whose scores are linear in the features.

    Scores are ``X @ coef_.T + intercept_``, tokens averaged first, with ``coef_`` of shape (n_classes, C); with
    `n_views`, they are averaged over X and its views. For two classes there is a single row, as in scikit-learn, whose
    score is that of ``classes_[1]``, and that of ``classes_[0]`` is ``_opposite`` times it. These heads train on the
    samples and, with `augment`, on `n_augmented` copies of each, drawn once.
    """

    coef_: Array
    intercept_: Array
    _opposite = 0.0
    augment: Augmentation | None
    n_augmented: int
    n_prefix: int
    grid: tuple[int, int] | None

    def _plain_decisions_of(self, scores: Array) -> Array:
        """Return ``X @ coef_.T + intercept_``."""
        return scores[:, 1] if len(self.classes_) == 2 else scores

    def _scores(self, features: Array) -> Array:
        return self._completed(features @ self.coef_.T)

    def _completed(self, products: Array) -> Array:
        """Complete products (n, n_scores) with the weights to the scores of all classes."""
        scores: Array = products + self.intercept_
        # Two classes: from (n, 1), that of ``classes_[1]``, to (n, 2).
        return np.hstack([self._opposite * scores, scores]) if scores.shape[1] == 1 else scores

    def _check_augment(self) -> Augmentation:
        augment = super()._check_augment()
        refuse_mixing(augment, type(self).__name__)
        return augment

    def _draw_seed(self, random_state: np.random.RandomState) -> int:
        """Draw the seed of copies and views, which is all that is drawn."""
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
    """Methods that a product with the weights of many heads stands for, as those of `FeatureClassifier._fit_steps`."""
