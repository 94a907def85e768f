"""Paths of small problems of logistic regression on a GPU, where launching kernels takes longer than they run.

The method is that of `_logistic_descent`, all in float64 and with the same operations at every step, on tensors that
stay where they are: so a step is recorded once, as a CUDA graph, and replayed.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from frofa.compute.cuda_graphs import Pool, Replays
from frofa.estimators.solvers.descent import (
    LONGEST,
    MAX_TRIALS,
    MEMORY,
    PATIENCE,
    Goal,
    Preconditioner,
    Solution,
    Stage,
    Watch,
)
from frofa.estimators.solvers.path import solve_path
from frofa.estimators.solvers.problems import Batch, dot

RENEWED = 25
"""Steps after which a stage gets a new preconditioner, once: there, the first was made far from the solution."""
KEPT_SHARE = 0.01
"""Of a GPU's memory, that kept recordings may take with their problems."""
MOST_KEPT = 8
"""Recordings, each of which takes memory of the host as well."""


def replay_path(batch: Batch, path: Sequence[Stage]) -> Iterator[Solution]:
    """Minimise for every C of a path, from small to large, each from what the two before it lead to.

    Parameters and results are those of `solve_path`, which goes on where a problem is not solved in this way.
    """
    batch.use_float64()
    with _shelf(batch.exact.device) as shelf:
        replayed = shelf.take(batch)
        for i, stage in enumerate(path):
            solution = replayed.solve(stage)
            if solution is None:
                yield from islice(solve_path(batch, path), i, None)
                break
            yield solution
        shelf.keep(replayed)


@contextmanager
def _shelf(device: torch.device) -> "Iterator[_Shelf]":
    """Recordings for a device, which nobody else uses meanwhile."""
    free = _SHELVES.setdefault(device, [])
    try:
        shelf = free.pop()
    except IndexError:  # all are in use
        shelf = _Shelf(device)
    yield shelf
    free.append(shelf)


class _Shelf:
    """Recordings for problems of the last shapes, as many as there is room for; they share a pool of memory.

    Parameters
    ----------
    device : torch.device
        On a CPU, nothing is recorded, and nothing kept.
    """

    def __init__(self, device: torch.device):
        self.room = 0
        if device.type == "cuda":
            self.room = int(KEPT_SHARE * torch.cuda.get_device_properties(device).total_memory)
        self.clear()

    def clear(self) -> None:
        """Drop all recordings, and the memory that they share."""
        self.kept: dict[tuple[Any, ...], _Replayed] = {}
        self.pool = Pool() if self.room else None

    @property
    def nbytes(self) -> int:
        """Bytes of the GPU's memory that all take."""
        return sum(one.nbytes for one in self.kept.values()) + (self.pool.nbytes if self.pool else 0)

    def take(self, batch: Batch) -> "_Replayed":
        """What has its steps recorded for problems of this shape, where that was kept; it is no longer kept."""
        replayed = self.kept.pop(_shapes(batch), None)
        if replayed is None:
            return _Replayed(batch, self.pool)
        replayed.adopt(batch)
        return replayed

    def keep(self, replayed: "_Replayed") -> None:
        """Keep recordings for the next problems of their shape, and drop the oldest others."""
        self.kept[_shapes(replayed.batch)] = replayed
        while len(self.kept) > MOST_KEPT or (len(self.kept) > 1 and self.nbytes > self.room):
            del self.kept[next(iter(self.kept))]
        if self.nbytes > self.room:
            self.clear()


_SHELVES: dict[torch.device, list[_Shelf]] = {}
"""Those that nobody uses."""


def _shapes(batch: Batch) -> tuple[Any, ...]:
    return tuple(part.shape for part in batch.tensors())


