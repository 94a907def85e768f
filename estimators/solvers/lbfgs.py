"""L-BFGS, several problems at once: the inverse Hessian from the latest steps and what the gradient gained by them."""

import torch
from torch import Tensor

from frofa.estimators.solvers.preconditioner import Preconditioner
from frofa.estimators.solvers.problems import dot

MEMORY = 5
"""Pairs of steps and gradient changes that L-BFGS keeps. With 3 or 8, `logistic` of benchmarks/search.py takes as many
steps, and as long."""


class Memory:
    """The latest pairs of steps and gains of the gradient; a new one takes the oldest one's place.

    The recursion's inner products are those of the triangular matrix ``step_i . gain_j``, i <= j. Kept is its inverse,
    in the order of the places: without the oldest pair, it is what is left of the inverse without the row and column of
    that pair. `like` has shape (B, n_scores, D) and format of the weights. If `fixed`, all places take part from the
    start, with pairs of zeros, so that every step is the same operations.
    """

    def __init__(self, like: Tensor, *, fixed: bool = False):
        new = like.new_zeros if fixed else like.new_empty
        self._steps, self._gains = (new(len(like), MEMORY, *like.shape[1:]) for _ in range(2))
        self._inverse, self._diagonal = like.new_zeros(len(like), MEMORY, MEMORY), like.new_zeros(len(like), MEMORY)
        self._place = torch.zeros(1, dtype=torch.int64, device=like.device)
        self._places = torch.arange(MEMORY, device=like.device)
        self._n = MEMORY if fixed else 0

    def tensors(self) -> tuple[Tensor, ...]:
        """List all that depends on the pairs."""
        return self._steps, self._gains, self._inverse, self._diagonal

    def clear(self) -> None:
        """Forget all pairs, where all places take part."""
        for part in self.tensors():
            part.zero_()

    def add(self, step: Tensor, gain: Tensor) -> None:
        """Keep a pair; problems that did not move, or by rounding only, have no use of theirs."""
        n = self._n = min(self._n + 1, MEMORY)
        product = dot(step, gain)
        useful = product > torch.finfo(step.dtype).tiny
        gain = gain * useful
        self._steps.index_copy_(1, self._place, (step * useful).unsqueeze(1))
        self._gains.index_copy_(1, self._place, gain.unsqueeze(1))
        length = torch.where(useful, product, 1)[:, :, 0]
        # Without the row and the column of the place, the inverse is that of the other pairs.
        here = self._places[:n] == self._place
        kept = (~here).to(step.dtype)
        inverse = self._inverse[:, :n, :n] * (kept.unsqueeze(1) * kept)
        # The last column of an inverse of [[R, r], [0, l]] is [-R^-1 r, 1] / l.
        others = _products(self._steps[:, :n], gain)[:, :, 0] * kept
        column = torch.where(here, 1, -(inverse @ others.unsqueeze(2)).squeeze(2)) / length
        self._inverse[:, :n, :n] = torch.where(here, column.unsqueeze(2), inverse)
        self._diagonal[:, :n] = torch.where(here, length, self._diagonal[:, :n])
        self._place.add_(1).remainder_(MEMORY)

    def direction(self, gradient: Tensor, precondition: Preconditioner) -> tuple[Tensor, Tensor]:
        """Find where to go from here (B, n_scores, D), and the slope (B, 1, 1) of the objective along it, in float64.

        That slope is below zero but for rounding; where it is not, the diagonal alone leads downhill.
        """
        v = self._two_loops(gradient, precondition) if self._n else -precondition(gradient)
        slope = dot(gradient, v)
        downhill = slope < 0
        if gradient.is_cuda or not downhill.all():  # asking a GPU would take longer
            v = torch.where(downhill, v, -precondition.scale(gradient))
            slope = dot(gradient, v)
        return v, slope.double()

    def _two_loops(self, gradient: Tensor, precondition: Preconditioner) -> Tensor:
        n = self._n
        steps, gains, inverse = self._steps[:, :n], self._gains[:, :n], self._inverse[:, :n, :n]
        # From the latest pair to the oldest: shares (B, n, 1) of the gains that are taken off.
        alpha = -inverse @ _products(steps, gradient)
        v = precondition(-gradient - _mixed(alpha, gains))
        # And from the oldest to the latest: shares of the steps that are added.
        rest = self._diagonal[:, :n].unsqueeze(2) * alpha - _products(gains, v)
        return v + _mixed(inverse.mT @ rest, steps)


def _products(pairs: Tensor, v: Tensor) -> Tensor:
    """Return inner products (B, n, 1) of pairs (B, n, n_scores, D) and v (B, n_scores, D)."""
    if v.is_cuda:  # where products of a matrix and a column are slow, and a sum in one go is the work of few blocks
        return (pairs * v.unsqueeze(1)).sum(3).sum(2, keepdim=True)
    return pairs.flatten(2) @ v.flatten(1).unsqueeze(2)


def _mixed(shares: Tensor, pairs: Tensor) -> Tensor:
    """Return sums (B, n_scores, D) of pairs (B, n, n_scores, D) by shares (B, n, 1)."""
    return (shares.mT @ pairs.flatten(2)).view(len(pairs), *pairs.shape[2:])
