"""Greedy coverage: samples that together lie near as much of a population as they can, by a kernel.

The coverage of chosen samples L is the mean over x of ``u(x) * max(k(x, l) for l in L)``, with weights u and the
Gaussian kernel ``k(x, l) = exp(-|x - l|^2 / (2 * width^2))``: that of MaxHerding (Bae et al., "Generalized Coverage for
More Robust Low-Budget Active Learning", ECCV 2024, arXiv 2407.12212) where all weights are equal, and of Uncertainty
Herding (Bae et al., ICLR 2025, arXiv 2412.20644) where they are uncertainties. What a sample adds only shrinks while
others are chosen, so that what it added earlier bounds what it adds now: most samples are never looked at again.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from frofa.compute.memory import row_chunks

Array = npt.NDArray[np.float64]
CHUNK_ELEMENTS = 2**23
"""Elements of a block of kernels: 32 MiB in float32."""
LOOKED_AT = 128
"""Candidates whose gains are computed together, the best bounds first."""


@dataclass(frozen=True)
class Population:
    """Vectors (m, D) that are to be covered, their weights (m,) of sum 1, and the kernel's width."""

    vectors: Tensor
    weights: Tensor
    width: float

    def kernels(self, vectors: Tensor) -> Tensor:
        """Kernels (c, m) between vectors (c, D) and the population."""
        return squared_distances(vectors, self.vectors).div_(-2 * self.width**2).exp_()

    def covered(self, vectors: Tensor) -> Tensor:
        """Kernel between each of the population and the nearest of some vectors (c, D), (m,), from 0 to 1."""
        nearest = torch.zeros_like(self.weights)
        for rows in row_chunks(len(vectors), CHUNK_ELEMENTS, len(self.vectors)):
            nearest = torch.maximum(nearest, self.kernels(vectors[rows]).amax(0))
        return nearest

    def gains(self, vectors: Tensor, covered: Tensor) -> Tensor:
        """Gains in coverage by each of some vectors (c, D), (c,)."""
        parts = [
            self.kernels(vectors[rows]).sub_(covered).clamp_(min=0) @ self.weights
            for rows in row_chunks(len(vectors), CHUNK_ELEMENTS, len(self.vectors))
        ]
        return torch.cat(parts) if parts else vectors.new_zeros(0)

    def coverage(self, covered: Tensor) -> float:
        """Weighted mean of what is covered (m,)."""
        return float(covered @ self.weights)


def squared_distances(left: Tensor, right: Tensor) -> Tensor:
    """Squared distances (a, b) between the rows of two matrices."""
    squares = (left @ right.T).mul_(-2)
    return squares.add_((left**2).sum(1)[:, None]).add_((right**2).sum(1)).clamp_(min=0)


class Herd:
    """Candidates (c, D) of which one after another is taken, each where it adds most to the coverage.

    `covered` (m,) is how near what is labelled lies to each of the population. What `allowed` (c,) excludes is not
    taken.
    """

    def __init__(self, population: Population, candidates: Tensor, covered: Tensor, allowed: Tensor):
        self.population, self.candidates, self.covered = population, candidates, covered
        self.allowed = allowed.clone()
        self._bounds: Tensor | None = None

    def gains(self) -> Tensor:
        """Gains in coverage by each candidate now, (c,), whether allowed or not."""
        self._bounds = self.population.gains(self.candidates, self.covered)
        return self._bounds

    def best(self) -> int:
        """Position of the allowed candidate that adds most, the first of equal ones."""
        bounds = self.gains() if self._bounds is None else self._bounds
        bounds = torch.where(self.allowed, bounds, -torch.inf)
        fresh = torch.zeros_like(self.allowed)
        while True:
            # A gain that is known is the best if it is as good as all bounds of those that are not.
            first = int(bounds.argmax())
            if fresh[first]:
                self._bounds = bounds
                return first
            rows = torch.topk(torch.where(fresh, -torch.inf, bounds), min(LOOKED_AT, len(bounds))).indices
            # Of equal bounds, those with the highest are any: the first is to be among them.
            rows = torch.cat([rows[(rows != first) & self.allowed[rows]], rows.new_tensor([first])])
            bounds[rows] = self.population.gains(self.candidates[rows], self.covered)
            fresh[rows] = True

    def take(self, position: int) -> None:
        """Cover what lies near a candidate, which is not allowed any more."""
        kernels = self.population.kernels(self.candidates[position : position + 1])[0]
        self.covered = torch.maximum(self.covered, kernels)
        self.allowed[position] = False
