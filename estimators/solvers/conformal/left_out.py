"""Models that were fitted without each sample, and what they make of others: no sample costs a fit.

Means, deviations, penalties, temperatures and weights are those of all samples, as everywhere in leave-one-out.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from frofa.estimators.solvers.ridge import BIAS, RidgePath
from frofa.estimators.solvers.shrinkage.averaging import LeftOut, average_left_out, factors_of, weigh
from frofa.estimators.solvers.shrinkage.fitting import Problems, rate_members
from frofa.estimators.solvers.shrinkage.leave_one_out import OwnClass
from frofa.estimators.solvers.shrinkage.spaces import Block, Stage, spaces_of

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


class LeftOutModels(Protocol):
    """Models without each of n samples: their scores (n, K) of these, NaN where there is none, and of new samples."""

    @property
    def own(self) -> Array:
        """The scores of each sample without it."""

    def scores(self, new: Array) -> Array:
        """Score m new samples by each of the models: (m, n, K)."""


class RidgeLeftOut(NamedTuple):
    """Ridge regression on the targets (n, n_targets) of features (n, C), without each sample."""

    path: RidgePath
    alpha: float
    targets: Array
    predicted: Array

    @classmethod
    def of(cls, path: RidgePath, alpha: float, targets: Array) -> "RidgeLeftOut":
        """Predict each sample by the fit without it."""
        return cls(path, alpha, targets, path.leave_one_out(targets, alpha))

    @property
    def own(self) -> Array:
        """The scores of each sample without it."""
        return _both(self.predicted)

    def scores(self, new: Array) -> Array:
        """Score as `LeftOutModels` does: a fit loses what a sample pulls it by."""
        path, alpha = self.path, self.alpha
        coef, intercept = path.solve(alpha)
        # How much new samples are pulled by each of the others, (m, n): features, and the constant one.
        along = (new - path.mean) / path.scale @ path.basis
        pulled = along / (path.eigenvalues + alpha) @ path.dual.T
        pulled += BIAS**2 * path.root_weights / (BIAS**2 * (path.root_weights**2).sum() + alpha)
        lost = path.root_weights[:, None] * (self.targets - self.predicted)
        return _both((new @ coef + intercept)[:, None] - pulled[:, :, None] * lost)


def _both(scores: Array) -> Array:
    """Complete the single score of two classes."""
    return np.concatenate([-scores, scores], -1) if scores.shape[-1] == 1 else scores


class MeansLeftOut(NamedTuple):
    """Nearest class means (K, D) of normalised samples (n, D) with classes and weights (n,), without each sample."""

    samples: Array
    codes: Indices
    means: Array
    moved: Array
    """The mean (n, D) of each sample's class without it; NaN where it has no other."""

    @classmethod
    def of(cls, samples: Array, codes: Indices, weights: Array, means: Array) -> "MeansLeftOut":
        """Take each sample out of the mean of its class."""
        left = (np.bincount(codes, weights, len(means))[codes] - weights)[:, None]
        alone = left <= 1e-9 * weights[:, None]
        moved = means[codes] - weights[:, None] / np.where(alone, 1, left) * (samples - means[codes])
        return cls(samples, codes, means, np.where(alone, np.nan, moved))

    @property
    def own(self) -> Array:
        """The scores of each sample without it."""
        n = np.arange(len(self.codes))
        scores: Array = self.samples @ self.means.T - 0.5 * (self.means**2).sum(1)
        scores[n, self.codes] = (self.samples * self.moved).sum(1) - 0.5 * (self.moved**2).sum(1)
        return scores

    def scores(self, new: Array) -> Array:
        """Score as `LeftOutModels` does, new samples (m, D) that are normalised."""
        n = np.arange(len(self.codes))
        plain = new @ self.means.T - 0.5 * (self.means**2).sum(1)
        scores = np.repeat(plain[:, None], len(n), 1)
        scores[:, n, self.codes] = new @ self.moved.T - 0.5 * (self.moved**2).sum(1)
        return scores


class AveragedLeftOut(NamedTuple):
    """Averaged shrinkage discriminants without each sample, in the members of each space.

    Factors of members are (1, L, G); `fixed` (n, K) is the part of the scores that is the same for all new samples.
    """

    shares: Tensor
    stages: Sequence[Stage]
    lefts: Sequence[LeftOut]
    factors: Sequence[Tensor]
    fixed: Tensor
    own: Array

    @classmethod
    def of(cls, problems: Problems) -> "AveragedLeftOut":
        """Fit to a single set of samples, as the probe does."""
        members = rate_members(problems)
        weights = weigh(members.losses.flatten(1), members.expected.flatten(1), members.n_rated)
        factors = (weights.reshape(members.losses.shape) * members.scales).unbind(1)
        lefts, offsets = members.lefts, members.targets.offsets
        known = lefts[0].path.statistics.can_be_left_out.unsqueeze(2)
        own = torch.stack([average_left_out(*each) for each in zip(lefts, factors, strict=True)]).sum(0) + offsets
        own = torch.where(known, own, torch.nan)[0]
        squares = torch.stack([_squares(*each) for each in zip(lefts, factors, strict=True)]).sum(0)
        return cls(problems.shares, members.stages, lefts, factors, (offsets - squares / 2)[0], own.numpy())

    def scores_of(self, blocks: Sequence[Block]) -> Array:
        """Score m new samples (1, m, C), in blocks and views, by each of the models: (m, n, K)."""
        rows = spaces_of(blocks, self.shares, self.stages)
        total = self.fixed
        for each, left, factors in zip(rows, self.lefts, self.factors, strict=True):
            total = total + _inner(each[0] @ left.path.basis[0], left, factors_of(factors)[0][0])
        codes = self.lefts[0].path.statistics.codes[0]
        lost = ~self.lefts[0].path.statistics.can_be_left_out[0]
        scores = total.numpy()
        scores[:, lost.numpy(), codes[lost].numpy()] = np.nan
        return scores


def _squares(left: LeftOut, factors: Tensor) -> Tensor:
    """Add up the squares of means without each sample, (1, n, K), less what they exceed the true ones by."""
    outer = factors_of(factors)[1]
    total = torch.zeros_like(left.uncertainty)
    for number in torch.nonzero(outer[0]).flatten().tolist():
        part = slice(number, number + 1)
        total += outer[0, number] * left.products(part, slice(None))[1][:, 0]
    return total


def _inner(new: Tensor, left: LeftOut, factors: Tensor) -> Tensor:
    """Add up the products (m, n, K) of new samples (m, r) with the means, by the metric without each sample.

    That metric is ``P + won (P d)(P d)'``, and the mean of a sample's own class is ``mu - moved * d`` without it.
    """
    path, known = left.path, left.path.statistics
    own = torch.nn.functional.one_hot(known.codes[0], known.n_classes).to(new.dtype)
    moved = (known.weights / torch.where(known.can_be_left_out, known.left, 1))[0, :, None]
    residuals, means = path.residuals[0], path.means[0]
    used = torch.nonzero(factors).flatten().tolist()
    diagonals, won = path.shrinkage()[0], OwnClass.of(path).won[0]
    total = (new @ (means * (factors @ diagonals)).T).unsqueeze(1)
    for number in used:
        pulled = residuals * diagonals[number]
        along = pulled @ means.T
        along = along - own * moved * (pulled * residuals).sum(1, keepdim=True)
        # Products of new samples and residuals (m, n), by what each sample's loss makes of them (n, K).
        change = won[number, :, None] * along - own * moved
        total = total + (new @ pulled.T).unsqueeze(2) * (factors[number] * change)
    return total
