"""L2-regularised logistic regression along a path of penalties, several problems at once: preconditioned L-BFGS."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from frofa.estimators._logistic_batch import Batch, dot

MEMORY = 5
"""Pairs of steps and gradient changes that L-BFGS keeps."""
PREDICTORS = 3
"""Solutions at smaller C that the next one is predicted from."""
PATIENCE, ROUGH_PATIENCE = 30, 3
"""Iterations in which the distance from the solution is to be halved; the second holds where all is in float32."""
REFRESH = 2
"""Iterations that an inverted Hessian serves."""
ROUGH = 1e-3
"""Relative distance from the minimum at which a solution is good enough to go on from."""
MAX_TRIALS = 20
"""Lengths of a step, or steps towards a prediction, that are tried at most."""
CLOSE = 1e-2
"""Of the tolerance: the distance from the minimum, relative to the objective, at which a problem is solved."""
LONGEST = 1e3
"""Step along a direction at first: it is about 1 where the direction is Newton's."""
SAFE = 1e-6
"""Tolerance that float32 reaches without a check, for features of unit size."""
NEAR = 1e3
"""Distance from the solution, in units of a stricter tolerance, at which float32 has done its part."""
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


def solve_path(batch: Batch, path: Sequence[Stage]) -> Iterator[Solution]:
    """Minimise for every C of a path, from small to large, each from what the smaller ones predict.

    A problem is solved where the largest element of the gradient of the objective, divided by ``C * sum(weights)``, is
    at most the tolerance, and the objective's distance from its minimum, as estimated and relative to it, at most a
    hundredth of that.

    Parameters
    ----------
    batch : Batch
    path : sequence of Stage
        C in ascending order.

    Yields
    ------
    Solution
        One a stage, as soon as it is solved.
    """
    state, before = _State.start(batch), deque[tuple[Tensor, Tensor]](maxlen=PREDICTORS)
    for stage in path:
        penalty = batch.penalty(stage.C)
        if before:
            coef, scores = _predict(batch, before, penalty)
            state = state.jump(batch, coef, scores)
        state, solution = _Descent(batch, state, penalty, stage).run()
        before.append((state.coef, state.scores))
        yield solution


class _State(NamedTuple):
    """Where all problems are: weights, scores, probabilities, and the gradient of the mean cross-entropy alone."""

    coef: Tensor
    scores: Tensor
    probabilities: Tensor
    gradient: Tensor

    @classmethod
    def start(cls, batch: Batch) -> "_State":
        """All weights zero."""
        return cls.at(batch, batch.exact.new_zeros(batch.shape))

    @classmethod
    def at(cls, batch: Batch, coef: Tensor) -> "_State":
        """Everything from the weights, in float64."""
        coef = coef.double()
        scores = batch.scores(coef)
        probabilities = batch.probabilities(scores)
        return cls(coef, scores, probabilities, batch.gradient(probabilities))

    def jump(self, batch: Batch, coef: Tensor, scores: Tensor) -> "_State":
        """Somewhere else: what the gradient gains comes from the change of the probabilities."""
        probabilities = batch.probabilities(scores)
        gain = batch.pull_back(batch.weighted(probabilities - self.probabilities))
        return _State(coef, scores, probabilities, self.gradient + gain)

    def to(self, dtype: torch.dtype) -> "_State":
        return _State(*(part.to(dtype) for part in self))


