"""The minimum of L2-regularised logistic regression for one C, several problems at once: preconditioned L-BFGS."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from frofa.estimators.solvers.problems import Batch, dot

MEMORY = 5
"""Pairs of steps and gradient changes that L-BFGS keeps."""
PATIENCE, ROUGH_PATIENCE = 30, 3
"""Iterations in which the distance from the solution is to be halved; the second holds where all is in float32."""
REFRESH = 2
"""Iterations that an inverted Hessian serves."""
ROUGH = 1e-3
"""Relative distance from the minimum at which a solution is good enough to go on from."""
MAX_TRIALS = 20
"""Lengths of a step that are tried at most."""
CLOSE = 1e-2
"""Of the tolerance: the distance from the minimum, relative to the objective, at which a problem is solved."""
LONGEST = 1e3
"""Step along a direction at first: it is about 1 where the direction is Newton's."""
SAFE = 1e-7
"""Tolerance, for features of unit size, that scores in float32 are good enough to get to."""
FLOOR = 1e-8
"""Root of the objective's distance from the minimum that always does, if the tolerance is no smaller."""
NEAR, TRUSTED = 1e3, 1e4
"""Distance from the solution, in units of the tolerance, at which scores in float32 have done their part, and from
which products in float32 lead to it without another check."""
Preconditioner = Callable[[Tensor], Tensor]


class Stage(NamedTuple):
    """A point of the path: solved to `tol`, or only roughly, as a step to the next, where that is None."""

    C: float
    tol: float | None
    max_iter: int


class Solution(NamedTuple):
    """Weights (B, n_scores, D), iterations (B,), and whether the tolerance was reached (B,)."""

    coef: Tensor
    n_iter: Tensor
    converged: Tensor


class Goal(NamedTuple):
    """What a solution is: bounds of the gradient, and of the distance from the minimum, relative and absolute."""

    gradient: float | Tensor
    relative: float | Tensor
    least: float | Tensor

    @classmethod
    def of(cls, tol: float | None) -> "Goal":
        """By tolerance, or a rough one where that is None."""
        if tol is None:
            return cls(math.inf, ROUGH, 0.0)
        # Where weights grow without end, as with samples of one class only, the value goes to zero.
        return cls(tol, tol * CLOSE, min(tol, FLOOR) ** 2)

    def distance(self, gradient: Tensor, slope: Tensor, value: Tensor) -> Tensor:
        """How far from solved problems (B,) are, at most 1 where they are: by the gradient, and then by the objective.

        Along the Newton direction, half the slope (B, 1, 1) is the distance from the minimum; which is no more than the
        objective itself, as that is never negative.
        """
        steepness = gradient.abs().amax((1, 2)).double() / self.gradient
        left = torch.minimum(-0.5 * slope[:, 0, 0], value)
        return torch.maximum(steepness, left / (self.relative * value).clamp(min=self.least))


class State(NamedTuple):
    """Where all problems are, and the gradient of the mean cross-entropy alone; errors are those in probability."""

    coef: Tensor
    scores: Tensor
    probabilities: Tensor
    errors: Tensor
    gradient: Tensor

    @classmethod
    def start(cls, batch: Batch) -> "State":
        """All weights zero."""
        coef = batch.exact.new_zeros(batch.shape)
        return cls.at(batch, coef, coef.new_zeros(*batch.targets.shape))

    @classmethod
    def at(cls, batch: Batch, coef: Tensor, scores: Tensor, *, exact: bool = False) -> "State":
        """Anywhere; all but the product of the gradient, unless that is to be `exact`, is in the format of `coef`."""
        probabilities = batch.probabilities(scores)
        errors = batch.errors(scores, probabilities)
        gradient = batch.gradient(errors) if exact else batch.pull_back(batch.weighted(errors)).to(coef.dtype)
        return cls(coef, scores, probabilities, errors, gradient)

    def check(self, batch: Batch, *, exact: bool) -> "State":
        """Compute scores and probabilities, and on demand the product of the gradient, from the weights in float64."""
        coef = self.coef.double()
        return State.at(batch, coef, batch.scores(coef), exact=exact)

    def to(self, dtype: torch.dtype) -> "State":
        """In another floating-point format."""
        return State(*(part.to(dtype) for part in self))


