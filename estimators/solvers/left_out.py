"""Labelled samples that classifiers were fitted without: what their scores are worth."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import log_softmax
from torch import Tensor

from frofa.estimators.solvers.shrinkage.temperature import NEVER, Targets, blind_scales, calibrate

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]
LEAST = 1e-30
"""Least probability and prior that is told from zero."""
MOST = 1e30
"""Inverse temperature that scores of some spread do not have."""


def log_frequencies(codes: Indices, weights: Array, n_classes: int) -> Array:
    """Logarithms (n_classes,) of the shares of classes in weighted samples."""
    logs: Array = np.log(np.maximum(np.bincount(codes, weights, n_classes) / weights.sum(), LEAST))
    return logs


def rates(log_probs: Array, codes: Indices, weights: Array) -> tuple[float, float]:
    """Weighted accuracy and log-loss of log-probabilities (n, n_classes); NaN where there are none in any row."""
    known = np.isfinite(log_probs).any(1) & (weights > 0)
    if not known.any():
        return float("nan"), float("nan")
    seen = LeftOut(codes[known], weights[known], np.zeros(log_probs.shape[1]))
    return seen.accuracy(log_probs[known]), seen.log_loss(log_probs[known])


class Calibrated(NamedTuple):
    """An inverse temperature of scores, and log-probabilities (n, n_classes) by it."""

    scale: float
    log_probs: Array


class LeftOut(NamedTuple):
    """Samples (n,) by class, with what each counts, and what is added to calibrated scores of classes (n_classes,).

    `absent` (n_classes,) are classes of which nothing was learnt; None if there are none.
    """

    codes: Indices
    importance: Array
    offsets: Array
    absent: Array | None = None

    @classmethod
    def of(
        cls, codes: Indices, weights: Array, log_prior: Array | None, n_classes: int, learnt: Array | None = None
    ) -> "LeftOut":
        """Describe weighted samples whose classes are to have a prior (n_classes,); None is what was learnt.

        Most heads learn the frequencies of their samples; `learnt` (n_classes,) are logarithms of priors of one that
        has others. Offsets replace these by the prior, and so does what samples count, as the likelihood is to be that
        of samples of the prior.
        """
        frequencies, logs = np.bincount(codes, weights, n_classes), log_frequencies(codes, weights, n_classes)
        learnt = logs if learnt is None else learnt
        wanted = learnt if log_prior is None else np.maximum(log_prior, np.log(LEAST))
        # Of classes without weight nothing was learnt.
        absent = frequencies <= 0
        importance = weights * np.exp(np.where(absent, 0, wanted - logs)[codes])
        return cls(codes, importance, np.where(absent, 0, wanted - learnt), absent if absent.any() else None)

    def rows(self, rows: Array) -> "LeftOut":
        """Choose samples."""
        return self._replace(codes=self.codes[rows], importance=self.importance[rows])

    def calibrated(self, scores: Array) -> Calibrated:
        """Calibrate scores (n, n_classes) by the likelihood of the samples, and add the offsets."""
        scales, _ = calibrate(self._problem(scores), self._targets(scores.shape))
        # Scores that are all the same say nothing.
        scale = float(scales[0, 0]) if scales[0, 0] < MOST else 1.0
        return Calibrated(scale, log_softmax(scale * scores + self.offsets, axis=1))

    def blind_scale(self, scores: Array) -> float:
        """Guess the inverse temperature of scores (n, n_classes) of samples that are all the only one of their class.

        What they say of the other classes tells how far scores spread.
        """
        return float(blind_scales(self._problem(scores), self._targets(scores.shape))[0, 0])

    def _problem(self, scores: Array) -> Tensor:
        """Make scores one problem of one kind of scores, (1, 1, n, n_classes), in float64."""
        found = np.array(scores, np.float64)
        if self.absent is not None:
            found[:, self.absent] = 0  # they may be as low as numbers are
        return torch.from_numpy(found)[None, None]

    def _targets(self, shape: tuple[int, ...]) -> Targets:
        offsets = self.offsets if self.absent is None else np.where(self.absent, NEVER, self.offsets)
        return Targets(
            torch.from_numpy(np.broadcast_to(offsets, shape).copy())[None],
            torch.from_numpy(np.ascontiguousarray(self.codes))[None],
            torch.from_numpy(np.ascontiguousarray(self.importance))[None],
            torch.tensor([self.n_effective]),
        )

    @property
    def n_effective(self) -> float:
        """Number of equally weighted samples that are worth as much."""
        return float(self.importance.sum() ** 2 / (self.importance**2).sum())

    def accuracy(self, log_probs: Array) -> float:
        """Share of the samples whose class is the most probable."""
        return float(np.average(log_probs.argmax(1) == self.codes, weights=self.importance))

    def log_loss(self, log_probs: Array) -> float:
        """Mean negative log-likelihood of the samples."""
        return float(-np.average(log_probs[np.arange(len(self.codes)), self.codes], weights=self.importance))