class _Descent:
    """The way to the minimum for one C, of all problems of the batch; those that are there stay where they are.

    All is in float32 at first. A strict tolerance is then approached from where float64 says that things are, and with
    small changes still computed from products in float32; where these do not get closer, products are in float64, too.
    """

    def __init__(self, batch: Batch, state: _State, penalty: Tensor, stage: Stage):
        self.batch, self.penalty, self.stage = batch, penalty, stage
        self.strict = stage.tol is not None and stage.tol < SAFE * batch.size
        self.rough, self.checked = batch.rough, not self.strict
        self.state = state.to(torch.float32) if self.rough else state
        self.gradient = self.state.gradient + penalty.to(self.state.coef.dtype) * self.state.coef
        self.memory, self.watch, self.steps = _Memory(), _Watch(), 0
        self.n_iter = torch.zeros(len(state.coef), dtype=torch.int64, device=state.coef.device)
        self.best, self.done, self.nearest = self.state, self.n_iter < 0, torch.inf
        self.precondition = batch.preconditioner(state.probabilities, penalty)

    def run(self) -> tuple[_State, Solution]:
        """Go there, or as near as `max_iter` steps and rounding allow."""
        for _ in range(2 * self.stage.max_iter + 2):
            direction, slope = self.memory.direction(self.gradient.to(self.batch.fast.dtype), self.precondition)
            distance = _distance(self.batch, self.state, self.penalty, self.gradient, slope, self.stage.tol)
            worst = float(distance.max())
            if not math.isfinite(worst):
                break
            if self.checked and worst <= self.nearest:
                self.best, self.done, self.nearest = self.state, distance <= 1, worst
            stalled = self.watch.stalled(worst, ROUGH_PATIENCE if self.rough else PATIENCE)
            ended = worst <= 1 or self.steps == self.stage.max_iter
            if stalled or (ended and not self.checked) or (self.strict and self.rough and worst <= NEAR):
                if not self._check(worst, stalled):
                    break
            elif ended:
                break
            else:
                self._advance(direction, slope, distance > 1)
        return self.best, Solution(self.best.coef.double(), self.n_iter, self.done)

    def _check(self, worst: float, stalled: bool) -> bool:
        """Ask float64 where things are, and see to it that they can go on; False where they cannot."""
        self.batch.rough = self.batch.rough and not stalled
        self.state, self.rough, self.checked = _State.at(self.batch, self.state.coef), False, True
        self.gradient = self.state.gradient + self.penalty * self.state.coef
        if self.watch.failed(worst):
            if stalled and self.batch.fast.dtype == torch.float64:
                return False
            self.batch.use_float64()
            self.precondition = self.batch.preconditioner(self.state.probabilities, self.penalty)
            self.memory = _Memory()
        return True

    def _advance(self, direction: Tensor, slope: Tensor, active: Tensor) -> None:
        self.state, step, gain = _step(self.batch, self.state, self.penalty, direction, slope, active)
        self.gradient = self.gradient + gain
        self.memory.add(step.to(direction.dtype), gain.to(direction.dtype))
        self.n_iter += active
        self.steps += 1
        self.checked = not self.strict
        if self.batch.dense and self.steps % REFRESH == 0:
            self.precondition = self.batch.preconditioner(self.state.probabilities, self.penalty)


def _distance(
    batch: Batch, state: _State, penalty: Tensor, gradient: Tensor, slope: Tensor, tol: float | None
) -> Tensor:
    """How far from solved problems (B,) are, at most 1 where they are: by the gradient, and then by the objective.

    Along the Newton direction, half the slope is the distance from the minimum.
    """
    steepness = gradient.abs().amax((1, 2)).double() / (torch.inf if tol is None else tol)
    if (steepness > 1).all():
        return steepness
    value = batch.losses(state.scores) + 0.5 * (penalty * state.coef**2).sum((1, 2))
    # Where weights grow without end, as with samples of one class only, the value goes to zero.
    allowed = ROUGH * value if tol is None else tol * (CLOSE * value).clamp(min=tol)
    return torch.maximum(steepness, -0.5 * slope[:, 0, 0] / allowed)


def _step(
    batch: Batch, state: _State, penalty: Tensor, direction: Tensor, slope: Tensor, active: Tensor
) -> tuple[_State, Tensor, Tensor]:
    """Move along a direction to where its slope has at most half its size; also return step and gain of the gradient.

    Scores are linear in the weights, so that trying another length takes no product with the features. The objective is
    convex: Newton's method finds the length, and bisection where it leaves the bracket.
    """
    moving, dtype = active[:, None, None], state.coef.dtype
    direction = torch.where(moving, direction, 0)  # of solved problems, it may be anything
    change = batch.scores(direction)
    wide, square = change.to(dtype), penalty[:, :, :1] * (dot(direction, direction) - dot(*[direction[:, :, -1:]] * 2))
    low, high = torch.zeros_like(slope), torch.full_like(slope, torch.inf)
    tiny = torch.finfo(slope.dtype).tiny

    def bend(probabilities: Tensor) -> Tensor:
        return (batch.curvature(probabilities, change) + square).clamp(min=tiny)

    length = torch.where(moving, (-slope / bend(state.probabilities)).clamp(max=LONGEST), 0)
    for _ in range(MAX_TRIALS):
        scores = torch.addcmul(state.scores, length.to(dtype), wide)
        probabilities = batch.probabilities(scores)
        error = batch.weighted(probabilities - state.probabilities)
        left = slope + dot(error, change) + length * square
        again = moving & (left.abs() > 0.5 * slope.abs())
        if not again.any():
            break
        low, high = torch.where(left < 0, length, low), torch.where(left > 0, length, high)
        newton = length - left / bend(probabilities)
        middle = torch.where(high.isinf(), 2 * length, (low + high) / 2)
        within = (newton > low) & (newton < torch.minimum(high, 10 * length))
        length = torch.where(again, torch.where(within, newton, middle), length)
    step = length.to(dtype) * direction
    pulled = batch.pull_back(error).to(dtype)
    moved = _State(state.coef + step, scores, probabilities, state.gradient + pulled)
    return moved, step, torch.addcmul(pulled, penalty.to(dtype), step)


