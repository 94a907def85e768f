"""L2-regularised logistic regression along a path of penalties, several problems at once."""

from collections import deque
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from frofa.estimators._logistic_batch import Batch, dot
from frofa.estimators._logistic_descent import Descent, Solution, Stage, State

PREDICTORS = 3
"""Solutions at smaller C that the next one is predicted from."""
MAX_STEPS = 20
"""Steps towards a prediction, at most."""
PREDICTED = 1e-3
"""Relative distance from the best prediction that will do."""


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
    state, before, mix = State.start(batch), deque[State](maxlen=PREDICTORS), None
    for stage in path:
        penalty = batch.penalty(stage.C)
        if before:
            dtype = torch.float32 if batch.rough else torch.float64
            state, mix = _predict(batch, [known.to(dtype) for known in before], penalty, mix)
        state, solution = Descent(batch, state, penalty, stage).run()
        before.append(state)
        yield solution


def _predict(batch: Batch, before: Sequence[State], penalty: Tensor, last_mix: Tensor | None) -> tuple[State, Tensor]:
    """Minimise over the span of earlier solutions, by Newton's method in so many unknowns; their scores are known.

    Along a path of even steps, what they are mixed by is about the same from one C to the next: it is tried first.
    Returned are the minimum and its mix (B, m).
    """
    scores = torch.stack([state.scores.to(batch.fast.dtype) for state in before], 1)
    gram = _gram(before, penalty)
    mix = torch.eye(len(before), dtype=gram.dtype, device=gram.device)[-1].expand(len(gram), -1)

    def look(mix: Tensor) -> tuple[Tensor, Tensor]:
        mixed = (mix.to(scores.dtype).unsqueeze(1) @ scores.flatten(2)).view(scores[:, 0].shape)
        return mixed, batch.losses(mixed) + 0.5 * torch.einsum("bi,bij,bj->b", mix, gram, mix)

    mixed, best = look(mix)
    if last_mix is not None and last_mix.shape == mix.shape:
        other, found = look(last_mix)
        better = found < best
        mix, best = torch.where(better[:, None], last_mix, mix), torch.where(better, found, best)
        mixed = torch.where(better[:, None, None], other, mixed)
    for _ in range(MAX_STEPS):
        slope, hessian = batch.derivatives(batch.probabilities(mixed), scores)
        slope, hessian = slope + (gram @ mix.unsqueeze(2))[:, :, 0], hessian + gram
        diagonal = 1e-6 * hessian.diagonal(dim1=1, dim2=2)
        ridge = torch.diag_embed(diagonal.clamp(min=torch.finfo(diagonal.dtype).tiny))  # of a single class, all is zero
        step = torch.linalg.solve(hessian + ridge, slope)
        start, length = mix, 1.0
        while length > 1e-2:
            trial = start - length * step
            mixed, found = look(trial)
            better = found < best
            mix, best = torch.where(better[:, None], trial, mix), torch.where(better, found, best)
            if better.all():
                break
            mixed = look(mix)[0]
            length /= 2
        if not ((step * slope).sum(1) > PREDICTED * best).any():
            break
    coef = mix.to(before[0].coef.dtype).unsqueeze(1) @ torch.stack([state.coef.flatten(1) for state in before], 1)
    return State.at(batch, coef.view(before[0].coef.shape), look(mix)[0].to(coef.dtype)), mix


def _gram(states: Sequence[State], penalty: Tensor) -> Tensor:
    """Inner products (B, m, m) of the weights, those of the intercepts left out, times the penalty."""
    rows = [
        torch.cat([dot(a.coef, b.coef) - dot(a.coef[:, :, -1:], b.coef[:, :, -1:]) for b in states], 2) for a in states
    ]
    return torch.cat(rows, 1) * penalty[:, :, :1]
