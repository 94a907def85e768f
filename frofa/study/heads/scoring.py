"""Scores of the predictions of many heads at once."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

BINS = 15
"""Bins of the calibration error, as in `frofa.evaluation.calibration_error`."""


class Scored(NamedTuple):
    """Scores of M heads, (M,): accuracy in percent, negative log-likelihood in nats, calibration error in percent.

    The floor is the error that perfect probabilities would have on so few images, on average; `pooled` the error of the
    predictions of all heads together, one number, whose floor is lower.
    """

    accuracy: Tensor
    log_loss: Tensor
    calibration: Tensor
    floor: Tensor
    pooled: float


def score(log_probabilities: Tensor, codes: Tensor) -> Scored:
    """Score log-probabilities (M, n, n_classes) of M heads for images of classes `codes` (n,)."""
    best, predicted = log_probabilities.double().max(2)
    right = (predicted == codes).double()
    own = log_probabilities.double().gather(2, codes.expand(len(predicted), -1).unsqueeze(2))[..., 0]
    # No more confident than float64 can tell from 1, as in `frofa.evaluation.log_loss`.
    loss = -own.clamp_min(math.log(torch.finfo(torch.float64).eps)).mean(1)
    confidence = best.exp()
    gaps = _binned(confidence, right - confidence)
    # The sum of a bin deviates from zero by chance alone, as of a normal distribution: E|z| = sqrt(2 / pi).
    chance = _binned(confidence, confidence * (1 - confidence)).clamp_min(0).sqrt() * math.sqrt(2 / math.pi)
    n = confidence.shape[1]
    calibration, floor = (100 * part.abs().sum(1) / n for part in (gaps, chance))
    pooled = 100 * float(gaps.sum(0).abs().sum()) / confidence.numel()
    return Scored(100 * right.mean(1), loss, calibration, floor, pooled)


def _binned(confidence: Tensor, values: Tensor) -> Tensor:
    """Sum values (M, n) over bins (low, high] of the confidence (M, n): (M, BINS)."""
    edges = torch.linspace(0, 1, BINS + 1, dtype=torch.float64, device=confidence.device)[1:-1]
    sums = torch.zeros(len(confidence), BINS, dtype=torch.float64, device=confidence.device)
    return sums.scatter_add_(1, torch.bucketize(confidence, edges), values)
