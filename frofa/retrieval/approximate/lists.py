"""Lists of rows that lie together, and how far a row of a list can be from what its centre says.

All metrics become inner products here: rows and queries are divided by their lengths for cosines, and for distances get
one more value, by which their product is that of `frofa.retrieval.metrics.scores`. A random rotation comes after it, so
that no direction is coded worse than another.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from frofa.compute.memory import row_chunks
from frofa.retrieval.metrics import Doubles, ready_queries

PRODUCTS = 2**26
"""Products of rows and centres that are held at once."""
ROUNDS = 10
"""Rounds of k-means: later ones move centres by little, and no result depends on them, only how much is searched."""
FLOOR = 0.1
"""Part of the variance that each direction is given, so that one which the sample lacks is not taken for empty."""
SHY = 8
"""Rows of the usual spread that the spread of a list is averaged with: of few rows, it says little."""


class Space(NamedTuple):
    """The space of inner products: `offset` is the value that queries get for distances; `rotation` is (d, d)."""

    metric: str
    offset: float
    rotation: Tensor

    @classmethod
    def of(cls, width: int, metric: str, length: float, seed: int = 0) -> "Space":
        """Make a space for rows of this width, and of about this length; its own is a multiple of four."""
        inner = width + (metric == "euclidean")
        inner += -inner % 4
        values = torch.randn(inner, inner, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        return cls(metric, length if metric == "euclidean" else 0.0, torch.linalg.qr(values).Q.float())

    def rows(self, values: Tensor, squares: Tensor) -> Tensor:
        """Bring rows (m, D), of these squares of lengths (m,), there: (m, d) in float32."""
        values = values.float()
        if self.metric == "cosine":
            values = values * torch.where(squares > 0, squares.rsqrt(), 0.0)[:, None]
        elif self.metric == "euclidean":
            values = torch.cat([values, squares[:, None] / (-2 * self.offset)], 1)
        return self._rotate(values)

    def queries(self, ready: Doubles) -> Tensor:
        """Bring ready queries (q, D) there: (q, d) in float32, on the CPU."""
        values = torch.from_numpy(ready_queries(ready, self.metric)).float()
        if self.metric == "euclidean":
            values = torch.cat([values, torch.full((len(values), 1), self.offset)], 1)
        return self._rotate(values)

    def _rotate(self, values: Tensor) -> Tensor:
        rotation = self.rotation.to(values.device)
        return values @ rotation[: values.shape[1]]


class Lists(NamedTuple):
    """Centres (L, d) of lists, the root (d, d) of the covariance of rows about them, and the spread (L,) of each."""

    centres: Tensor
    root: Tensor
    spread: Tensor

    @classmethod
    def fit(cls, sample: Tensor, n_lists: int) -> "Lists":
        """Find lists by k-means on a sample (m, d) of rows, where it lies."""
        centres = _centres(sample, n_lists)
        own = assign(sample, centres)
        left = sample - centres[own]
        covariance = (left.T @ left / len(left)).double().cpu()
        usual = float(covariance.diagonal().mean())
        floor = FLOOR * usual * torch.eye(len(covariance), dtype=torch.float64)
        values, vectors = torch.linalg.eigh(covariance + floor)
        # Mean square of what is left, in each list, relative to the usual one.
        squares = left.square().mean(1)
        counts = torch.bincount(own, minlength=n_lists)
        sums = torch.zeros(n_lists, device=sample.device).index_add_(0, own, squares)
        spread = ((sums + SHY * usual) / ((counts + SHY) * max(usual, 1e-30))).sqrt()
        root = (vectors * values.clamp(min=0).sqrt()).T.float()
        return cls(centres.cpu(), root, spread.cpu())

    def bounds(self, queries: Tensor, z: float) -> tuple[Tensor, Tensor]:
        """Scores (q, L) of centres, and what rows of the lists reach within z standard deviations."""
        coarse = queries @ self.centres.T
        deviation = (queries @ self.root.T).norm(dim=1, keepdim=True)
        return coarse, coarse + z * deviation * self.spread


def number_of_lists(n: int) -> int:
    """Choose how many lists n rows are put into: the power of two next below twice the root."""
    return 1 << int(np.log2(2 * n**0.5))


def assign(rows: Tensor, centres: Tensor) -> Tensor:
    """Find the nearest centre of each row, (m,)."""
    halves = 0.5 * centres.square().sum(1)
    parts = row_chunks(len(rows), PRODUCTS, len(centres))
    return torch.cat([(rows[part] @ centres.T - halves).argmax(1) for part in parts])


def _centres(sample: Tensor, n_lists: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)

    def pick(n: int) -> Tensor:
        return torch.randperm(len(sample), generator=generator)[:n].to(sample.device)

    centres = sample[pick(n_lists)].clone()
    for _ in range(ROUNDS):
        own = assign(sample, centres)
        counts = torch.bincount(own, minlength=n_lists)
        sums = torch.zeros_like(centres).index_add_(0, own, sample)
        centres = sums / counts.clamp(min=1)[:, None]
        empty = counts == 0
        centres[empty] = sample[pick(int(empty.sum()))]
    return centres
