"""Logistic regression with scikit-learn's objective, solved where the samples are few and the channels many."""

import warnings
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval

from frofa.augmentations import Augmentation
from frofa.estimators._augmented import CONSTRAINTS
from frofa.estimators._base import LinearClassifier, Support
from frofa.estimators._device import threads_for
from frofa.estimators._newton import fit_logistic


class LogisticProbeClassifier(LinearClassifier):
    """L2-regularised logistic regression, multinomial for more than two classes.

    The objective and its minimum are those of `sklearn.linear_model.LogisticRegression`: ``C`` times the summed
    cross-entropy plus half the squared norm of the weights, the intercept not penalised. It is found in float64 by
    Newton's method, in the span of the samples where they are fewer than the channels.

    Parameters
    ----------
    C : float, default=1.0
        Inverse strength of the penalty.
    tol : float, default=1e-8
        On the largest element of the gradient of the mean objective.
    max_iter : int, default=100
        Newton steps at most.
    class_weight : dict or "balanced", default=None
        As in scikit-learn.
    augment : Augmentation, default=None
        Fit to the samples and to augmented copies of them. This and all that follow are as in `RidgeProbeClassifier`.
    n_augmented : int, default=10
        Copies of each sample, which share its weight.
    n_views : int, default=0
        Augmented views that scores are averaged over at prediction, as in `RidgeProbeClassifier`.
    n_prefix : int, default=0
        Tokens at the front that are not augmented.
    grid : (int, int), default=None
        Height and width of the grid of tokens; None is a square.
    random_state : int, RandomState or None, default=None
        Of copies and views.

    Attributes
    ----------
    coef_ : ndarray of shape (n_classes, C), or (1, C) for two classes
    intercept_ : ndarray of shape (n_classes,) or (1,)
    n_iter_ : int
        Newton steps taken.
    augment_seed_ : int
        Of copies and views; with `augment` only.
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int

    Examples
    --------
    Features of different scales are best standardised first, ``make_pipeline(StandardScaler(),
    LogisticProbeClassifier(C=0.01))``.

    >>> import numpy as np
    >>> from frofa.estimators import LogisticProbeClassifier
    >>> features = np.random.default_rng(0).normal(size=(20, 8)) + np.repeat([[0], [3]], 10, axis=0)
    >>> LogisticProbeClassifier(C=0.1).fit(features, np.repeat(["cat", "dog"], 10)).predict(features[[0, 19]]).tolist()
    ['cat', 'dog']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "C": [Interval(Real, 0, None, closed="neither")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "class_weight": [dict, str, None],
        **CONSTRAINTS,
    }

    def __init__(
        self,
        C: float = 1.0,
        *,
        tol: float = 1e-8,
        max_iter: int = 100,
        class_weight: dict[Any, float] | str | None = None,
        augment: Augmentation | None = None,
        n_augmented: int = 10,
        n_views: int = 0,
        n_prefix: int = 0,
        grid: tuple[int, int] | None = None,
        random_state: int | np.random.RandomState | None = None,
    ):
        self.C = C
        self.tol = tol
        self.max_iter = max_iter
        self.class_weight = class_weight
        self.augment = augment
        self.n_augmented = n_augmented
        self.n_views = n_views
        self.n_prefix = n_prefix
        self.grid = grid
        self.random_state = random_state

    def _fit(self, support: Support) -> None:
        support = support.weighted().augmented()
        with threads_for(support.features.size):
            solution = fit_logistic(
                torch.tensor(support.features),
                torch.tensor(support.codes),
                torch.tensor(support.weights),
                len(self.classes_),
                float(self.C),
                tol=self.tol,
                max_iter=self.max_iter,
            )
        if not solution.converged:
            warnings.warn(
                f"Newton's method did not reach tol={self.tol} in {solution.n_iter} steps: scale the features, or "
                "raise max_iter.",
                ConvergenceWarning,
                stacklevel=2,
            )
        self.coef_, self.intercept_ = solution.coef.numpy(), solution.intercept.numpy()
        self.n_iter_ = solution.n_iter
