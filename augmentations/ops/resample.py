"""Resampling of tokens on their grid: each new token is a weighted sum of a few old ones."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from frofa.augmentations.batch import TokenBatch
from frofa.augmentations.ops.dispatch import Fill, fusible
from frofa.augmentations.ops.pointwise import masked_mean


@dataclass(frozen=True)
class Taps:
    """Which tokens are summed: indices (n or 1, N, K) of int64 and weights (n or 1, N, K) of float32.

    Weights that do not sum to one leave room for the fill value.
    """

    index: Tensor
    weight: Tensor


class Places(NamedTuple):
    """Rows, columns, heights and widths, of shape (1 or n, N) or (1 or n, 1), float32: where tokens lie."""

    rows: Tensor
    columns: Tensor
    height: Tensor
    width: Tensor


def places(batch: TokenBatch, who: object) -> Places:
    """Where the tokens of a batch lie.

    Raises
    ------
    ValueError
        If they have no grid, in the name of `who` asks.
    """
    n_tokens, device = batch.patches.shape[1], batch.patches.device
    if batch.grid is None:
        why = (
            "pooled features have no positions"
            if n_tokens == 1
            else f"{n_tokens} tokens are no square: say grid=(height, width), of the head or of TokenBatch.from_tokens"
        )
        raise ValueError(f"{type(who).__name__} needs tokens on a grid, and there is none: {why}.")
    if isinstance(batch.grid, Tensor):
        height, width = batch.grid.to(device, torch.float32, non_blocking=True).unbind(1)
        height, width = height[:, None], width[:, None]
    else:
        # From numbers, not a list: no copy from the host, which a GPU would wait for.
        height, width = (torch.full((1, 1), float(size), device=device) for size in batch.grid)
    position = torch.arange(n_tokens, device=device, dtype=torch.float32)[None]
    rows = torch.div(position, width, rounding_mode="floor")
    return Places(rows, position - rows * width, height, width)


def bilinear_taps(rows: Tensor, columns: Tensor, at: Places, *, edge: bool) -> Taps:
    """Four neighbours of fractional places (n, N), weighted; those outside the grid have no weight, unless `edge`."""
    if edge:
        rows = torch.minimum(rows.clamp(min=0), at.height - 1)
        columns = torch.minimum(columns.clamp(min=0), at.width - 1)
    top, left = rows.floor(), columns.floor()
    down, right = rows - top, columns - left
    ys, xs = torch.stack([top, top + 1], -1), torch.stack([left, left + 1], -1)
    heights, widths = at.height[..., None], at.width[..., None]
    y_weight = torch.stack([1 - down, down], -1) * ((ys >= 0) & (ys < heights))
    x_weight = torch.stack([1 - right, right], -1) * ((xs >= 0) & (xs < widths))
    ys = torch.minimum(ys.clamp(min=0), heights - 1)
    xs = torch.minimum(xs.clamp(min=0), widths - 1)
    index = (ys[..., :, None] * widths[..., None] + xs[..., None, :]).flatten(-2)
    weight = (y_weight[..., :, None] * x_weight[..., None, :]).flatten(-2)
    # Places beyond an image's own tokens (padding) point anywhere; keep them within the tensor.
    return Taps(index.long().clamp_(0, rows.shape[-1] - 1), weight)


def resample(batch: TokenBatch, taps: Taps, fill: Fill = "edge") -> Tensor:
    """Sum the taps of every token, and give the weight that is missing to the fill value; shape (n, N, C).

    Computed in float32 at least, and rounded once.
    """
    x = batch.patches
    filler = masked_mean(x, batch.mask) if fill == "mean" else None
    if fusible(x):
        from frofa.augmentations.ops.triton import fused_resample

        return fused_resample(x, *expand_taps(taps, len(x)), filler=filler)
    summed = sum_taps(x, taps)
    if filler is not None:
        missing = 1 - taps.weight.sum(2, keepdim=True)
        summed.addcmul_(missing.to(summed.dtype), filler)
    return summed.to(x.dtype)


def sum_taps(x: Tensor, taps: Taps) -> Tensor:
    """Weighted sums of tokens (n, N, C), in float32 at least."""
    n, n_tokens, channels = x.shape
    index, weight = expand_taps(taps, n)
    wide = x.to(torch.promote_types(x.dtype, torch.float32)).reshape(-1, channels)
    rows = index + n_tokens * torch.arange(n, device=x.device)[:, None, None]
    # A gather and a weighted sum in one pass; several times faster than four gathers or a product with a matrix.
    return F.embedding_bag(
        rows.flatten(0, 1), wide, mode="sum", per_sample_weights=weight.flatten(0, 1).to(wide.dtype)
    ).view(x.shape)


def expand_taps(taps: Taps, n: int) -> tuple[Tensor, Tensor]:
    """Index and weight of n images, of taps that may be shared by all."""
    return taps.index.expand(n, -1, -1), taps.weight.expand(n, -1, -1)


@lru_cache(maxsize=64)
def constant(values: tuple[Any, ...], device: torch.device) -> Tensor:
    """A float64 tensor of constants, copied to a device once: the host waits for every such copy."""
    return torch.tensor(values, dtype=torch.float64, device=device)
