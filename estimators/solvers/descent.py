"""One line search and one descent: preconditioned L-BFGS for logistic regressions side by side, at one C."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from frofa.estimators.solvers.lbfgs import Memory
from frofa.estimators.solvers.preconditioner import Preconditioner
from frofa.estimators.solvers.problems import Problems, dot, penalised
from frofa.estimators.solvers.stages import Goal, Solution, Stage, State, Watch

PATIENCE, ROUGH_PATIENCE = 30, 3
"""Iterations in which the distance from the solution is to be halved; the second holds where all is in float32, from
which there is a way on in float64. Neither is reached in `logistic` of benchmarks/search.py."""
MAX_TRIALS = 20
"""Most lengths that are tried for a step; bisection alone finds one in a bracket of a millionth of its size."""
LONGEST = 1e3
"""Longest step that is tried first: it is about 1 where the direction is Newton's, and anything by rounding."""
SAFE = 1e-7
"""Least tolerance, for features of unit size, that scores in float32 are good enough to get to: a unit of rounding."""
NEAR, TRUSTED = 1e3, 1e4
"""Distance from the solution, in units of the tolerance, at which scores in float32 have done their part, and from
which products in float32 lead to it without another check."""


class Line(NamedTuple):
    """A direction (B, n_scores, D) from a state, and what moving along it changes.

    The change of the scores is (B, n, n_scores); slope, penalised square and whether a problem moves are (B, 1, 1).
    Direction and change are in the format of products with the features.
    """

    direction: Tensor
    change: Tensor
    slope: Tensor
    square: Tensor
    moving: Tensor

    @classmethod
    def towards(cls, problems: Problems, penalty: Tensor, direction: Tensor, slope: Tensor, moving: Tensor) -> "Line":
        """Compute what a direction changes."""
        direction = torch.where(moving, direction, 0)  # of solved problems, it may be anything
        return cls(direction, problems.scores(direction), slope, penalised(penalty, direction), moving)

    @classmethod
    def along(cls, state: State, penalty: Tensor, coef: Tensor, scores: Tensor, dtype: torch.dtype) -> "Line":
        """Take a direction whose change of the scores is known, which takes no product with the features."""
        slope = dot(state.full_gradient(penalty), coef.to(state.coef.dtype)).double()
        return cls(coef.to(dtype), scores.to(dtype), slope, penalised(penalty, coef), slope < 0)

    def bend(self, problems: Problems, probabilities: Tensor) -> Tensor:
        """Return the second derivative (B, 1, 1) of the objective."""
        bend = problems.curvature(probabilities, self.change) + self.square
        return bend.clamp(min=torch.finfo(bend.dtype).tiny)


class Trial(NamedTuple):
    """A length (B, 1, 1) along a line, what is found there, and the bracket that is known of the best one.

    Scores, probabilities, errors, and how far weighted errors have moved, are (B, n, n_scores). The slope that is left,
    the bracket, and whether another length is to be tried are (B, 1, 1).
    """

    length: Tensor
    scores: Tensor
    probabilities: Tensor
    errors: Tensor
    moved: Tensor
    left: Tensor
    low: Tensor
    high: Tensor
    again: Tensor


def newton_length(problems: Problems, state: State, line: Line) -> Tensor:
    """Find the length at which the slope would be zero if the objective were a parabola."""
    return torch.where(line.moving, (-line.slope / line.bend(problems, state.probabilities)).clamp(max=LONGEST), 0)


def first_trial(problems: Problems, state: State, line: Line, length: Tensor) -> Trial:
    """Try a length, of which nothing is known."""
    return _try(problems, state, line, length, torch.zeros_like(length), torch.full_like(length, math.inf))


def next_trial(problems: Problems, state: State, line: Line, trial: Trial) -> Trial:
    """Try another length where the last was too short or too long: Newton's, or bisection's where that strays."""
    # The bracket (B, 1, 1): the longest length that was too short, and the shortest that was too long.
    length, left = trial.length, trial.left
    low, high = torch.where(left < 0, length, trial.low), torch.where(left > 0, length, trial.high)
    # Newton's length, unless it leaves the bracket or goes ten times as far; then the middle, or twice the length.
    newton = length - left / line.bend(problems, trial.probabilities)
    middle = torch.where(high.isinf(), 2 * length, (low + high) / 2)
    within = (newton > low) & (newton < torch.minimum(high, 10 * length))
    length = torch.where(trial.again, torch.where(within, newton, middle), length)
    return _try(problems, state, line, length, low, high)


def _try(problems: Problems, state: State, line: Line, length: Tensor, low: Tensor, high: Tensor) -> Trial:
    """Look at a length: it will do where the slope has at most half its size."""
    # Scores, probabilities and errors there, (B, n, n_scores).
    dtype = state.coef.dtype
    scores = torch.addcmul(state.scores, length.to(dtype), line.change.to(dtype))
    probabilities = problems.probabilities(scores)
    errors = problems.errors(scores, probabilities)
    # The slope there: that at the start, and what the errors' change and the penalty add.
    moved = problems.weighted(errors - state.errors)
    left = line.slope + dot(moved, line.change) + length * line.square
    again = line.moving & (left.abs() > 0.5 * line.slope.abs())
    return Trial(length, scores, probabilities, errors, moved, left, low, high, again)


def search(problems: Problems, state: State, line: Line, length: Tensor) -> Trial:
    """Find a length that will do, from a first one.

    Scores are linear in the weights, so that trying another length takes no product with the features. The objective is
    convex: Newton's method finds the length, and bisection where it leaves the bracket.
    """
    trial = first_trial(problems, state, line, length)
    for _ in range(MAX_TRIALS - 1):
        if not trial.again.any():
            break
        trial = next_trial(problems, state, line, trial)
    return trial