def _predict(batch: Batch, before: Sequence[tuple[Tensor, Tensor]], penalty: Tensor) -> tuple[Tensor, Tensor]:
    """Minimise over the span of earlier solutions, by Newton's method; their scores are known."""
    coefs, scores = (torch.stack([part.double() for part in parts], 1) for parts in zip(*before, strict=True))
    fast, gram = scores.to(batch.fast.dtype), torch.einsum("bikd,bjkd->bij", coefs * penalty.unsqueeze(1), coefs)

    def value(mix: Tensor) -> Tensor:
        mixed = torch.einsum("bm,bmnk->bnk", mix.to(fast.dtype), fast)
        return batch.losses(mixed) + 0.5 * torch.einsum("bi,bij,bj->b", mix, gram, mix)

    mix = torch.eye(len(before), dtype=coefs.dtype, device=coefs.device)[-1].expand(len(coefs), -1)
    best = value(mix)
    for _ in range(MAX_TRIALS):
        probabilities = batch.probabilities(torch.einsum("bm,bmnk->bnk", mix.to(fast.dtype), fast))
        slope, hessian = batch.derivatives(probabilities, fast)
        slope, hessian = slope + (gram @ mix.unsqueeze(2))[:, :, 0], hessian + gram
        diagonal = hessian.diagonal(dim1=1, dim2=2)
        step = torch.linalg.solve(hessian + torch.diag_embed(1e-6 * diagonal), slope)
        start, length = mix, 1.0
        while length > 1e-2:
            trial = start - length * step
            found = value(trial)
            better = found < best
            mix, best = torch.where(better[:, None], trial, mix), torch.where(better, found, best)
            if better.all():
                break
            length /= 2
        if not ((step * slope).sum(1) > ROUGH * best).any():
            break
    return torch.einsum("bm,bmkd->bkd", mix, coefs), torch.einsum("bm,bmnk->bnk", mix, scores)


class _Memory:
    """L-BFGS: the inverse Hessian from the latest steps and what the gradient gained by them."""

    def __init__(self) -> None:
        self._pairs: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, step: Tensor, gain: Tensor) -> None:
        """Keep a pair; problems that did not move, or by rounding only, have no use of theirs."""
        product = dot(step, gain)
        useful = product > torch.finfo(product.dtype).tiny
        self._pairs = [*self._pairs[1 - MEMORY :], (step, gain, torch.where(useful, 1 / product, 0))]

    def direction(self, gradient: Tensor, precondition: Preconditioner) -> tuple[Tensor, Tensor]:
        """Where to go from here (B, n_scores, D), and the slope (B, 1, 1) of the objective along it, in float64."""
        v, shares = -gradient, []
        for step, gain, inverse in reversed(self._pairs):
            shares.append(inverse * dot(step, v))
            v = torch.addcmul(v, shares[-1], gain, value=-1)
        v = precondition(v)
        for (step, gain, inverse), share in zip(self._pairs, reversed(shares), strict=True):
            v = torch.addcmul(v, share - inverse * dot(gain, v), step)
        slope = dot(gradient, v)
        if (slope > 0).any():  # by rounding only
            v = torch.where(slope > 0, -precondition(gradient), v)
            slope = dot(gradient, v)
        return v, slope.double()


class _Watch:
    """Whether the distance from the solution still shrinks."""

    def __init__(self) -> None:
        self._best = self._checked = torch.inf
        self._waited = 0

    def stalled(self, distance: float, patience: int) -> bool:
        """Whether it has not been halved in so many iterations."""
        if distance < 0.5 * self._best:
            self._best, self._waited = distance, 0
        self._waited += 1
        return self._waited > patience

    def failed(self, distance: float) -> bool:
        """Whether it has not been halved since this was last asked."""
        failed = distance > 0.5 * self._checked
        self._best = self._checked = distance
        self._waited = 0
        return failed
