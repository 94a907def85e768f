"""Logistic regression with scikit-learn's objective, solved where the samples are few and the channels many."""

import warnings
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval

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

    Attributes
    ----------
    coef_ : ndarray of shape (n_classes, C), or (1, C) for two classes
    intercept_ : ndarray of shape (n_classes,) or (1,)
    n_iter_ : int
        Newton steps taken.
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
    }

    def __init__(
        self,
        C: float = 1.0,
        *,
        tol: float = 1e-8,
        max_iter: int = 100,
        class_weight: dict[Any, float] | str | None = None,
    ):
        self.C = C
        self.tol = tol
        self.max_iter = max_iter
        self.class_weight = class_weight

    def _fit(self, support: Support) -> None:
        support = support.weighted()
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
