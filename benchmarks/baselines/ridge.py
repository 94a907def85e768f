"""Least squares of big_vision, with its fixed penalty.

Source: google-research/big_vision, ``evaluators/fewshot_lsr.py`` and ``configs/common_fewshot.py``: features are
standardised (deviation plus 1e-5), a constant of 100 makes the intercept almost unpenalised, targets are -1 and +1, and
the penalty is 2^10. `frofa.estimators.RidgeProbeClassifier` is the same with a penalty chosen by leave-one-out.
"""

import numpy as np

from baselines.head import Array, Codes, Head

BIAS = 100.0
PENALTY = 2.0**10


class FixedRidge(Head):
    """Ridge regression to -1 and +1 with a penalty of 2^10."""

    def _fit(self, X: Array, codes: Codes) -> None:
        self.mean_, self.deviation_ = X.mean(0), X.std(0) + 1e-5
        rows = self._with_constant(X)
        targets = 2 * np.eye(codes.max() + 1)[codes] - 1
        # X^T (X X^T + penalty I)^-1 Y: as many equations as samples.
        self.coef_ = rows.T @ np.linalg.solve(rows @ rows.T + PENALTY * np.eye(len(rows)), targets)

    def _scores(self, X: Array) -> Array:
        scores: Array = self._with_constant(X) @ self.coef_
        return scores

    def _with_constant(self, X: Array) -> Array:
        return np.pad((X - self.mean_) / self.deviation_, ((0, 0), (0, 1)), constant_values=BIAS)
