"""Discriminants left out: products of each sample and the means, as the path fitted without it has them.

For a sample x of class y, of weight w in a class of total weight W, the scatter loses ``g d d'``, with ``g = w W / (W -
w)`` and d the residual, and the mean of y moves by ``-a d``, ``a = w / (W - w)``. By Sherman and Morrison, the metric
becomes ``P + k (P d)(P d)'``, ``k = g / penalty / (1 - g / penalty * d' P d)``. That is exact. Samples that cannot be
left out have values without meaning.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from frofa.compute.memory import row_chunks
from frofa.estimators.solvers.shrinkage.path import Path

ELEMENTS = 2**23
"""Scores of left-out samples that are added up at a time: 64 MiB, small enough to be quick."""
LARGE = 2**22
"""Scores beyond which squares that correct others are computed in float32."""


class OwnClass(NamedTuple):
    """Left-out samples and the mean of their own class, without them, for l penalties: (B, l, n) each.

    `won` is what the metric wins, k. `along` is ``d' P x``, with the metric and d of all samples. `inner` and `outer`
    are ``x' P m`` and ``m' P m``, with the mean m and the metric without the sample.
    """

    won: Tensor
    along: Tensor
    inner: Tensor
    outer: Tensor

    @classmethod
    def of(cls, path: Path, part: slice = slice(None), rows: slice = slice(None)) -> "OwnClass":
        """Compute all of these for some penalties and rows."""
        known, diagonal = path.statistics, path.shrinkage(part)
        residuals, means = path.residuals[:, rows], known.at_own_class(path.means)[:, rows]
        # By the metric of all samples: d' P d, d' P m and m' P m, for m the mean of all samples of the class.
        square, with_mean, mean = (diagonal @ each.mT for each in (residuals**2, residuals * means, means**2))
        weights = known.weights[:, None, rows]
        moved = weights / torch.where(known.can_be_left_out, known.left, 1)[:, None, rows]
        lost = weights * (1 + moved) * path.inverse[:, part].unsqueeze(2)
        won = lost / (1 - lost * square).clamp(min=1e-12)
        # As x = m + d, and the mean is m - a d without the sample.
        along, shifted = with_mean + square, with_mean - moved * square
        inner = mean + with_mean - moved * along + won * along * shifted
        outer = mean - moved * (with_mean + shifted) + won * shifted**2
        return cls(won, along, inner, outer)


def leave_one_out(path: Path, part: slice = slice(None), rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
    """Return ``x' P mu_c`` and ``mu_c' P mu_c`` without each sample x, (B, l, n, K) both."""
    own = OwnClass.of(path, part, rows)
    diagonal, means = path.shrinkage(part).unsqueeze(2), path.means.unsqueeze(1)
    along = (path.residuals[:, None, rows] * diagonal) @ means.mT
    inner = (path.samples[:, None, rows] * diagonal) @ means.mT + (own.won * own.along).unsqueeze(3) * along
    squares = (means**2 * diagonal).sum(3).unsqueeze(2)
    outer = squares + own.won.unsqueeze(3) * along**2
    codes = path.statistics.codes[:, None, rows, None].expand(-1, diagonal.shape[1], -1, 1)
    return inner.scatter(3, codes, own.inner.unsqueeze(3)), outer.scatter(3, codes, own.outer.unsqueeze(3))


def combine_left_out(path: Path, inner: Tensor, outer: Tensor) -> Tensor:
    """Add up ``inner * x' P mu_c - outer / 2 * mu_c' P mu_c`` over all penalties, without each sample x: (B, n, K).

    Factors `inner` and `outer` are (B, L). Products are linear in the metric, so that those of all penalties are one;
    what squares win by the loss of a sample, penalty by penalty, is in float32 where there are very many.
    """
    n, n_classes = path.samples.shape[1], path.means.shape[1]
    chunks = row_chunks(n, ELEMENTS, len(path.means) * n_classes)
    return torch.cat([_combine_rows(path, inner, outer, rows) for rows in chunks], 1)


def _combine_rows(path: Path, inner: Tensor, outer: Tensor, rows: slice) -> Tensor:
    own, diagonals = OwnClass.of(path, rows=rows), path.shrinkage()
    residuals, means = path.residuals[:, rows], path.means
    # Rows (B, n, r) whose products with the means are those of the samples, by the metrics without them.
    pulled = path.samples[:, rows] * torch.einsum("bl,blr->br", inner, diagonals).unsqueeze(1)
    pulled += residuals * ((inner.unsqueeze(2) * own.won * own.along).mT @ diagonals)
    total = pulled @ means.mT
    total -= 0.5 * (means**2 * torch.einsum("bl,blr->br", outer, diagonals).unsqueeze(1)).sum(2).unsqueeze(1)
    dtype = torch.float32 if path.samples.shape[1] * means.shape[1] > LARGE else total.dtype
    for k in torch.nonzero(outer.any(0)).flatten().tolist():
        along = (residuals * diagonals[:, k : k + 1]).to(dtype) @ means.mT.to(dtype)
        won = (0.5 * outer[:, k : k + 1] * own.won[:, k]).to(dtype).unsqueeze(2)
        total -= along.square_().mul_(won)
    of_own = (inner.unsqueeze(2) * own.inner - 0.5 * outer.unsqueeze(2) * own.outer).sum(1)
    return total.scatter_(2, path.statistics.codes[:, rows].unsqueeze(2), of_own.unsqueeze(2))
