"""Temperatures by the likelihood of left-out samples, held towards what is usual where samples are few."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

NEVER = -1e30
"""Logarithm of the prior of a class that is never predicted: its logits are finite."""
SPREAD = 2.0
"""Usual spread of calibrated logits of an image: their standard deviation over the classes."""
HELD = 2.0
"""Samples that the usual spread is worth, at a curvature of one: it has a deviation of ``1 / sqrt(HELD)`` in logs."""
BLIND = 1.0
"""Usual spread over the classes other than an image's own, where there is one image of each class."""
LOST = 0.25
"""Part of a sample by which calibrated scales are too small: a sample that is left out finds one fewer in its class,
and is harder to tell than those to come (``benchmarks/calibration_constants.py``)."""
STEPS, PRECISION = 60, 1e-5
LARGE = 2**22
"""Scores of a set, of all members, beyond which likelihoods are computed in float32."""


class Targets(NamedTuple):
    """Labels, priors and weights that left-out samples are rated by.

    Logarithms of priors (B, n, K) as each sample finds them without itself, classes (B, n), and weights (B, n), zero
    for samples that cannot be left out; `n_effective` (B,) is the number of equally weighted ones that are worth as
    much.
    """

    offsets: Tensor
    codes: Tensor
    weights: Tensor
    n_effective: Tensor

    def every(self, step: int) -> "Targets":
        """Choose every so many samples, which are worth as much less."""
        offsets, codes, weights = (part[:, ::step] for part in (self.offsets, self.codes, self.weights))
        return Targets(offsets, codes, weights, self.n_effective / step)


def calibrate(scores: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """Find inverse temperatures of scores (B, m, n, K), and the mean negative log-likelihoods: (B, m) both.

    The likelihood has a log-normal prior around the scale that gives logits their usual spread; its maximum is found by
    Newton's method on the logarithm of the scale.
    """
    weights = targets.weights
    share = (weights / weights.sum(1, keepdim=True).clamp(min=1e-300))[:, None]
    codes = targets.codes[:, None, :, None].expand(-1, scores.shape[1], -1, 1)
    # Scores relative to the own class (B, m, n, K), and logarithms of priors likewise (B, 1, n, K).
    relative = scores - scores.gather(3, codes)
    offsets = (targets.offsets - targets.offsets.gather(2, targets.codes.unsqueeze(2))).unsqueeze(1)
    usual = torch.log(SPREAD / spread(relative, targets.offsets > NEVER / 2, share))
    if scores[0].numel() > LARGE:
        relative, offsets = relative.float(), offsets.float()
    held = (HELD / targets.n_effective.clamp(min=1))[:, None]
    logs, low, high = usual, usual - 12, usual + 12
    for _ in range(STEPS):
        slope, curvature, _ = _derivatives(relative, offsets, share, logs.exp())
        slope, curvature = slope + held * (logs - usual), curvature + held
        low, high = torch.where(slope < 0, logs, low), torch.where(slope > 0, logs, high)
        # Newton's step where it stays between the bounds, else their middle.
        moved = logs - slope / curvature
        safe = (curvature > 0) & (moved >= low) & (moved <= high)
        moved = torch.where(safe, moved, (low + high) / 2)
        done = bool(((moved - logs).abs() < PRECISION).all())
        logs = moved
        if done:
            break
    return logs.exp(), _derivatives(relative, offsets, share, logs.exp())[2]


def scale_of_all(shots: Any) -> Any:
    """Factor of scales that are calibrated to left-out samples, of so many samples a class, for fits to all."""
    return 1 + LOST / shots


def blind_scales(scores: Tensor, targets: Targets) -> Tensor:
    """Guess inverse temperatures (B, m) of scores (B, m, n, K) where no sample can be left out.

    Logits of samples get the usual spread over the classes that are not their own.
    """
    other = torch.ones_like(targets.offsets, dtype=torch.bool).scatter(2, targets.codes.unsqueeze(2), False)
    possible = other & (targets.offsets > NEVER / 2)
    share = torch.full_like(targets.weights, 1 / targets.weights.shape[1])[:, None]
    found = spread(scores, possible, share)
    return BLIND / torch.where(found > 1e-12, found, 1)


def spread(scores: Tensor, possible: Tensor, share: Tensor) -> Tensor:
    """Give the mean (B, m) of the deviation of scores over the classes that are possible, (B, n, K)."""
    part = (possible / possible.sum(2, keepdim=True).clamp(min=1)).to(scores.dtype).unsqueeze(1)
    centred = scores - (scores * part).sum(3, keepdim=True)
    return ((centred**2 * part).sum(3).sqrt() * share).sum(2).clamp(min=1e-100)


def _derivatives(relative: Tensor, offsets: Tensor, share: Tensor, scales: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return first and second derivative by the logarithm of the scale, and the loss itself: (B, m) each."""
    logits = relative * scales[:, :, None, None].to(relative.dtype) + offsets
    losses = torch.logsumexp(logits, 3)
    # Expectations of the relative scores and of their squares, (B, m, n).
    weighted = torch.exp(logits - losses.unsqueeze(3)) * relative
    mean, square, losses = (each.to(scales.dtype) for each in (weighted.sum(3), (weighted * relative).sum(3), losses))
    first = scales * (mean * share).sum(2)
    second = scales**2 * ((square - mean**2) * share).sum(2) + first
    return first, second, (losses * share).sum(2)