class Descent:
    """The way to the minimum for one C, of all problems of the batch; those that are there stay where they are.

    All is in float32 at first. What is found is checked with scores in float64, and approached further from there where
    it is not near enough, with small changes still computed from products in float32; where these do not get closer,
    products are in float64, too. A strict tolerance is approached in this way from early on.
    """

    def __init__(self, batch: Batch, state: State, penalty: Tensor, stage: Stage):
        self.batch, self.penalty, self.stage, self.start = batch, penalty, stage, state
        self.value = self._objective(state)
        self.exact = stage.tol is not None and stage.tol < SAFE * batch.size
        self.rough, self.checked = batch.rough, stage.tol is None
        self.precondition = batch.preconditioner(state.probabilities, penalty)
        self.state = state.to(torch.float32) if self.rough else state.to(torch.float64)
        self.gradient = self.state.gradient + penalty.to(self.state.coef.dtype) * self.state.coef
        self.memory, self.watch, self.steps = _Memory(), Watch(), 0
        self.n_iter = torch.zeros(len(state.coef), dtype=torch.int64, device=state.coef.device)
        self.best, self.done, self.nearest = self.state, self.n_iter < 0, math.inf

    def run(self) -> tuple[State, Solution]:
        """Go there, or as near as `max_iter` steps and rounding allow."""
        for _ in range(2 * self.stage.max_iter + 4):
            direction, slope = self.memory.direction(self.gradient.to(self.batch.fast.dtype), self.precondition)
            distance = self._distance(slope)
            worst = float(distance.max())
            if not math.isfinite(worst):
                break
            if self.checked and worst <= self.nearest:
                self.best, self.done, self.nearest = self.state, distance <= 1, worst
            stalled = self.watch.stalled(worst, ROUGH_PATIENCE if self.rough else PATIENCE)
            ended = worst <= 1 or self.steps == self.stage.max_iter
            if stalled or (ended and not self.checked) or (self.exact and self.rough and worst <= NEAR):
                if not self._check(stalled):
                    break
            elif ended:
                break
            else:
                self._advance(direction, slope, distance > 1)
        return self._end()

    def _end(self) -> tuple[State, Solution]:
        """The best that was found, or where it all began, if steps that rounding misled have led uphill."""
        if not self.done.all():
            found, start = (state.check(self.batch, exact=False) for state in (self.best, self.start))
            uphill = (self._objective(found) > self._objective(start))[:, None, None]
            self.best = State(*(torch.where(uphill, *pair) for pair in zip(start, found, strict=True)))
        return self.best, Solution(self.best.coef.double(), self.n_iter, self.done)

    def _check(self, stalled: bool) -> bool:
        """Ask float64 where things are, and see to it that they can go on; False where they cannot."""
        if stalled and not self.rough:
            if self.batch.fast.dtype == torch.float64:
                return False
            self.batch.use_float64()
            self.precondition = self.batch.preconditioner(self.state.probabilities, self.penalty)
            self.memory = _Memory()
        self.batch.rough = self.batch.rough and not stalled
        self.state = self.state.check(self.batch, exact=self.exact or stalled)
        self.gradient = self.state.gradient + self.penalty * self.state.coef
        self.rough, self.checked, self.watch = False, True, Watch()
        return True

    def _advance(self, direction: Tensor, slope: Tensor, active: Tensor) -> None:
        self.state, step, gain = _step(self.batch, self.state, self.penalty, direction, slope, active)
        self.gradient = self.gradient + gain
        self.memory.add(step.to(direction.dtype), gain.to(direction.dtype))
        self.n_iter += active
        self.steps += 1
        self.checked = self.stage.tol is None or (self.checked and self.nearest <= TRUSTED)
        if self.batch.dense and self.steps % REFRESH == 0:
            self.precondition = self.batch.preconditioner(self.state.probabilities, self.penalty)

    def _objective(self, state: State) -> Tensor:
        """Of each problem, shape (B,), in float64."""
        return self.batch.losses(state.scores).double() + 0.5 * _penalised(self.penalty, state.coef)[:, 0, 0]

    def _distance(self, slope: Tensor) -> Tensor:
        """How far from solved problems (B,) are."""
        goal = Goal.of(self.stage.tol)
        for known in (True, False):  # the objective of some steps ago is near enough, except at the end
            self.value = self.value if known else self._objective(self.state)
            distance = goal.distance(self.gradient, slope, self.value)
            if (distance > 1).any():
                break
        return distance


