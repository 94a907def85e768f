"""Class means by expectation and maximisation: samples without labels count by their probabilities."""

from typing import NamedTuple

import torch
from torch import Tensor

from frofa.estimators.solvers.shrinkage.temperature import NEVER
from frofa.estimators.solvers.transduction.metric import Products

PRIOR, LEAST = 2.0, 0.7
"""Prior of class proportions, in units of the pool, times the samples with labels of a class: at one a class, it weighs
twice what the pool does, as predictions of few samples say little of how frequent classes are. And the least of it:
with less, labels of pools of all classes alike, or with images of other classes, get worse."""


class Sample(NamedTuple):
    """A support set and its pool: codes and weights (n,) of samples with labels, weights (m,) of those without.

    Logarithms of class priors are (K,); `shots` is the number of samples of a class.
    """

    codes: Tensor
    weights: Tensor
    pool: Tensor
    log_priors: Tensor
    shots: float

    def membership(self) -> Tensor:
        """Weights (n, K) of the samples with labels in their classes."""
        member = torch.nn.functional.one_hot(self.codes, len(self.log_priors)).to(self.weights.dtype)
        return member * self.weights.unsqueeze(1)


class Means(NamedTuple):
    """Class means as shares (B, N, K) of rows, and the uncertainty (B, K) of each."""

    shares: Tensor
    uncertainty: Tensor

    @classmethod
    def of(cls, weights: Tensor) -> "Means":
        """Divide weights (B, N, K) of rows in classes by their sums."""
        totals = weights.sum(1)
        safe = torch.where(totals > 0, totals, 1)
        return cls(weights / safe.unsqueeze(1), (weights**2).sum(1) / safe**2)


def learn(products: Products, sample: Sample, member: Tensor, part: float, n_steps: int) -> Means:
    """Refine class means of samples with labels, by their membership (B, n, K), by those without.

    All of the pool together weighs at most `part` times what samples with labels do. One that is ambiguous counts
    less: its probabilities are multiplied by how far the largest lies above ``1 / K``, so that images of other classes
    than those known, and wrong ones, do little harm.
    """
    n, m, n_classes = len(sample.codes), len(sample.pool), len(sample.log_priors)
    none = member.new_zeros(len(member), m, n_classes)
    means = Means.of(torch.cat([member, none], 1))
    if not part or not m:
        return means
    weights = sample.pool * min(1.0, part * float(sample.weights.sum() / sample.pool.sum()))
    logs = sample.log_priors.expand(len(member), 1, -1)
    for _ in range(n_steps):
        inner, rest = products.scores(*means, first=n)
        expected = torch.softmax(inner + rest + logs, 2)
        logs = log_proportions(expected, sample.pool, sample.log_priors, strength_of(sample.shots))
        clear = (expected.amax(2, keepdim=True) - 1 / n_classes) / (1 - 1 / n_classes)
        means = Means.of(torch.cat([member, expected * clear * weights.unsqueeze(1)], 1))
    return means


def strength_of(shots: float) -> float:
    """Give the weight of the prior of class proportions, in units of the pool."""
    return max(PRIOR / shots, LEAST)


def log_proportions(expected: Tensor, weights: Tensor, log_priors: Tensor, strength: float) -> Tensor:
    """Estimate logarithms (B, 1, K) of how frequent classes are in a pool, from probabilities (B, m, K) there.

    It is the mode under a Dirichlet prior around the class priors (K,), of a `strength` in units of the pool.
    """
    priors = torch.softmax(log_priors, 0)
    counted = (expected * weights.unsqueeze(1)).sum(1, keepdim=True) / weights.sum()
    return torch.log((counted + strength * priors) / (1 + strength)).clamp(min=NEVER)


def pool_probabilities(
    logits: Tensor, weights: Tensor, log_priors: Tensor, shots: float, max_iter: int = 100
) -> tuple[Tensor, Tensor]:
    """Turn logits (m, K) of a pool into probabilities in proportion to how frequent classes are there; and these (K,).

    That is the estimate of Saerens et al. (2002) with a Dirichlet prior, which is strong where `shots` are few.
    """
    logs = torch.zeros_like(log_priors)
    possible, strength = log_priors > NEVER / 2, strength_of(shots)
    usual = torch.where(possible, log_priors, 0)
    for _ in range(max_iter):
        expected = torch.softmax(logits + logs, 1)
        proportions = log_proportions(expected[None], weights, log_priors, strength)[0, 0]
        moved = torch.where(possible, proportions - usual, 0)
        if float((moved - logs).abs().max()) < 1e-9:
            break
        logs = moved
    return torch.softmax(logits + logs, 1), torch.softmax(torch.where(possible, usual + logs, NEVER), 0)
