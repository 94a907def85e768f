"""The averaged discriminant as two metrics, by which rows and class means are multiplied.

In each space, members are averaged to ``score_c(x) = x' A mu_c - 1/2 mu_c' B mu_c + 1/2 t u_c``, with ``A`` the sum of
their metrics times what each counts, ``B`` the same times their biases, t the noise, and u_c the variance of the mean
of class c in units of that of a sample.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from frofa.estimators.solvers.shrinkage.averaging import average_left_out, factors_of, weigh
from frofa.estimators.solvers.shrinkage.fitting import Members
from frofa.estimators.solvers.shrinkage.leave_one_out import OwnClass
from frofa.estimators.solvers.shrinkage.path import Path


class Space(NamedTuple):
    """Metrics of a space: diagonals (r,) in the coordinates of a path, and what the rest of the space is multiplied by.

    `factors` are what members count, inner and outer, (1, L) both.
    """

    path: Path
    factors: tuple[Tensor, Tensor]
    inner: Tensor
    outer: Tensor

    @property
    def rest(self) -> tuple[Tensor, Tensor]:
        """Metrics outside of what samples span, where there is no scatter."""
        return self.factors[0].sum(), self.factors[1].sum()

    def multiply(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Multiply rows (n, D) by both metrics."""
        basis = self.path.basis[0]
        within = rows @ basis
        if basis.shape[0] == basis.shape[1]:
            return (within * self.inner) @ basis.mT, (within * self.outer) @ basis.mT
        inner, outer = self.rest
        products = ((within * (each - rest)) @ basis.mT for each, rest in ((self.inner, inner), (self.outer, outer)))
        with_inner, with_outer = products
        return with_inner + inner * rows, with_outer + outer * rows


class Metric(NamedTuple):
    """An averaged discriminant of one support set: metrics by space, and the noise t of squares of means.

    `weights` (1, spaces, L, G) are those of the members, and `left_out` (n, K) scores of samples without themselves.
    """

    spaces: list[Space]
    noise: Tensor
    weights: Tensor
    left_out: Tensor

    @classmethod
    def of(cls, members: Members) -> "Metric":
        """Average the members of a single support set."""
        weights = weigh(members.losses.flatten(1), members.expected.flatten(1), members.n_rated)
        weights = weights.reshape(members.losses.shape)
        factors = (weights * members.scales).unbind(1)
        spaces, noise = [], weights.new_zeros(())
        for left, part in zip(members.lefts, factors, strict=True):
            inner, outer = factors_of(part)
            diagonals = left.path.shrinkage()[0]
            spaces.append(Space(left.path, (inner, outer), inner[0] @ diagonals, outer[0] @ diagonals))
            noise = noise + (outer * left.noise).sum()
        left_out = torch.stack([average_left_out(*each) for each in zip(members.lefts, factors, strict=True)]).sum(0)
        return cls(spaces, noise, weights, left_out[0])


class Products(NamedTuple):
    """Products of all rows of a support set and its pool by both metrics, summed over the spaces: (N, N) both.

    The first n rows are samples with labels. `own` (n, N) is what products by `inner` of each of these win where the
    metric is that without it; `squares` are pairs of factors (n,) and products (n, N) whose squares, by a class mean,
    are what `outer` wins.
    """

    inner: Tensor
    outer: Tensor
    noise: Tensor
    own: Tensor
    squares: list[tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, metric: Metric, rows: Sequence[Tensor]) -> "Products":
        """Multiply the rows (N, D) of each space."""
        inner, outer, own, squares = [], [], [], []
        for space, each in zip(metric.spaces, rows, strict=True):
            by_inner, by_outer = space.multiply(each)
            inner.append(by_inner @ each.mT)
            outer.append(by_outer @ each.mT)
            won, pairs = _won(space, each)
            own.append(won)
            squares += pairs
        return cls(sum_of(inner), sum_of(outer), metric.noise, sum_of(own), squares)

    def scores(self, shares: Tensor, uncertainty: Tensor, first: int = 0) -> tuple[Tensor, Tensor]:
        """Return products (B, N - first, K) of rows and class means, which are shares (B, N, K) of rows, and the rest.

        The rest of the scores is the same for all rows: (B, 1, K), from the uncertainty (B, K) of the means.
        """
        # One product for all means: (N, B * K).
        n_sets, n_rows, n_classes = shares.shape
        flat = shares.transpose(0, 1).reshape(n_rows, -1)
        squares = (flat * (self.outer @ flat)).sum(0).reshape(n_sets, n_classes)
        products = (self.inner[first:] @ flat).reshape(-1, n_sets, n_classes).transpose(0, 1)
        return products, 0.5 * (self.noise * uncertainty - squares).unsqueeze(1)

    def left_out(self, shares: Tensor, uncertainty: Tensor, rows: Tensor) -> Tensor:
        """Return the scores (B, K) of a sample each, of these rows (B,), by the metric that has not seen it."""
        rest = self.scores(shares, uncertainty, len(self.inner))[1][:, 0]
        scores = ((self.inner[rows] + self.own[rows]).unsqueeze(1) @ shares)[:, 0] + rest
        for factors, products in self.squares:
            along = (products[rows].unsqueeze(1) @ shares)[:, 0]
            scores = scores - 0.5 * factors[rows].unsqueeze(1) * along**2
        return scores


def _won(space: Space, rows: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Compute what products of samples with labels win without them: see `Products`.

    Without a sample of residual d, the metric P is ``P + k (P d)(P d)'``.
    """
    path, (inner, outer) = space.path, space.factors
    within = rows @ path.basis[0]
    own, residuals, diagonals = OwnClass.of(path), path.residuals[0], path.shrinkage()[0]
    # Factors (L, n) of d' P x, for the sample itself; members that count nothing are left out.
    won, pairs = residuals.new_zeros(len(residuals), len(rows)), []
    for number in torch.nonzero((inner + outer)[0]).flatten().tolist():
        along = (residuals * diagonals[number]) @ within.mT
        won += (inner[0, number] * own.won[0, number] * own.along[0, number]).unsqueeze(1) * along
        if outer[0, number] > 0:
            pairs.append((outer[0, number] * own.won[0, number], along))
    return won, pairs


def sum_of(parts: Sequence[Tensor]) -> Tensor:
    """Add up tensors of one shape."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