class _Replayed:
    """Where all problems are, and what the next step needs, in tensors that stay where they are.

    The first direction of a stage is that from the last solution but one to the last. A step is taken, then the next
    direction and a length along it are found; the host only learns how far from its solution the furthest problem is,
    and whether the length will do.
    """

    def __init__(self, batch: Batch, pool: Pool | None = None):
        self.batch, new = batch, batch.exact.new_zeros
        n_problems, n_scores, width = batch.shape
        self.coef, self.last_coef, self.smooth, self.direction = (new(batch.shape) for _ in range(4))
        self.scores, self.probabilities, self.errors, self.change = (new(batch.targets.shape) for _ in range(4))
        self.trial = [torch.zeros_like(self.scores) for _ in range(4)]  # scores, probabilities, errors, moved errors
        self.penalty = batch.penalty(1)
        self.factors = batch.factors(self.probabilities, self.penalty)
        self.slope, self.length, self.left, self.square, self.low, self.high = (new(n_problems, 1, 1) for _ in range(6))
        self.moving, self.again = torch.zeros(2, n_problems, 1, 1, dtype=torch.bool, device=batch.exact.device)
        self.n_iter = torch.zeros(n_problems, dtype=torch.int64, device=batch.exact.device)
        self.goal, self.report = new(3), new(2)
        self.memory = _Memory(new(n_problems, MEMORY, n_scores, width))
        self.replay = Replays(batch.exact.device, pool)
        self._reset()

    @property
    def nbytes(self) -> int:
        """Bytes of the device's memory that this holds, besides the pool's."""
        tensors = [part for part in vars(self).values() if isinstance(part, Tensor)]
        tensors += [*self.batch.tensors(), *self.memory.tensors(), *self.factors, *self.trial]
        return sum(part.nbytes for part in tensors)

    def adopt(self, batch: Batch) -> None:
        """Take other problems of the same shape in."""
        for kept, new in zip(self.batch.tensors(), batch.tensors(), strict=True):
            kept.copy_(new)
        self._reset()

    def _reset(self) -> None:
        for part in (self.coef, self.last_coef, self.scores):
            part.zero_()
        self.probabilities.copy_(self.batch.probabilities(self.scores))
        self.errors.copy_(self.batch.errors(self.scores, self.probabilities))
        self.smooth.copy_(self.batch.gradient(self.errors))

    def solve(self, stage: Stage) -> Solution | None:
        """Minimise for one C; None where a problem is not solved in `max_iter` steps, or gets no nearer."""
        self._start(stage)
        watch, (worst, again) = Watch(), self.report.tolist()
        for step in range(stage.max_iter):
            if worst <= 1 or not math.isfinite(worst) or watch.stalled(worst, PATIENCE):
                break
            if again:
                self._settle()
            self.replay(self._advance)
            if step == RENEWED:
                self.replay(self._renew)
            worst, again = self.report.tolist()
        if not worst <= 1:
            return None
        return Solution(self.coef.clone(), self.n_iter.clone(), torch.ones_like(self.n_iter, dtype=torch.bool))

    def _start(self, stage: Stage) -> None:
        self.penalty.copy_(self.batch.penalty(stage.C))
        self.goal.copy_(torch.tensor(Goal.of(stage.tol)))
        self.replay(self._begin)
        self._settle()
        self.replay(self._go_on)

    def _begin(self) -> None:
        """Look in the direction from the last solution but one to the last."""
        torch.sub(self.coef, self.last_coef, out=self.direction)
        self.last_coef.copy_(self.coef)
        self.slope.copy_(dot(torch.addcmul(self.smooth, self.penalty, self.coef), self.direction))
        torch.lt(self.slope, 0, out=self.moving)
        self._turn()
        self._try(self.moving.to(self.length.dtype))  # about the step again, where C grows by the same factor

    def _go_on(self) -> None:
        """Go there, and look from there."""
        self._step()
        self.n_iter.zero_()
        self._renew()

    def _renew(self) -> None:
        """Look from here with a new preconditioner."""
        for kept, new in zip(self.factors, self.batch.factors(self.probabilities, self.penalty), strict=True):
            kept.copy_(new)
        self.memory.clear()
        self._aim()
        self._look()

    def _settle(self) -> None:
        """Try lengths until one will do."""
        for _ in range(MAX_TRIALS):
            if not self.report.tolist()[1]:
                break
            self.replay(self._retry)

    def _advance(self) -> None:
        """Take the step that was found, and find the next."""
        pulled, step = self._step()
        self.memory.add(step, torch.addcmul(pulled, self.penalty, step))
        self._aim()
        self._look()

    def _step(self) -> tuple[Tensor, Tensor]:
        """What the gradient of the mean cross-entropy gains by the step, and the step."""
        scores, probabilities, errors, moved = self.trial
        pulled, step = self.batch.pull_back(moved), self.length * self.direction
        self.coef += step
        self.smooth += pulled
        for kept, new in ((self.scores, scores), (self.probabilities, probabilities), (self.errors, errors)):
            kept.copy_(new)
        self.n_iter += self.moving[:, 0, 0]
        return pulled, step

    def _aim(self) -> None:
        """Find the next direction, and how far the problems are from their solutions; those that are there stay."""
        gradient = torch.addcmul(self.smooth, self.penalty, self.coef)
        self.direction.copy_(self.memory.direction(gradient, lambda v: self.batch.precondition(v, self.factors)))
        slope = dot(gradient, self.direction)
        downhill = slope < 0  # but for rounding
        self.direction.copy_(torch.where(downhill, self.direction, -self.factors[0] * gradient))
        self.slope.copy_(torch.where(downhill, slope, dot(gradient, self.direction)))
        value = self.batch.losses(self.scores) + 0.5 * dot(self.penalty * self.coef, self.coef)[:, 0, 0]
        distance = Goal(*self.goal).distance(gradient, self.slope, value)
        self.report[0] = distance.max()
        torch.gt(distance[:, None, None], 1, out=self.moving)

    def _look(self) -> None:
        """Try Newton's length along the direction."""
        self._turn()
        newton = (-self.slope / self._bend(self.probabilities)).clamp(max=LONGEST)
        self._try(torch.where(self.moving, newton, 0))

    def _turn(self) -> None:
        """What moving along the direction changes."""
        self.direction.copy_(torch.where(self.moving, self.direction, 0))  # of solved problems, it may be anything
        self.change.copy_(self.batch.exact @ self.direction.mT)
        self.square.copy_(dot(self.penalty * self.direction, self.direction))
        self.low.zero_()
        self.high.fill_(math.inf)

    def _retry(self) -> None:
        """Try another length where the last was too short or too long: Newton's, or bisection's where that strays."""
        length, left = self.length, self.left
        low, high = torch.where(left < 0, length, self.low), torch.where(left > 0, length, self.high)
        newton = length - left / self._bend(self.trial[1])
        middle = torch.where(high.isinf(), 2 * length, (low + high) / 2)
        within = (newton > low) & (newton < torch.minimum(high, 10 * length))
        self.low.copy_(low)
        self.high.copy_(high)
        self._try(torch.where(self.again, torch.where(within, newton, middle), length))

    def _bend(self, probabilities: Tensor) -> Tensor:
        """Second derivative along the direction."""
        curvature = self.batch.curvature(probabilities, self.change) + self.square
        return curvature.clamp(min=torch.finfo(curvature.dtype).tiny)

    def _try(self, length: Tensor) -> None:
        self.length.copy_(length)
        scores, probabilities, errors, moved = self.trial
        torch.addcmul(self.scores, length, self.change, out=scores)
        probabilities.copy_(self.batch.probabilities(scores))
        errors.copy_(self.batch.errors(scores, probabilities))
        moved.copy_(self.batch.weighted(errors - self.errors))
        self.left.copy_(self.slope + dot(moved, self.change) + length * self.square)
        torch.logical_and(self.moving, self.left.abs() > 0.5 * self.slope.abs(), out=self.again)
        self.report[1] = self.again.any()