def stride(problems: Problems, state: State, line: Line, trial: Trial) -> tuple[Tensor, Tensor]:
    """Compute the step that was found, and what the gradient of the cross-entropy gains by it, both (B, n_scores, D).

    The gain is no difference of gradients, which would be rounding where it is small.
    """
    dtype = state.coef.dtype
    return trial.length.to(dtype) * line.direction, problems.pull_back(trial.moved).to(dtype)


def move(problems: Problems, state: State, line: Line, trial: Trial) -> tuple[State, Tensor, Tensor]:
    """Take the step that was found; also return it, and what the gradient of the cross-entropy gains by it."""
    step, gain = stride(problems, state, line, trial)
    there = State(state.coef + step, trial.scores, trial.probabilities, trial.errors, state.gradient + gain)
    return there, step, gain


class Descent:
    """The way to the minimum for one C, of all problems; those that are there stay where they are.

    All is in float32 at first. What is found is checked with scores in float64, and approached further from there where
    it is not near enough, with small changes still computed from products in float32; where these do not get closer,
    products are in float64, too. A strict tolerance is approached in this way from early on. On a CPU, the search of
    benchmarks/search.py takes 1.1 times as long with scores and weights in float64, and 1.7 times with products, too.
    """

    def __init__(self, problems: Problems, precondition: Preconditioner, state: State, penalty: Tensor, stage: Stage):
        self.problems, self.precondition, self.penalty, self.stage = problems, precondition, penalty, stage
        self.start, self.value = state, problems.objective(state.scores, state.coef, penalty)
        self.exact = stage.tol is not None and stage.tol < SAFE * problems.size
        self.rough, self.checked = problems.starts_in_float32, stage.tol is None
        precondition.update(state.probabilities, penalty)
        self.state = state.to(torch.float32 if self.rough else torch.float64)
        self.gradient = self.state.full_gradient(penalty)
        self.memory, self.watch, self.steps = Memory(self._fast(self.gradient)), Watch(), 0
        self.n_iter = torch.zeros(len(state.coef), dtype=torch.int64, device=state.coef.device)
        self.best, self.done, self.nearest = self.state, self.n_iter < 0, math.inf

    def run(self) -> tuple[State, Solution]:
        """Approach the minimum, as near as `max_iter` steps and rounding allow."""
        for _ in range(2 * self.stage.max_iter + 4):
            direction, slope = self.memory.direction(self._fast(self.gradient), self.precondition)
            distance = self._distance(slope)
            worst = float(distance.max())
            if not math.isfinite(worst):
                break
            # Only a state that can be trusted: checked in float64, near one that was, or of a rough stage.
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

    def _fast(self, tensor: Tensor) -> Tensor:
        """Convert to the format of products with the features."""
        return tensor.to(self.problems.fast.dtype)

    def _end(self) -> tuple[State, Solution]:
        """Return the best that was found, or where it all began, if steps that rounding misled have led uphill."""
        if not self.done.all():
            found, start = (state.check(self.problems, exact=False) for state in (self.best, self.start))
            # Objectives (B,) of the end and of the start, both from the weights in float64.
            values = [self.problems.objective(state.scores, state.coef, self.penalty) for state in (found, start)]
            uphill = (values[0] > values[1])[:, None, None]
            self.best = State(*(torch.where(uphill, *pair) for pair in zip(start, found, strict=True)))
        return self.best, Solution(self.best.coef.double(), self.n_iter, self.done)

    def _check(self, stalled: bool) -> bool:
        """Ask float64 where things are, and see to it that they can go on; False where they cannot."""
        # No nearer with scores in float64 either: products have to be, too, and the pairs of steps begin anew.
        if stalled and not self.rough:
            if self.problems.fast.dtype == torch.float64:
                return False
            self.problems.use_float64()
            self.precondition.update(self.state.probabilities, self.penalty)
            self.memory = Memory(self._fast(self.gradient))
        if stalled:
            self.problems.starts_in_float32 = False
        self.state = self.state.check(self.problems, exact=self.exact or stalled)
        self.gradient = self.state.full_gradient(self.penalty)
        self.rough, self.checked, self.watch = False, True, Watch()
        return True

    def _advance(self, direction: Tensor, slope: Tensor, active: Tensor) -> None:
        line = Line.towards(self.problems, self.penalty, direction, slope, active[:, None, None])
        trial = search(self.problems, self.state, line, newton_length(self.problems, self.state, line))
        self.state, step, gain = move(self.problems, self.state, line, trial)
        self.gradient = self.state.full_gradient(self.penalty)
        # The whole gradient also gains the penalty's part.
        gain = torch.addcmul(gain, self.penalty.to(gain.dtype), step)
        self.memory.add(self._fast(step), self._fast(gain))
        self.n_iter += active
        self.steps += 1
        self.checked = self.stage.tol is None or (self.checked and self.nearest <= TRUSTED)
        if self.precondition.refresh and self.steps % self.precondition.refresh == 0:
            self.precondition.update(self.state.probabilities, self.penalty)

    def _distance(self, slope: Tensor) -> Tensor:
        """Measure how far from solved problems (B,) are."""
        goal = Goal.of(self.stage.tol)
        distance = goal.distance(self.gradient, slope, self.value)
        if not (distance > 1).any():  # the objective of some steps ago is near enough, except at the end
            self.value = self.problems.objective(self.state.scores, self.state.coef, self.penalty)
            distance = goal.distance(self.gradient, slope, self.value)
        return distance
