"""L2-regularised logistic regression along a path of penalties, several problems at once: preconditioned L-BFGS."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from frofa.estimators._logistic_batch import Batch

MEMORY = 8
"""Pairs of steps and gradient changes that L-BFGS keeps."""
PREDICTORS = 3
"""Solutions at smaller C that the next one is predicted from."""
PATIENCE = 30
"""Iterations in which the gradient is to be halved."""
ROUGH = 1e-3
"""Relative distance from the minimum at which a solution is good enough to go on from."""
MAX_TRIALS = 20
"""Lengths of a step, or steps towards a prediction, that are tried at most."""
CLOSE = 1e-4
"""Of the tolerance: the distance from the minimum, relative to the objective, at which a problem is solved."""
SAFE = 1e-6
"""Tolerance that float32 reaches without a check, for features of unit size."""
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
    at most the tolerance, and the distance of the objective from its minimum, estimated and relative, 1e-4 of that.

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
    state, before = _State(batch), deque[tuple[Tensor, Tensor]](maxlen=PREDICTORS)
    for stage in path:
        penalty = batch.penalty(stage.C)
        if before:
            coef, scores = _predict(batch, before, penalty)
            probabilities = batch.probabilities(scores)
            error = batch.weighted(probabilities - state.probabilities)
            state.move(batch, coef, scores, probabilities, error)
        yield _minimise(batch, state, penalty, stage)
        before.append((state.coef, state.scores))


class _State:
    """Where all problems of a batch are: weights, scores, probabilities and the gradient of the mean cross-entropy."""

    def __init__(self, batch: Batch):
        self.coef = batch.exact.new_zeros(batch.shape)
        self.refresh(batch)

    def refresh(self, batch: Batch) -> None:
        """Compute all anew from the weights, in float64."""
        self.scores = batch.scores(self.coef)
        self.probabilities = batch.probabilities(self.scores)
        self.gradient = batch.gradient(self.probabilities)

    def move(self, batch: Batch, coef: Tensor, scores: Tensor, probabilities: Tensor, error: Tensor) -> Tensor:
        """Go there; what the gradient gains, which is returned, comes from the weighted change of probabilities."""
        gain = batch.pull_back(error)
        self.gradient = self.gradient + gain
        self.coef, self.scores, self.probabilities = coef, scores, probabilities
        return gain


def _minimise(batch: Batch, state: _State, penalty: Tensor, stage: Stage) -> Solution:
    """Iterate until all problems of the batch are solved; those that are stay where they are.

    What float32 holds to be the solution is checked in float64, and corrected by further steps. Where these do not get
    closer, products are in float64 from there on.
    """
    precondition, memory, watch = batch.preconditioner(state.probabilities, penalty), _Memory(), _Watch()
    n_iter = torch.zeros(len(state.coef), dtype=torch.int64, device=state.coef.device)
    checked = trusted = stage.tol is None or stage.tol >= SAFE * batch.size
    for _ in range(2 * stage.max_iter + 1):
        gradient = state.gradient + penalty * state.coef
        direction, slope = memory.direction(gradient.to(batch.fast.dtype), precondition)
        done = _solved(batch, state, penalty, gradient, slope, stage.tol)
        finished = bool(done.all())
        if not checked and (finished or watch.stalled(gradient)):
            state.refresh(batch)
            if watch.failed(state.gradient + penalty * state.coef):
                batch.use_float64()
                precondition, memory = batch.preconditioner(state.probabilities, penalty), _Memory()
            checked = True
            continue
        if finished or int(n_iter.max()) == stage.max_iter:
            break
        memory.add(*_step(batch, state, penalty, direction, slope, ~done))
        n_iter += ~done
        checked = trusted
    return Solution(state.coef, n_iter, done)


def _solved(batch: Batch, state: _State, penalty: Tensor, gradient: Tensor, slope: Tensor, tol: float | None) -> Tensor:
    """Which problems (B,) are. Along the Newton direction, half the slope is the distance from the minimum."""
    small = torch.ones(len(gradient), dtype=torch.bool, device=gradient.device)
    if tol is not None:
        small = gradient.abs().amax((1, 2)) <= tol
        if not small.any():
            return small
    value = batch.losses(state.scores) + 0.5 * (penalty * state.coef**2).sum((1, 2))
    return small & (-0.5 * slope[:, 0, 0] <= (ROUGH if tol is None else CLOSE * tol) * value)


def _step(
    batch: Batch, state: _State, penalty: Tensor, direction: Tensor, slope: Tensor, active: Tensor
) -> tuple[Tensor, Tensor]:
    """Move along a direction to where its slope has at most half its size; return the step and the gradient's gain.

    Scores are linear in the weights, so that trying another length takes no product with the features. The objective is
    convex: Newton's method finds the length, and bisection where it leaves the bracket.
    """
    change, moving = batch.scores(direction), active[:, None, None]
    wide = change.double()
    square = (penalty * direction * direction).sum((1, 2), keepdim=True)
    low, high = torch.zeros_like(slope), torch.full_like(slope, torch.inf)
    length = torch.where(moving, -slope / (batch.curvature(state.probabilities, change) + square), 0)
    for _ in range(MAX_TRIALS):
        scores = torch.addcmul(state.scores, length, wide)
        probabilities = batch.probabilities(scores)
        error = batch.weighted(probabilities - state.probabilities)
        left = slope + dot(error, change) + length * square
        again = moving & (left.abs() > 0.5 * slope.abs())
        if not again.any():
            break
        low, high = torch.where(left < 0, length, low), torch.where(left > 0, length, high)
        newton = length - left / (batch.curvature(probabilities, change) + square)
        middle = torch.where(high.isinf(), 2 * length, (low + high) / 2)
        length = torch.where(again, torch.where((newton > low) & (newton < high), newton, middle), length)
    step = length * direction
    gain = state.move(batch, state.coef + step, scores, probabilities, error) + penalty * step
    return step.to(direction.dtype), gain.to(direction.dtype)


def _predict(batch: Batch, before: deque[tuple[Tensor, Tensor]], penalty: Tensor) -> tuple[Tensor, Tensor]:
    """Minimise over the span of earlier solutions, by Newton's method; their scores are known."""
    coefs, scores = (torch.stack(parts, 1) for parts in zip(*before, strict=True))
    fast, m = scores.to(batch.fast.dtype), len(before)
    gram = torch.einsum("bikd,bjkd->bij", coefs * penalty.unsqueeze(1), coefs)

    def value(mix: Tensor) -> Tensor:
        mixed = torch.einsum("bm,bmnk->bnk", mix.to(fast.dtype), fast)
        return batch.losses(mixed) + 0.5 * torch.einsum("bi,bij,bj->b", mix, gram, mix)

    mix = torch.eye(m, dtype=coefs.dtype, device=coefs.device)[-1].expand(len(coefs), m)
    best = value(mix)
    for _ in range(MAX_TRIALS):
        probabilities = batch.probabilities(torch.einsum("bm,bmnk->bnk", mix.to(fast.dtype), fast))
        slope, hessian = batch.derivatives(probabilities, fast)
        slope, hessian = slope + (gram @ mix.unsqueeze(2))[:, :, 0], hessian + gram
        hessian = hessian + 1e-6 * hessian.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * torch.eye(
            m, dtype=hessian.dtype, device=hessian.device
        )
        step = torch.linalg.solve(hessian, slope)
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
        self._pairs = [*self._pairs[1 - MEMORY :], (step, gain, torch.where(product > 0, 1 / product, 0))]

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
    """Whether the gradient still shrinks."""

    def __init__(self) -> None:
        self._best = self._checked = torch.inf
        self._waited = 0

    def stalled(self, gradient: Tensor) -> bool:
        """Whether its largest element has not been halved in so many iterations."""
        largest = float(gradient.abs().max())
        if largest < 0.5 * self._best:
            self._best, self._waited = largest, 0
        self._waited += 1
        return self._waited > PATIENCE

    def failed(self, gradient: Tensor) -> bool:
        """Whether it has not been halved since it was last checked."""
        largest = float(gradient.abs().max())
        failed = largest > 0.5 * self._checked
        self._checked = self._best = largest
        self._waited = 0
        return failed


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner products (B, 1, 1)."""
    return (a.flatten(1).unsqueeze(1) @ b.flatten(1).unsqueeze(2)).to(a.dtype)