class _Memory:
    """L-BFGS as in `_logistic_descent`, with room for all pairs from the start; a new one takes the oldest one's place.

    Kept is the inverse of the triangular matrix ``step_i . gain_j``, in the order of the places: without the oldest
    pair, it is what is left of the inverse without the row and column of that pair.
    """

    def __init__(self, room: Tensor):
        self.steps, self.gains = torch.zeros_like(room), torch.zeros_like(room)
        n_problems, n_pairs, *_ = room.shape
        self.inverse, self.diagonal = room.new_zeros(n_problems, n_pairs, n_pairs), room.new_zeros(n_problems, n_pairs)
        self.place = torch.zeros(1, dtype=torch.int64, device=room.device)
        self.places = torch.arange(n_pairs, device=room.device)

    def tensors(self) -> tuple[Tensor, ...]:
        """All that depends on the pairs."""
        return self.steps, self.gains, self.inverse, self.diagonal

    def clear(self) -> None:
        """Forget all pairs."""
        for part in self.tensors():
            part.zero_()

    def add(self, step: Tensor, gain: Tensor) -> None:
        """Keep a pair; problems that did not move, or by rounding only, have no use of theirs."""
        product = dot(step, gain)
        useful = product > torch.finfo(step.dtype).tiny
        gain = (gain * useful).unsqueeze(1)
        self.steps.index_copy_(1, self.place, (step * useful).unsqueeze(1))
        self.gains.index_copy_(1, self.place, gain)
        product, useful = product[:, :, 0], useful[:, :, 0]
        here = self.places == self.place
        kept = (~here).to(step.dtype)
        self.inverse *= kept.unsqueeze(1) * kept
        length = torch.where(useful, product, 1)
        others = (self.steps * gain).sum(3).sum(2) * kept
        column = torch.where(here, 1, -(self.inverse @ others.unsqueeze(2)).squeeze(2)) / length
        self.inverse.copy_(torch.where(here, column.unsqueeze(2), self.inverse))
        self.diagonal.copy_(torch.where(here, length, self.diagonal))
        self.place.add_(1).remainder_(len(self.places))

    def direction(self, gradient: Tensor, precondition: Preconditioner) -> Tensor:
        """Where to go from here (B, n_scores, D)."""
        # Products of a row and these matrices are fast, and those of the matrices and a column are not.
        alpha = -self.inverse @ (self.steps * gradient.unsqueeze(1)).sum(3).sum(2, keepdim=True)
        v = precondition((-gradient.flatten(1) - self._sum(alpha, self.gains)).view(gradient.shape))
        rest = self.diagonal.unsqueeze(2) * alpha - (self.gains * v.unsqueeze(1)).sum(3).sum(2, keepdim=True)
        return v + self._sum(self.inverse.mT @ rest, self.steps).view(gradient.shape)

    @staticmethod
    def _sum(weights: Tensor, pairs: Tensor) -> Tensor:
        """Weighted sum (B, n_scores * D) of steps or gains."""
        return (weights.mT @ pairs.flatten(2)).squeeze(1)
