"""Sharpness: each token against those around it."""

import torch
from torch import Generator

from frofa.augmentations.base import Params
from frofa.augmentations.batch import TokenBatch
from frofa.augmentations.ops.dispatch import SHARPNESS, fusible
from frofa.augmentations.ops.mapping import Variant, feature_range
from frofa.augmentations.ops.resample import Taps, constant, expand_taps, places, sum_taps
from frofa.augmentations.stylistic import StylisticAugmentation

KERNEL = tuple(weight / 13 for weight in (1, 1, 1, 1, 5, 1, 1, 1, 1))  # Pillow's SMOOTH, row by row


class Sharpness(StylisticAugmentation):
    """Blend the grid with a smoothed one, or away from it.

    Parameters
    ----------
    level : float, default=1.0
        The factor is drawn from U(1 - 0.9 * level, 1 + 0.9 * level): below 1 it blurs, above it sharpens, 0 is the
        identity; at level 1 the reference range, 0.1 to 1.9.
    variant : {"default", "c", "c2"}, default="default"
        As in `Brightness`.
    clip : bool, default=True
        Clip to the range.

    Notes
    -----
    Smoothing is Pillow's: 3 x 3, the middle weighs 5, the others 1; tokens at the border are left as they are. It takes
    positions, so that pooled features are an error.

    On a GPU it takes about a third of the head's training step, more than a pointwise operation: nine tokens are read
    for each that is written.

    References
    ----------
    Bär et al., CVPR 2024, section 4; AutoAugment's ``sharpness``.

    Examples
    --------
    >>> import torch
    >>> from frofa.augmentations import Sharpness
    >>> generator = torch.Generator().manual_seed(0)
    >>> Sharpness(level=0.5)(torch.randn(8, 64, 192, generator=generator), generator).shape
    torch.Size([8, 64, 192])
    """

    kernel = SHARPNESS

    def __init__(self, level: float = 1.0, variant: Variant = "default", *, clip: bool = True):
        self.level = level
        self.variant = variant
        self.clip = clip

    def make_params(self, batch: TokenBatch, /, generator: Generator) -> Params:
        """Draw ``{"factor": U(1 - 0.9 * level, 1 + 0.9 * level)}``, shape (n, 1, 1) or (n, 1, C)."""
        return {"factor": self.uniform(batch, generator, 1 - 0.9 * self.level, 1 + 0.9 * self.level)}

    def transform(self, batch: TokenBatch, /, params: Params) -> TokenBatch:
        """Blend with the smoothed grid."""
        taps, x, factor = _smoothing_taps(batch, self), batch.patches, params["factor"]
        bounds = feature_range(x, self.variant, batch.mask) if self.clip else None
        if fusible(x):
            from frofa.augmentations.ops.triton import fused_resample

            sharpened = fused_resample(x, *expand_taps(taps, len(x)), factor=factor, bounds=bounds)
            return batch.replace(patches=sharpened)
        sharpened = sum_taps(x, taps).sub_(x).mul_(1 - factor).add_(x)
        if bounds is not None:
            sharpened = sharpened.clamp_(*bounds)
        return batch.replace(patches=sharpened.to(x.dtype))


def _smoothing_taps(batch: TokenBatch, who: Sharpness) -> Taps:
    """The 3 x 3 neighbourhood of each token; at the border, the token alone."""
    at = places(batch, who)
    inside = (at.rows > 0) & (at.rows < at.height - 1) & (at.columns > 0) & (at.columns < at.width - 1)
    step = torch.arange(9, device=at.rows.device)
    offset = (step // 3 - 1) * at.width[..., None] + step % 3 - 1
    position = (at.rows * at.width + at.columns)[..., None]
    index = torch.where(inside[..., None], position + offset, position)
    weights = constant(KERNEL, at.rows.device).float()
    return Taps(index.long(), torch.where(inside[..., None], weights, (step == 4).float()))
