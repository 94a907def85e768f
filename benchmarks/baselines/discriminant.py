"""Linear discriminants with a shrunk covariance.

Sources: Wang et al., "A Hard-to-Beat Baseline for Training-Free CLIP-based Adaptation", ICLR 2024, arXiv 2402.04087,
equations 5 and 6, and ``main_few_shots.py`` of its code: Kubokawa and Srivastava's estimate of the inverse covariance,
C ((N - 1) S + tr(S) I)^-1, of normalised features. The paper adds the logits of CLIP's texts, which there are none of
here, and makes ten crops of each image: pass several views of an image as samples of their own for that.

scikit-learn's `LinearDiscriminantAnalysis` with ``shrinkage="auto"``: Ledoit and Wolf's estimate.
"""

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from baselines.head import Array, Codes, Head, class_means, normalised


class ShrunkDiscriminant(Head):
    """Gaussian discriminants with the inverse covariance of Kubokawa and Srivastava."""

    def _fit(self, X: Array, codes: Codes) -> None:
        X = normalised(X)
        means = class_means(X, codes)
        residuals = X - means[codes]
        n, channels = X.shape
        trace = np.square(residuals).sum() / (n - 1)
        # P = C (R^T R + trace I)^-1 = C/trace (I - R^T (R R^T + trace I)^-1 R): n equations, not C. One sample a class
        # leaves no residuals, and the inverse covariance is proportional to the identity: nearest class mean.
        if trace > 0:
            inner = np.linalg.solve(residuals @ residuals.T + trace * np.eye(n), residuals @ means.T)
            weights = channels / trace * (means - inner.T @ residuals)
        else:
            weights = means
        self.coef_ = weights
        self.intercept_ = -0.5 * (weights * means).sum(1)

    def _scores(self, X: Array) -> Array:
        scores: Array = normalised(X) @ self.coef_.T + self.intercept_
        return scores


class LedoitWolfDiscriminant(Head):
    """`LinearDiscriminantAnalysis` of scikit-learn, with ``shrinkage="auto"``, on features as they are.

    It needs more samples than classes.
    """

    def _fit(self, X: Array, codes: Codes) -> None:
        self.estimator_ = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(X, codes)

    def _scores(self, X: Array) -> Array:
        # Of two classes scikit-learn gives one score.
        scores = self.estimator_.decision_function(X)
        return np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores
