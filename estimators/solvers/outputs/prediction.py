"""Predictions of averaged ridge regressions: their variances, and intervals by predictions without each sample."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from frofa.compute.memory import row_chunks
from frofa.estimators.solvers.outputs.averaging import Members, left_out_errors, weights_of_others
from frofa.estimators.solvers.outputs.path import Path

Array = npt.NDArray[np.float64]
ELEMENTS = 2**23
"""Predictions that are held at a time: 64 MiB."""


def variances(path: Path, known: Members, rows: Tensor) -> Tensor:
    """Variances (m, T) of targets at rows (S, m, D), noise included, in units of those of the targets.

    Each member has its noise times one and what a unit of weight at a row would add to its own prediction; that they
    differ from their average is added.
    """
    x = path.coordinates(rows)
    # Squares (S, m) of what no sample has a share in, on which nothing but the penalty acts.
    mean = (path.basis @ path.centre.unsqueeze(2)).mT
    beyond = (((rows - mean) ** 2).sum(2) - (x**2).sum(2)).clamp(min=0)
    unknown = 1 / path.weights.sum() + path.resolvent @ x.mT**2 + path.inverse.unsqueeze(2) * beyond.unsqueeze(1)
    counted = known.weights * known.noise
    total = counted.sum((0, 1)) + torch.einsum("slt,slm->mt", counted, unknown)
    members = x.unsqueeze(1) @ (path.resolvent.unsqueeze(3) * known.rhs.unsqueeze(1))
    average = torch.einsum("slt,slmt->mt", known.weights, members)
    total += torch.einsum("slt,slmt->mt", known.weights, (members - average) ** 2)
    return total * known.inflation


class Jackknife(NamedTuple):
    """Left-out samples of one output, and the part that each has in predictions.

    Members are linear in centred coordinates, by `members` (S, L, r). Without sample i they count by `counts` (S, L,
    n), and their average is ``w * (residual / sum(w) + x' slopes_i)`` less, w its weight: slopes are (S, n, r),
    residuals (n,).
    """

    members: Tensor
    counts: Tensor
    slopes: Tensor
    residuals: Tensor
    weights: Tensor

    @classmethod
    def of(cls, path: Path, known: Members, targets: Tensor, number: int) -> "Jackknife":
        """Leave samples out of one output's average."""
        part = slice(number, number + 1)
        errors = left_out_errors(path, targets[:, part], known.rhs[:, :, part])
        counts = weights_of_others(errors, path.weights / path.weights.sum()).squeeze(3)
        errors = errors.squeeze(3) * counts
        members = path.resolvent * known.rhs[:, None, :, number]
        slopes = path.samples * (errors.mT @ path.resolvent)
        return cls(members, counts, slopes, errors.sum((0, 1)), path.weights)

    def without_each(self, x: Tensor) -> Tensor:
        """Predict (m, n) at centred coordinates (S, m, r) without each sample."""
        predicted = ((x @ self.members.mT) @ self.counts).sum(0)
        moved = (x @ self.slopes.mT).sum(0) + self.residuals / self.weights.sum()
        return predicted - self.weights * moved


def intervals(knife: Jackknife, x: Tensor, levels: Array) -> Tensor:
    """Intervals (m, 2, n_levels) of jackknife+ (Barber et al., 2021) at centred coordinates (S, m, r).

    The ends are quantiles of the predictions without each sample, less and more what that is off at the sample.
    """
    size, n = knife.residuals.abs(), len(knife.residuals)
    found = []
    for part in row_chunks(x.shape[1], ELEMENTS, n):
        without = knife.without_each(x[:, part])
        lower = -quantiles(size - without, knife.weights, levels)
        found.append(torch.stack([lower, quantiles(without + size, knife.weights, levels)], 1))
    return torch.cat(found)


def quantiles(values: Tensor, weights: Tensor, levels: Array) -> Tensor:
    """Quantiles (m, n_levels) of values (m, n) and infinity, which has the weight of a usual sample.

    Of equal weights, they are the ``ceil(level * (n + 1))`` smallest values.
    """
    ordered, order = values.sort(1)
    total = weights.sum() + weights.mean()
    cumulated = weights[order].cumsum(1) / total
    ends = torch.nn.functional.pad(ordered, (0, 1), value=torch.inf)
    # The first place at which enough weight is reached, but for rounding.
    wanted = torch.as_tensor(levels, dtype=values.dtype, device=values.device) - 1e-12
    places = torch.searchsorted(cumulated, wanted.expand(len(values), -1).contiguous())
    return ends.gather(1, places)
