"""Newton's method with conjugate gradients for L2-regularised logistic regression."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_CG_STEPS = 200


class Solution(NamedTuple):
    """Weights (n_scores, C), intercepts (n_scores,), iterations, and whether the gradient is within the tolerance."""

    coef: Tensor
    intercept: Tensor
    n_iter: int
    converged: bool


def fit_logistic(
    features: Tensor, codes: Tensor, weights: Tensor, n_classes: int, C: float, *, tol: float, max_iter: int
) -> Solution:
    """Minimise ``C * sum_i weights_i * cross_entropy_i + ||coef||^2 / 2``, the intercept unpenalised.

    Two classes have a single score, that of class 1 against 0, as in scikit-learn; more have one each. All tensors in
    float64 on one device. With fewer samples than channels, the problem is solved in the span of the samples, which is
    exact: the solution lies there, and an orthonormal basis keeps the penalty.

    The tolerance is on the largest element of the gradient of the objective divided by ``C * sum(weights)``.
    """
    n, channels = features.shape
    basis = None
    if n < channels:
        basis, triangle = torch.linalg.qr(features.T)
        features = triangle.T.contiguous()
    x = torch.cat([features, features.new_ones(n, 1)], 1)
    penalty = torch.ones(x.shape[1], dtype=x.dtype, device=x.device) / (C * weights.sum())
    penalty[-1] = 0
    problem = _Problem(x, codes, weights / weights.sum(), penalty, binary=n_classes == 2)
    w = x.new_zeros(1 if n_classes == 2 else n_classes, x.shape[1])
    value, gradient, probabilities = problem.evaluate(w)
    n_iter, converged = 0, bool(gradient.abs().max() <= tol)
    while not converged and n_iter < max_iter:
        direction = _conjugate_gradients(problem, probabilities, gradient)
        slope = float((gradient * direction).sum())
        step = 1.0
        while True:
            candidate = w + step * direction
            new_value, new_gradient, new_probabilities = problem.evaluate(candidate)
            if new_value <= value + 1e-4 * step * slope or step < 1e-10:
                break
            step /= 2
        w, value, gradient, probabilities = candidate, new_value, new_gradient, new_probabilities
        n_iter += 1
        converged = bool(gradient.abs().max() <= tol)
    coef = w[:, :-1] if basis is None else w[:, :-1] @ basis.T
    return Solution(coef, w[:, -1], n_iter, converged)


class _Problem(NamedTuple):
    x: Tensor
    codes: Tensor
    weights: Tensor
    penalty: Tensor
    binary: bool

    def evaluate(self, w: Tensor) -> tuple[float, Tensor, Tensor]:
        """Objective, gradient, and probabilities of the scored classes."""
        scores = self.x @ w.T
        logits = torch.cat([torch.zeros_like(scores), scores], 1) if self.binary else scores
        log_p = F.log_softmax(logits, 1)
        losses = -log_p.gather(1, self.codes[:, None])[:, 0]
        value = float(losses @ self.weights + 0.5 * (self.penalty * w**2).sum())
        p = log_p.exp()
        error = p.clone()
        error[torch.arange(len(p), device=p.device), self.codes] -= 1
        if self.binary:
            p, error = p[:, 1:], error[:, 1:]
        return value, (error * self.weights[:, None]).T @ self.x + self.penalty * w, p

    def curvature(self, p: Tensor, v: Tensor) -> Tensor:
        """Product of the Hessian at probabilities `p` with a direction."""
        change = self.x @ v.T
        change = p * (change - (p * change).sum(1, keepdim=True))
        return (change * self.weights[:, None]).T @ self.x + self.penalty * v


def _conjugate_gradients(problem: _Problem, p: Tensor, gradient: Tensor) -> Tensor:
    """Solve Hessian @ direction = -gradient, more exactly the smaller the gradient."""
    direction = torch.zeros_like(gradient)
    residual = -gradient
    search = residual.clone()
    square = float((residual**2).sum())
    goal = min(0.25, square**0.25) ** 2 * square
    for _ in range(MAX_CG_STEPS):
        product = problem.curvature(p, search)
        curvature = float((search * product).sum())
        if curvature <= 0:  # only by rounding: the objective is convex
            break
        rate = square / curvature
        direction = direction + rate * search
        residual = residual - rate * product
        previous, square = square, float((residual**2).sum())
        if square <= goal:
            break
        search = residual + (square / previous) * search
    return direction if direction.any() else -gradient
