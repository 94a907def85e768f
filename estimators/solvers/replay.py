"""Paths of small problems of logistic regression on a GPU, where launching kernels takes longer than they run.

The descent is that of `descent`, all in float64 and with the same operations at every step, on tensors that stay where
they are: so a step is recorded once, as a CUDA graph, and replayed.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor

from frofa.compute.cuda_graphs import Pool, Replays
from frofa.estimators.solvers.descent import (
    MAX_TRIALS,
    PATIENCE,
    Line,
    Trial,
    first_trial,
    newton_length,
    next_trial,
    stride,
)
from frofa.estimators.solvers.lbfgs import Memory
from frofa.estimators.solvers.path import solve_path
from frofa.estimators.solvers.preconditioner import ClassBlocks
from frofa.estimators.solvers.problems import Problems
from frofa.estimators.solvers.stages import Goal, Solution, Stage, State, Watch

RENEWED = 25
"""Steps after which a stage gets a new preconditioner, once: there, the first was made far from the solution. Stages
of `logistic` of benchmarks/search.py take fewer."""
KEPT_SHARE = 0.01
"""Share of a GPU's memory that kept recordings may take with their problems: little enough to leave the rest to others,
and 1.4 GB of an H200."""
MOST_KEPT = 8
"""Most recordings that are kept; each takes memory of the host as well."""
Places = TypeVar("Places", State, Line, Trial)


def replay_path(problems: Problems, path: Sequence[Stage]) -> Iterator[Solution]:
    """Minimise for every C of a path, from small to large, each from what the two before it lead to.

    Parameters and results are those of `solve_path`, which goes on where a problem is not solved in this way.
    """
    problems.use_float64()
    with _shelf(problems.exact.device) as shelf:
        replayed = shelf.take(ClassBlocks(problems))
        for i, stage in enumerate(path):
            solution = replayed.solve(stage, onward=i > 1)
            if solution is None:
                yield from islice(solve_path(problems, path), i, None)
                break
            yield solution
        shelf.keep(replayed)


@contextmanager
def _shelf(device: torch.device) -> "Iterator[_Shelf]":
    """Lend recordings for a device, which nobody else uses meanwhile."""
    free = _SHELVES.setdefault(device, [])
    try:
        shelf = free.pop()
    except IndexError:  # all are in use
        shelf = _Shelf(device)
    yield shelf
    free.append(shelf)


class _Shelf:
    """Recordings for problems of the last shapes, as many as there is room for; they share a pool of memory.

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

    def take(self, blocks: ClassBlocks) -> "_Replayed":
        """Take the recordings for problems of this shape off the shelf, or begin new ones."""
        replayed = self.kept.pop(_shapes(blocks), None)
        if replayed is None:
            return _Replayed(blocks, self.pool)
        replayed.adopt(blocks)
        return replayed

    def keep(self, replayed: "_Replayed") -> None:
        """Keep recordings for the next problems of their shape, and drop the oldest others."""
        # Insertion order is order of use, as what is taken is removed: the first one is the oldest.
        self.kept[_shapes(replayed.blocks)] = replayed
        while len(self.kept) > MOST_KEPT or (len(self.kept) > 1 and self.nbytes > self.room):
            del self.kept[next(iter(self.kept))]
        if self.nbytes > self.room:
            self.clear()


_SHELVES: dict[torch.device, list[_Shelf]] = {}
"""Shelves that nobody uses."""


def _shapes(blocks: ClassBlocks) -> tuple[Any, ...]:
    return tuple(part.shape for part in blocks.tensors())


