"""L2-regularised logistic regression along a path of penalties, several problems at once."""

from collections import deque
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from frofa.estimators.solvers.descent import Descent, Solution, Stage, State
from frofa.estimators.solvers.problems import Batch, dot

PREDICTORS = 3
"""Solutions at smaller C that the next one is predicted from."""
MAX_STEPS = 20
"""Steps towards a prediction, at most."""
ROUNDED = 32
"""Units of relative rounding: what a solution adds to the span of others is no less, or it is rounding alone."""
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
    basis = _orthogonal(before)
    n_scores = before[0].scores[0].numel()
    scores = basis[:, :, :n_scores].to(batch.fast.dtype).view(len(basis), -1, *before[0].scores.shape[1:])
    gram = _gram(basis[:, :, n_scores:].view(len(basis), -1, *before[0].coef.shape[1:]), penalty)
    mix = torch.eye(len(before), dtype=gram.dtype, device=gram.device)[0].expand(len(gram), -1)

    def look(mix: Tensor) -> tuple[Tensor, Tensor]:
        mixed = (mix.to(scores.dtype).unsqueeze(1) @ scores.flatten(2)).view(scores[:, 0].shape)
        return mixed, batch.losses(mixed) + 0.5 * torch.einsum("bi,bij,bj->b", mix, gram, mix)

    mixed, best = look(mix)
    if last_mix is not None and last_mix.shape == mix.shape:
        mix, mixed, best = _better((last_mix, *look(last_mix)), (mix, mixed, best))
    for _ in range(MAX_STEPS):
        slope, hessian = batch.derivatives(batch.probabilities(mixed), scores)
        slope, hessian = slope + (gram @ mix.unsqueeze(2))[:, :, 0], hessian + gram
        diagonal = 1e-6 * hessian.diagonal(dim1=1, dim2=2)
        ridge = torch.diag_embed(diagonal.clamp(min=torch.finfo(diagonal.dtype).tiny))  # of a single class, all is zero
        step, _ = torch.linalg.solve_ex(hessian + ridge, slope)  # where it has none, no step is better
        last = not bool(((step * slope).sum(1) > PREDICTED * best).any())
        start, before_step, length = mix, best, 1.0
        while length > 1e-2:
            trial = start - length * step
            mix, mixed, best = _better((trial, *look(trial)), (mix, mixed, best))
            if last or bool((best < before_step).all()):
                break
            length /= 2
        if last:
            break
    coef = mix.to(basis.dtype).unsqueeze(1) @ basis[:, :, n_scores:]
    return State.at(batch, coef.view(before[0].coef.shape), mixed.to(coef.dtype)), mix


def _better(new: tuple[Tensor, Tensor, Tensor], old: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Of each problem, the mix, mixed scores and objective where the objective is smaller."""
    better = new[2] < old[2]
    if better.all():
        return new
    mix, mixed = torch.where(better[:, None], new[0], old[0]), torch.where(better[:, None, None], new[1], old[1])
    return mix, mixed, torch.where(better, new[2], old[2])


def _orthogonal(states: Sequence[State]) -> Tensor:
    """Scores and weights (B, m, n * n_scores + n_scores * D) that span the same, the latest first.

    Solutions next to each other are nearly parallel, which the Hessian in float32 would not stand: what the earlier
    ones add is brought to the length of the latest, and scores are orthogonal.
    """
    n_scores = states[0].scores[0].numel()
    basis: list[Tensor] = []
    squares: list[Tensor] = []
    for state in reversed(states):
        vector = torch.cat([state.scores.flatten(1), state.coef.flatten(1)], 1)
        whole = dot(*[vector[:, :n_scores]] * 2)[:, 0]
        for known, square in zip(basis, squares, strict=True):
            shared = dot(known[:, :n_scores], vector[:, :n_scores])[:, 0] / square
            vector = torch.addcmul(vector, known, -shared)
        limits = torch.finfo(vector.dtype)
        square = dot(*[vector[:, :n_scores]] * 2)[:, 0].clamp(min=limits.tiny)
        if basis:
            adds = square > (ROUNDED * limits.eps) ** 2 * whole
            vector, square = torch.where(adds, vector * (squares[0] / square).sqrt(), 0), squares[0]
        basis.append(vector)
        squares.append(square)
    return torch.stack(basis, 1)


def _gram(coefs: Tensor, penalty: Tensor) -> Tensor:
    """Inner products (B, m, m) of weights (B, m, n_scores, D), those of the intercepts left out, times the penalty."""
    rows = coefs[:, :, :, :-1].flatten(2)
    return (rows @ rows.mT).to(penalty.dtype) * penalty[:, :, :1]
