"""Stages of a path of penalties, where the problems are on it, and when one is solved."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from frofa.estimators.solvers.problems import Problems

ROUGH = 1e-3
"""Relative distance from the minimum at which a solution is good enough to go on from."""
CLOSE = 1e-2
"""Distance from the minimum, relative to the objective, at which a problem is solved, as a share of the tolerance. By
default, it is the 1e-8 that benchmarks/search.py finds as the worst gap of `logistic`."""
FLOOR = 1e-8
"""Root of the objective's distance from the minimum that always does, if the tolerance is no smaller."""


class Stage(NamedTuple):
    """Point of the path: solved to `tol`, or only roughly, as a step to the next, where that is None."""

    C: float
    tol: float | None
    max_iter: int


class Solution(NamedTuple):
    """Weights (B, n_scores, D), iterations (B,), and whether the tolerance was reached (B,)."""

    coef: Tensor
    n_iter: Tensor
    converged: Tensor


class Goal(NamedTuple):
    """Bounds of the gradient, and of the distance from the minimum, relative and absolute, that make a solution."""

    gradient: float | Tensor
    relative: float | Tensor
    least: float | Tensor

    @classmethod
    def of(cls, tol: float | None) -> "Goal":
        """Make the goal of a tolerance, or a rough one where that is None."""
        if tol is None:
            return cls(math.inf, ROUGH, 0.0)
        # Where weights grow without end, as with samples of one class only, the value goes to zero.
        return cls(tol, tol * CLOSE, min(tol, FLOOR) ** 2)

    def distance(self, gradient: Tensor, slope: Tensor, value: Tensor) -> Tensor:
        """Measure how far problems (B,) are from solved, at most 1 where they are: by gradient, and by objective.

        Along the Newton direction, half the slope (B, 1, 1) is the distance from the minimum; which is no more than the
        objective itself, as that is never negative.
        """
        steepness = gradient.abs().amax((1, 2)).double() / self.gradient
        left = torch.minimum(-0.5 * slope[:, 0, 0], value)
        return torch.maximum(steepness, left / (self.relative * value).clamp(min=self.least))


class State(NamedTuple):
    """State of all problems.

    Weights and the gradient of the mean cross-entropy alone are (B, n_scores, D); scores, probabilities and errors in
    probability are (B, n, n_scores).
    """

    coef: Tensor
    scores: Tensor
    probabilities: Tensor
    errors: Tensor
    gradient: Tensor

    @classmethod
    def start(cls, problems: Problems) -> "State":
        """Begin with all weights zero."""
        coef = problems.exact.new_zeros(problems.shape)
        return cls.at(problems, coef, coef.new_zeros(*problems.targets.shape))

    @classmethod
    def at(cls, problems: Problems, coef: Tensor, scores: Tensor, *, exact: bool = False) -> "State":
        """Compute the rest in the format of `coef`, but the gradient's product in that of `fast` unless `exact`."""
        probabilities = problems.probabilities(scores)
        errors = problems.errors(scores, probabilities)
        gradient = problems.gradient(errors) if exact else problems.pull_back(problems.weighted(errors)).to(coef.dtype)
        return cls(coef, scores, probabilities, errors, gradient)

    def check(self, problems: Problems, *, exact: bool) -> "State":
        """Compute scores and probabilities, and on demand the product of the gradient, from the weights in float64."""
        coef = self.coef.double()
        return State.at(problems, coef, problems.scores(coef), exact=exact)

    def to(self, dtype: torch.dtype) -> "State":
        """Convert all to another floating-point format."""
        return State(*(part.to(dtype) for part in self))

    def full_gradient(self, penalty: Tensor) -> Tensor:
        """Return the gradient (B, n_scores, D) of the objective, penalty and all."""
        return torch.addcmul(self.gradient, penalty.to(self.coef.dtype), self.coef)


class Watch:
    """Whether the distance from the solution still shrinks."""

    def __init__(self) -> None:
        self._best, self._waited = math.inf, 0

    def stalled(self, distance: float, patience: int) -> bool:
        """Tell whether it has not been halved in so many iterations."""
        if distance < 0.5 * self._best:
            self._best, self._waited = distance, 0
        self._waited += 1
        return self._waited > patience