class _Replayed:
    """State of all problems, and what the next step needs, in tensors that stay where they are.

    The first direction of a stage, from the third on, is that from the last solution but one to the last. A step is
    taken, then the next direction and a length along it are found; the host only learns how far from its solution the
    furthest problem is, and whether the length will do.
    """

    def __init__(self, blocks: ClassBlocks, pool: Pool | None = None):
        self.blocks, self.problems = blocks, blocks.problems
        self.penalty = self.problems.penalty(1)
        self.state, self.last = (State.start(self.problems) for _ in range(2))
        blocks.update(self.state.probabilities, self.penalty)
        self.memory = Memory(self.state.coef, fixed=True)
        # What is found for all weights zero gives the tensors their shapes.
        line = self._onward()
        self.line = _cloned(line)
        self.trial = _cloned(first_trial(self.problems, self.state, line, torch.zeros_like(line.slope)))
        self.n_iter = torch.zeros(len(line.slope), dtype=torch.int64, device=line.slope.device)
        self.goal, self.report = line.slope.new_zeros(3), line.slope.new_zeros(2)
        self.replay = Replays(line.slope.device, pool)

    @property
    def nbytes(self) -> int:
        """Bytes of the device's memory that this holds, besides the pool's."""
        tensors = [*self.state, *self.last, *self.line, *self.trial, self.penalty, self.n_iter, self.goal, self.report]
        tensors += [*self.blocks.tensors(), *self.blocks.factors(), *self.memory.tensors()]
        return sum(part.nbytes for part in tensors)

    def adopt(self, blocks: ClassBlocks) -> None:
        """Take other problems of the same shape in."""
        for kept, new in zip(self.blocks.tensors(), blocks.tensors(), strict=True):
            kept.copy_(new)
        start = State.start(self.problems)
        _copy(self.state, start)
        _copy(self.last, start)

    def solve(self, stage: Stage, *, onward: bool = True) -> Solution | None:
        """Minimise for one C; None where a problem is not solved in `max_iter` steps, or gets no nearer.

        It begins at the last solution, or as far `onward` as the objective falls in the direction that led there.
        """
        self._start(stage, onward)
        watch, (worst, again) = Watch(), self.report.tolist()
        for step in range(stage.max_iter):
            if worst <= 1 or not math.isfinite(worst) or watch.stalled(worst, PATIENCE):
                break
            if again:
                self._settle()
            self.replay(self._advance)
            # The preconditioner of the start has become stale by now; a second one serves the rest.
            if step == RENEWED:
                self.replay(self._renew)
            worst, again = self.report.tolist()
        if not worst <= 1:
            return None
        return Solution(self.state.coef.clone(), self.n_iter.clone(), torch.ones_like(self.n_iter, dtype=torch.bool))

    def _start(self, stage: Stage, onward: bool) -> None:
        if not onward:
            _copy(self.last, self.state)
        self.penalty.copy_(self.problems.penalty(stage.C))
        self.goal.copy_(torch.tensor(Goal.of(stage.tol)))
        self.replay(self._begin)
        self._settle()
        self.replay(self._go_on)

    def _settle(self) -> None:
        """Try lengths until one will do."""
        for _ in range(MAX_TRIALS):
            if not self.report.tolist()[1]:
                break
            self.replay(self._retry)

    def _begin(self) -> None:
        """Look in the direction from the last solution but one to the last."""
        _copy(self.line, self._onward())
        _copy(self.last, self.state)
        # About the step again, where C grows by the same factor.
        self._keep(first_trial(self.problems, self.state, self.line, self.line.moving.to(self.line.slope.dtype)))

    def _onward(self) -> Line:
        coef, scores = self.state.coef - self.last.coef, self.state.scores - self.last.scores
        return Line.along(self.state, self.penalty, coef, scores, torch.float64)

    def _go_on(self) -> None:
        """Take the step of that line, and look from its end."""
        self._move()
        self.n_iter.zero_()
        self._renew()

    def _renew(self) -> None:
        """Look from here with a new preconditioner."""
        self.blocks.update(self.state.probabilities, self.penalty)
        self.memory.clear()
        self._look()

    def _advance(self) -> None:
        """Take the step that was found, and find the next."""
        step, gain = self._move()
        self.memory.add(step, gain.addcmul_(self.penalty, step))
        self._look()

    def _retry(self) -> None:
        """Try another length."""
        self._keep(next_trial(self.problems, self.state, self.line, self.trial))

    def _move(self) -> tuple[Tensor, Tensor]:
        """Take the step that was found, in place; return it, and what the gradient of the cross-entropy gains by it."""
        state, trial = self.state, self.trial
        step, gain = stride(self.problems, state, self.line, trial)
        state.coef.add_(step)
        state.gradient.add_(gain)
        _copy((state.scores, state.probabilities, state.errors), (trial.scores, trial.probabilities, trial.errors))
        self.n_iter += self.line.moving[:, 0, 0]
        return step, gain

    def _look(self) -> None:
        """Find the next direction, how far the problems are from their solutions, and a length to try first."""
        problems, state, penalty = self.problems, self.state, self.penalty
        # Gradient and direction (B, n_scores, D), and the distance (B,) from the solution.
        gradient = state.full_gradient(penalty)
        direction, slope = self.memory.direction(gradient, self.blocks)
        value = problems.objective(state.scores, state.coef, penalty)
        distance = Goal(*self.goal).distance(gradient, slope, value)
        self.report[0] = distance.max()
        # Problems that are solved stay where they are.
        _copy(self.line, Line.towards(problems, penalty, direction, slope, distance[:, None, None] > 1))
        self._keep(first_trial(problems, state, self.line, newton_length(problems, state, self.line)))

    def _keep(self, trial: Trial) -> None:
        """Keep a trial, and report whether it is to be followed by another."""
        _copy(self.trial, trial)
        self.report[1] = self.trial.again.any()


def _cloned(values: Places) -> Places:
    return type(values)(*(part.clone() for part in values))


def _copy(kept: Sequence[Tensor], new: Sequence[Tensor]) -> None:
    for there, value in zip(kept, new, strict=True):
        there.copy_(value)
