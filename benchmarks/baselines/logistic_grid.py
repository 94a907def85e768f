"""Logistic regression of DINOv2, its penalty chosen among 45.

Source: facebookresearch/dinov2, ``dinov2/eval/log_regression.py``: C is 10 to the power of 45 evenly spaced numbers
from -6 to 5; the one with the best accuracy on a random tenth of the training samples, the smallest of equal ones, is
fitted to all of them. Features are as they are, and training takes 1,000 iterations at most. The code uses cuML, this
is scikit-learn's, warm-started from one C to the next, on features rotated to as many channels as there are samples,
which changes no prediction.
"""

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from baselines.head import Array, Codes, Head

POWERS = np.linspace(-6, 5, 45)
ITERATIONS = 1000


class LogisticGrid(Head):
    """Multinomial logistic regression with the best of 45 penalties on a tenth of the samples.

    Parameters
    ----------
    seed : int, default=0
        Draws the tenth.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def _fit(self, X: Array, codes: Codes) -> None:
        self.n_classes_ = int(codes.max()) + 1
        # Rows of X are combinations of the rows of `rotation_`, and so are the weights of every fit.
        self.rotation_ = np.linalg.svd(X, full_matrices=False)[2]
        rows = X @ self.rotation_.T
        shuffled = np.random.default_rng(self.seed).permutation(len(rows))
        held_out, kept = np.split(shuffled, [max(len(rows) // 10, 1)])
        scores = [
            np.mean(model.predict(rows[held_out]) == codes[held_out]) for model in path(rows[kept], codes[kept], POWERS)
        ]
        # argmax is the first of equal ones.
        self.power_ = float(POWERS[int(np.argmax(scores))])
        (self.estimator_,) = path(rows, codes, [self.power_])

    def _scores(self, X: Array) -> Array:
        scores = self.estimator_.decision_function(X @ self.rotation_.T)
        return np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores


def path(X: Array, codes: Codes, powers: Iterable[float]) -> list[Any]:
    """Fit one model for each power of ten."""
    models, start = [], None
    for power in powers:
        model = LogisticRegression(C=10.0**power, max_iter=ITERATIONS, tol=1e-6, warm_start=True)
        # With a warm start, a fit begins at the attributes that are there.
        if start is not None:
            model.coef_, model.intercept_ = start.coef_.copy(), start.intercept_.copy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            start = model.fit(X, codes)
        models.append(model)
    return models
