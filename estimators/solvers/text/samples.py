"""Samples that words and images are weighed by: classes, weights, and which of them can be left out."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from frofa.estimators.solvers.shrinkage.temperature import NEVER, Targets

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
RATED = 2**19
"""Scores that words and images are weighed by, at most: those of some of the samples, where there are very many."""


class Samples(NamedTuple):
    """Samples (n,) of positive weight, by class.

    `balanced` (n,) are their weights by which all classes weigh the same, and `importance` (n,) those that count as in
    the class prior, both of as large a sum as there are equally weighted samples that are worth as much. `known` (n,)
    tells which have others of their class, so that they can be left out. `offsets` (n, K) are logarithms of class
    priors, as each sample finds them without itself; `shots` is the number of samples a class, of which classes of few
    count most.
    """

    codes: Indices
    balanced: Array
    importance: Array
    known: npt.NDArray[np.bool_]
    offsets: Array
    log_priors: Array
    shots: float

    @classmethod
    def of(cls, codes: Indices, weights: Array, log_priors: Array | None, n_classes: int) -> "Samples":
        """Describe samples whose classes have a prior (K,), as logarithms; None is that of the weights."""
        totals, squares = (np.bincount(codes, each, n_classes) for each in (weights, weights**2))
        present = totals > 0
        own = totals[codes]
        balanced = weights / own
        with np.errstate(divide="ignore"):
            priors = np.log(totals / totals.sum()) if log_priors is None else log_priors
        importance = balanced * np.exp(priors - priors.max())[codes]
        logs = np.where(present, np.maximum(priors, NEVER), NEVER)
        offsets = np.repeat(logs[None], len(codes), axis=0)
        left = own - weights
        known = left > 1e-9 * own
        if log_priors is None:
            offsets[np.arange(len(codes)), codes] += np.log(np.where(known, left, own) / own)
        shots = present.sum() / (squares[present] / totals[present] ** 2).sum()
        return cls(codes, _of_size(balanced), _of_size(importance), known, offsets, logs, float(shots))

    def rows(self, rows: npt.NDArray[np.generic] | slice) -> "Samples":
        """Choose samples."""
        return self._replace(
            codes=self.codes[rows],
            balanced=self.balanced[rows],
            importance=self.importance[rows],
            known=self.known[rows],
            offsets=self.offsets[rows],
        )

    def some(self) -> slice:
        """Choose so many samples, evenly spaced, that their scores are not too many."""
        return slice(None, None, -(-self.offsets.size // RATED))

    def targets(self) -> Targets:
        """Turn samples into what scores are calibrated by."""
        importance = _of_size(self.importance)
        return Targets(
            torch.from_numpy(np.ascontiguousarray(self.offsets))[None],
            torch.from_numpy(np.ascontiguousarray(self.codes))[None],
            torch.from_numpy(np.ascontiguousarray(importance))[None],
            torch.tensor([importance.sum()], dtype=torch.float64),
        )


def _of_size(weights: Array) -> Array:
    """Scale weights to the sum of as many equal ones as are worth as much, by Kish's rule."""
    squares = (weights**2).sum()
    found: Array = weights * (weights.sum() / squares) if squares > 0 else weights
    return found
