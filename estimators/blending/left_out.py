"""Labelled samples that members were fitted without: what their scores are worth."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import log_softmax

from frofa.estimators.solvers.shrinkage.temperature import Targets, calibrate

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]
LEAST = 1e-30
"""Least probability and prior that is told from zero."""


class Calibrated(NamedTuple):
    """An inverse temperature of scores, and log-probabilities (n, n_classes) by it."""

    scale: float
    log_probs: Array


class LeftOut(NamedTuple):
    """Samples (n,) by class, with what each counts, and what is added to calibrated scores of classes (n_classes,)."""

    codes: Indices
    importance: Array
    offsets: Array

    @classmethod
    def of(cls, codes: Indices, weights: Array, log_prior: Array | None, n_classes: int) -> "LeftOut":
        """Describe weighted samples whose classes are to have a prior (n_classes,); None is their own frequencies.

        Heads learn the frequencies of their samples: offsets replace these by the prior, and so does what samples
        count, as the likelihood is to be that of samples of the prior.
        """
        frequencies = np.bincount(codes, weights, n_classes)
        offsets = np.zeros(n_classes)
        if log_prior is not None:
            offsets = np.maximum(log_prior, np.log(LEAST)) - np.log(np.maximum(frequencies / weights.sum(), LEAST))
        return cls(codes, weights * np.exp(offsets[codes]), offsets)

    def rows(self, rows: Array) -> "LeftOut":
        """Choose samples."""
        return LeftOut(self.codes[rows], self.importance[rows], self.offsets)

    def calibrated(self, scores: Array) -> Calibrated:
        """Calibrate scores (n, n_classes) by the likelihood of the samples, and add the offsets."""
        offsets, weights = np.broadcast_to(self.offsets, scores.shape), self.importance
        targets = Targets(
            torch.from_numpy(offsets.copy())[None],
            torch.from_numpy(self.codes)[None],
            torch.from_numpy(weights)[None],
            torch.tensor([weights.sum() ** 2 / (weights**2).sum()]),
        )
        # One problem of one kind of scores: leading axes (1, 1).
        scales, _ = calibrate(torch.from_numpy(scores.astype(np.float64))[None, None], targets)
        scale = float(scales[0, 0])
        return Calibrated(scale, log_softmax(scale * scores + offsets, axis=1))

    def accuracy(self, log_probs: Array) -> float:
        """Share of the samples whose class is the most probable."""
        return float(np.average(log_probs.argmax(1) == self.codes, weights=self.importance))

    def log_loss(self, log_probs: Array) -> float:
        """Mean negative log-likelihood of the samples."""
        return float(-np.average(log_probs[np.arange(len(self.codes)), self.codes], weights=self.importance))
