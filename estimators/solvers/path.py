"""L2-regularised logistic regression along a path of penalties, several problems at once."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from frofa.estimators.solvers.descent import Descent, Line, move, search
from frofa.estimators.solvers.preconditioner import preconditioner_of
from frofa.estimators.solvers.problems import Problems
from frofa.estimators.solvers.stages import Solution, Stage, State


def solve_path(problems: Problems, path: Sequence[Stage]) -> Iterator[Solution]:
    """Minimise for every C of a path, from small to large, each from what the ones before it lead to.

    A problem is solved where the largest element of the gradient of the objective, divided by ``C * sum(weights)``, is
    at most the tolerance, and the objective's distance from its minimum, as estimated and relative to it, at most a
    hundredth of that. Each stage's solution is yielded as soon as it is there.
    """
    precondition, state = preconditioner_of(problems), State.start(problems)
    latest: list[State] = []
    for stage in path:
        penalty = problems.penalty(stage.C)
        start = _predict(problems, latest, penalty) if len(latest) > 1 else state
        state, solution = Descent(problems, precondition, start, penalty, stage).run()
        latest = [state, *latest[:2]]
        yield solution


def _predict(problems: Problems, latest: Sequence[State], penalty: Tensor) -> State:
    """Go on from the latest two or three solutions, as far as the objective falls.

    Where C grows evenly, the next solution is near the parabola through the last three: so the minimum is looked for
    along the latest step, and from there along what that differs by from the one before.
    """
    state = latest[0].to(torch.float32 if problems.starts_in_float32 else torch.float64)
    # First differences of weights and scores, and then the second.
    changes = [(new.coef - old.coef, new.scores - old.scores) for new, old in pairwise(latest)]
    if len(changes) > 1:
        changes[1] = changes[0][0] - changes[1][0], changes[0][1] - changes[1][1]
    for coef, scores in changes:
        line = Line.along(state, penalty, coef, scores, problems.fast.dtype)
        trial = search(problems, state, line, line.moving.to(line.slope.dtype))  # all of it, at first
        state, *_ = move(problems, state, line, trial)
    return state
