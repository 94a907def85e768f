"""JPEG compression of features, each channel as a grey image."""

import math
from numbers import Real
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from sklearn.utils._param_validation import Interval
from torch import Generator, Tensor

from frofa.augmentations.base import Params
from frofa.augmentations.batch import TokenBatch
from frofa.augmentations.ops.mapping import Variant
from frofa.augmentations.ops.resample import Places, constant, places
from frofa.augmentations.stylistic import StylisticAugmentation

BLOCK = 8
# ITU T.81, table K.1: steps of the quantisation of luminance at quality 50, row by row.
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
# The orthonormal DCT-II of eight points: frequencies by positions.
DCT = tuple(
    tuple(math.sqrt((2 if k else 1) / BLOCK) * math.cos(math.pi / BLOCK * (i + 0.5) * k) for i in range(BLOCK))
    for k in range(BLOCK)
)


class JPEG(StylisticAugmentation):
    """Compress each channel's grid as a grey JPEG, and decompress it.

    Parameters
    ----------
    quality : float, default=10
        The quality is drawn from U(quality, 100) and rounded; images, or channels, that draw 100 stay as they are, so
        that 100 is the identity. The paper does not state its range.
    variant : {"default", "c", "c2"}, default="default"
        As in `Brightness`: what becomes 0 and 255, and whether the quality is drawn for each channel.

    Notes
    -----
    Blocks of 8 x 8 tokens; a grid that is no multiple of 8 is padded with its last row and column, as encoders do.
    Pixels are rounded to 0..255, transformed (DCT), quantised by the standard luminance table, and back; entropy coding
    loses nothing and is left out. It takes positions, so that pooled features are an error.

    It is the slowest of all, about five times the head's training step on a GPU: four products with 8 x 8 matrices and
    the steps between them each go over the whole batch in float32. The paper found that it does not help.

    References
    ----------
    Bär et al., CVPR 2024, section 4; ITU T.81, annex K; the scaling of the table by quality is libjpeg's.

    Examples
    --------
    >>> import torch
    >>> from frofa.augmentations import JPEG
    >>> generator = torch.Generator().manual_seed(0)
    >>> JPEG(quality=30)(torch.randn(8, 64, 192, generator=generator), generator).shape
    torch.Size([8, 64, 192])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "quality": [Interval(Real, 1, 100, closed="both")],
        "variant": StylisticAugmentation._parameter_constraints["variant"],
    }
    strength = ("quality", 100.0, 1.0)

    def __init__(self, quality: float = 10, variant: Variant = "default"):
        self.quality = quality
        self.variant = variant

    def make_params(self, batch: TokenBatch, /, generator: Generator) -> Params:
        """Draw ``{"quality": round(U(quality, 100))}``, shape (n, 1, 1) or (n, 1, C)."""
        return {"quality": self.uniform(batch, generator, float(self.quality), 100.0).round_()}

    def transform(self, batch: TokenBatch, /, params: Params) -> TokenBatch:
        """Compress and decompress."""
        to_canvas, from_canvas, shape = _canvas(batch, self)
        x, low, high = self.image(batch)
        span = high - low
        pixels = ((x - low) / span.where(span > 0, 1)).mul_(255).round_()
        blocks = _take(pixels, to_canvas).unflatten(1, shape)
        decoded = _take(_decode(blocks, params["quality"]).flatten(1, 4), from_canvas)
        decoded = decoded.clamp_(0, 255).div_(255).mul_(span).add_(low)
        changed = (params["quality"] < 100) & (span > 0)
        return batch.replace(patches=torch.where(changed, decoded, x).to(batch.patches.dtype))


def _decode(blocks: Tensor, quality: Tensor) -> Tensor:
    """Quantise blocks of pixels (n, rows, 8, columns, 8, C) in the frequency domain."""
    dct = constant(DCT, blocks.device).to(blocks.dtype)
    # Not einsum over both axes at once: that would build a 64 x 64 matrix, four times the work.
    frequencies = torch.einsum("yi,nricjk->nrycjk", dct, blocks - 128)
    frequencies = torch.einsum("xj,nrycjk->nrycxk", dct, frequencies)
    steps = quantisation_steps(quality).to(blocks.dtype)  # (n, 8, 8, 1 or C)
    steps = steps[:, None, :, None]
    # Halfway between two steps, which in sums of integers is common, rounding error must not decide: away from zero.
    frequencies = (frequencies / (steps * (1 - 1e-5))).round_().mul_(steps)
    pixels = torch.einsum("xj,nrycxk->nrycjk", dct, frequencies)
    return torch.einsum("yi,nrycjk->nricjk", dct, pixels).add_(128).round_()


def quantisation_steps(quality: Tensor) -> Tensor:
    """Steps (n, 8, 8, 1 or C) of a quality (n, 1, 1 or C) in 1..100."""
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality).floor()[:, :, None]
    return ((constant(LUMINANCE, quality.device)[None, :, :, None] * scale + 50) / 100).floor_().clamp_(1, 255)


def _canvas(batch: TokenBatch, who: JPEG) -> tuple[Tensor, Tensor, tuple[int, int, int, int]]:
    """Indices from tokens to whole blocks, (n or 1, places), and back, (n or 1, N); and (rows, 8, columns, 8)."""
    at = places(batch, who)
    if isinstance(batch.grid, Tensor):
        return _block_list(batch.grid, at)
    height, width = batch.grid or (1, 1)
    rows, columns = -(-height // BLOCK), -(-width // BLOCK)
    side = columns * BLOCK
    place = torch.arange(rows * BLOCK * side, device=at.rows.device)[None]
    y, x = torch.minimum(place // side, at.height - 1), torch.minimum(place % side, at.width - 1)
    back = (at.rows * side + at.columns).clamp_(max=place.shape[1] - 1)
    return (y * at.width + x).long(), back.long(), (rows, BLOCK, columns, BLOCK)


def _block_list(grid: Tensor, at: Places) -> tuple[Tensor, Tensor, tuple[int, int, int, int]]:
    """The same of images of different sizes: each one's blocks in a column, as long as that of any image."""
    n_blocks = -(-at.rows.shape[1] // BLOCK)  # no grid of so many tokens has more: a GPU need not be asked
    if grid.device.type == "cpu":
        n_blocks = int((-(-grid // BLOCK)).prod(1).amax())
    across = torch.ceil(at.width / BLOCK)
    place = torch.arange(n_blocks * BLOCK**2, device=at.rows.device)[None]
    block, y, x = place // BLOCK**2, place // BLOCK % BLOCK, place % BLOCK
    down = torch.div(block, across, rounding_mode="floor")
    y = torch.minimum(down * BLOCK + y, at.height - 1)
    x = torch.minimum((block - down * across) * BLOCK + x, at.width - 1)
    down, right = ((line / BLOCK).floor() for line in (at.rows, at.columns))
    back = (down * across + right) * BLOCK**2 + at.rows % BLOCK * BLOCK + at.columns % BLOCK
    return (y * at.width + x).long(), back.long().clamp_(max=place.shape[1] - 1), (n_blocks, BLOCK, 1, BLOCK)


def _take(x: Tensor, index: Tensor) -> Tensor:
    """Tokens (n, M, C) of x (n, N, C) by index (n or 1, M)."""
    if len(index) == 1:
        return x.index_select(1, index[0])
    return F.embedding(index + x.shape[1] * torch.arange(len(x), device=x.device)[:, None], x.flatten(0, 1))
