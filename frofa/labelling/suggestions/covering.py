"""Choosing rows of a pool by what they cover together, weighted by uncertainty, in pools of any size."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from frofa.estimators.solvers.shrinkage.spaces import fit_stages
from frofa.labelling.suggestions.choosing import Choice, Question
from frofa.labelling.suggestions.herding import Herd, Population, squared_distances
from frofa.labelling.suggestions.pool import Pool, Rows
from frofa.labelling.suggestions.repeats import repeats
from frofa.labelling.suggestions.sampling import WeightedSample, weighted_sample

Indices = npt.NDArray[np.intp]
Array = npt.NDArray[np.float64]
WIDTH = 0.5
"""Width of the kernel, relative to the median distance of images."""
NEIGHBOURS = 64
"""Images of a large pool nearest to each chosen one that are considered in its place."""
SPACE_ROWS, PAIR_ROWS = 4096, 1024
"""Rows, evenly spaced, by which channels are normalised, and of which the median distance is taken."""


class Space:
    """Centred and standardised channels, as the probe has them, by the images of a pool: distances are taken there."""

    def __init__(self, pool: Pool):
        vectors = pool.vectors(_evenly(len(pool), SPACE_ROWS))
        one_class = torch.zeros(1, len(vectors), dtype=torch.long, device=vectors.device)
        ones = torch.ones(1, len(vectors), device=vectors.device)
        self._stages = fit_stages([[vectors[None]]], ones[:, :1], one_class, ones, 1)
        self.width = WIDTH * self._usual_distance(pool.vectors(_evenly(len(pool), PAIR_ROWS)))

    def of(self, vectors: Tensor) -> Tensor:
        """Bring vectors (n, D) of a pool there; they are of length one again."""
        rows = vectors[None]
        for stage in self._stages:
            rows = stage.apply(rows)
        return rows[0]

    def read(self, pool: Pool, rows: Rows) -> Tensor:
        """Read rows of a pool, and bring them there, (m, D)."""
        return self.of(pool.vectors(rows))

    def _usual_distance(self, vectors: Tensor) -> float:
        """Median distance of images; one where most are the same."""
        squares = squared_distances(self.of(vectors), self.of(vectors))
        pairs = torch.ones_like(squares, dtype=torch.bool).triu(1)
        median = float(squares[pairs].median()) if len(vectors) > 1 else 0.0
        return median**0.5 or 1.0


def _evenly(n: int, most: int) -> Indices:
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.intp))


class Cover:
    """Greedy choice by coverage of a pool, in which rows have weights (n,).

    Of a pool of more than `max_exact` rows, a sample by weight stands for all in the mean, and another is chosen from.
    """

    def __init__(self, question: Question, weights: Array):
        self.question, self.pool = question, question.pool
        self.space = Space(self.pool)
        drawn = self._draw(weights)
        anchors = self.space.read(self.pool, drawn.rows)
        shares = torch.as_tensor(drawn.weights, dtype=torch.float32, device=anchors.device)
        self.population = Population(anchors, shares, self.space.width)
        labelled = question.labelled
        self.labelled = anchors[:0] if labelled is None else self.space.read(labelled, slice(None))
        self.covered = self.population.covered(self.labelled)

    def choose(self, weights: Array) -> Choice:
        """Choose the rows, and choose again with their neighbours where they came from a sample."""
        allowed = np.flatnonzero(self.question.allowed)
        rows = allowed[self._draw(weights[allowed]).rows]
        choice = self._choose_from(rows)
        if len(rows) == len(allowed):
            return choice
        # Greedy once more, among the chosen ones and what lies near them in the whole pool.
        return self._choose_from(np.union1d(choice.rows, self._neighbours(choice.rows)))

    def _choose_from(self, rows: Indices) -> Choice:
        return self._take(self._herd(rows, self.space.read(self.pool, rows)), rows)

    def _draw(self, weights: Array) -> WeightedSample:
        return weighted_sample(weights, self.question.max_exact, self.question.random_state)

    def _herd(self, rows: Indices, vectors: Tensor) -> Herd:
        """Make candidates of rows (c,) with vectors (c, D), but for those that are labelled already."""
        labelled = self.question.labelled
        known = np.zeros(len(rows), bool)
        if labelled is not None:
            known = repeats(self.pool, rows, vectors, labelled, np.arange(len(labelled)), self.labelled)
        return Herd(self.population, vectors, self.covered, torch.as_tensor(~known, device=vectors.device))

    def _take(self, herd: Herd, rows: Indices) -> Choice:
        """Take one candidate after another, until there are enough or none is left that repeats no other."""
        taken: list[int] = []
        tables: list[Array] = []
        while len(taken) < self.question.batch_size and bool(herd.allowed.any()):
            if self.question.return_utilities:
                tables.append(self._table(herd, rows))
            position = herd.best()
            taken.append(int(rows[position]))
            vector = herd.candidates[position : position + 1]
            herd.take(position)
            same = repeats(self.pool, rows, herd.candidates, self.pool, rows[position : position + 1], vector)
            herd.allowed &= torch.as_tensor(~same, device=vector.device)
        utilities = np.array(tables).reshape(len(taken), len(self.pool)) if self.question.return_utilities else None
        return Choice(np.array(taken, np.intp), utilities)

    def _table(self, herd: Herd, rows: Indices) -> Array:
        """Gains of the rows of the pool, (n,); NaN of those that cannot be chosen."""
        gains = torch.where(herd.allowed, herd.gains(), torch.nan)
        table = np.full(len(self.pool), np.nan)
        table[rows] = gains.cpu().numpy()
        return table

    def _neighbours(self, chosen: Indices) -> Indices:
        """Find the allowed rows nearest to each of the chosen ones in the whole pool."""
        centres = self.space.read(self.pool, chosen)
        best = torch.full((len(chosen), 0), torch.inf, device=centres.device)
        found = torch.zeros((len(chosen), 0), dtype=torch.long, device=centres.device)
        allowed = torch.as_tensor(self.question.allowed, device=centres.device)
        for part in self.pool.parts():
            squares = squared_distances(centres, self.space.read(self.pool, part))
            squares[:, ~allowed[part]] = torch.inf
            numbers = torch.arange(part.start, part.stop, device=centres.device).expand_as(squares)
            # The nearest ones so far, (b, NEIGHBOURS), beside those of this part.
            best, found = torch.cat([best, squares], 1), torch.cat([found, numbers], 1)
            best, order = best.topk(min(NEIGHBOURS, best.shape[1]), largest=False)
            found = found.gather(1, order)
        rows: Indices = np.unique(found[torch.isfinite(best)].cpu().numpy().astype(np.intp))
        return rows


def by_coverage(question: Question, weights: Array | None = None) -> Choice:
    """Choose rows by the coverage of the pool, weighted by (n,), or equally."""
    known = np.ones(len(question.pool)) if weights is None else weights
    return Cover(question, known).choose(known)