def _step(
    batch: Batch, state: State, penalty: Tensor, direction: Tensor, slope: Tensor, active: Tensor
) -> tuple[State, Tensor, Tensor]:
    """Move along a direction to where its slope has at most half its size; also return step and gain of the gradient.

    Scores are linear in the weights, so that trying another length takes no product with the features. The objective is
    convex: Newton's method finds the length, and bisection where it leaves the bracket.
    """
    moving, dtype = active[:, None, None], state.coef.dtype
    direction = torch.where(moving, direction, 0)  # of solved problems, it may be anything
    change = batch.scores(direction)
    wide, square = change.to(dtype), _penalised(penalty, direction)
    low, high = torch.zeros_like(slope), torch.full_like(slope, torch.inf)
    tiny = torch.finfo(slope.dtype).tiny

    def bend(probabilities: Tensor) -> Tensor:
        return (batch.curvature(probabilities, change) + square).clamp(min=tiny)

    length = torch.where(moving, (-slope / bend(state.probabilities)).clamp(max=LONGEST), 0)
    for _ in range(MAX_TRIALS):
        scores = torch.addcmul(state.scores, length.to(dtype), wide)
        probabilities = batch.probabilities(scores)
        errors = batch.errors(scores, probabilities)
        moved = batch.weighted(errors - state.errors)
        left = slope + dot(moved, change) + length * square
        again = moving & (left.abs() > 0.5 * slope.abs())
        if not again.any():
            break
        low, high = torch.where(left < 0, length, low), torch.where(left > 0, length, high)
        newton = length - left / bend(probabilities)
        middle = torch.where(high.isinf(), 2 * length, (low + high) / 2)
        within = (newton > low) & (newton < torch.minimum(high, 10 * length))
        length = torch.where(again, torch.where(within, newton, middle), length)
    step = length.to(dtype) * direction
    pulled = batch.pull_back(moved).to(dtype)
    there = State(state.coef + step, scores, probabilities, errors, state.gradient + pulled)
    return there, step, torch.addcmul(pulled, penalty.to(dtype), step)


def _penalised(penalty: Tensor, coef: Tensor) -> Tensor:
    """Square (B, 1, 1) of the weights (B, n_scores, D) without the intercepts, times the penalty.

    The square of all less that of the intercepts would be rounding where a large penalty makes the others small.
    """
    rows = coef[:, :, :-1].contiguous()
    return penalty[:, :, :1] * dot(rows, rows)


class _Memory:
    """L-BFGS: the inverse Hessian from the latest steps and what the gradient gained by them.

    The recursion's inner products are those of the triangular matrix ``step_i . gain_j``, i <= j.
    """

    def __init__(self) -> None:
        self._n = 0
        self._steps = self._gains = self._inner = torch.empty(0)

    def add(self, step: Tensor, gain: Tensor) -> None:
        """Keep a pair; problems that did not move, or by rounding only, have no use of theirs."""
        if not self._n:
            self._steps, self._gains = (step.new_empty(len(step), MEMORY, step[0].numel()) for _ in range(2))
            self._inner = step.new_empty(len(step), MEMORY, MEMORY)
        if self._n == MEMORY:
            self._n -= 1
            for kept in (self._steps, self._gains):
                kept[:, :-1] = kept[:, 1:].clone()
            self._inner[:, :-1, :-1] = self._inner[:, 1:, 1:].clone()
        useful = dot(step, gain) > torch.finfo(step.dtype).tiny
        n = self._n = self._n + 1
        for kept, new in ((self._steps, step), (self._gains, gain)):
            torch.mul(new.flatten(1), useful[:, :, 0], out=kept[:, n - 1])
        self._inner[:, n - 1, :n] = 0
        self._inner[:, :n, n - 1 : n] = self._steps[:, :n] @ self._gains[:, n - 1 : n].mT
        self._inner[:, n - 1 : n, n - 1 : n] += ~useful

    def direction(self, gradient: Tensor, precondition: Preconditioner) -> tuple[Tensor, Tensor]:
        """Where to go from here (B, n_scores, D), and the slope (B, 1, 1) of the objective along it, in float64."""
        if not self._n:
            v = -precondition(gradient)
        else:
            steps, gains, inner = (
                self._steps[:, : self._n],
                self._gains[:, : self._n],
                self._inner[:, : self._n, : self._n],
            )
            alpha = torch.linalg.solve_triangular(inner, steps @ -gradient.flatten(1).unsqueeze(2), upper=True)
            v = precondition((-gradient.flatten(1) - (alpha.mT @ gains)[:, 0]).view(gradient.shape)).flatten(1)
            rest = inner.diagonal(dim1=1, dim2=2).unsqueeze(2) * alpha - gains @ v.unsqueeze(2)
            share = torch.linalg.solve_triangular(inner.mT, rest, upper=False)
            v = (v + (share.mT @ steps)[:, 0]).view(gradient.shape)
        slope = dot(gradient, v)
        if (slope > 0).any():  # by rounding only
            v = torch.where(slope > 0, -precondition(gradient), v)
            slope = dot(gradient, v)
        return v, slope.double()


class Watch:
    """Whether the distance from the solution still shrinks."""

    def __init__(self) -> None:
        self._best, self._waited = math.inf, 0

    def stalled(self, distance: float, patience: int) -> bool:
        """Whether it has not been halved in so many iterations."""
        if distance < 0.5 * self._best:
            self._best, self._waited = distance, 0
        self._waited += 1
        return self._waited > patience
