"""Stylistic augmentations that look at more than one pixel: sharpness and equalize."""

import torch
from torch import Generator, Tensor

from frofa.augmentations._stylistic import FLAG, StylisticAugmentation
from frofa.augmentations.base import Params
from frofa.augmentations.batch import TokenBatch
from frofa.augmentations.ops.mapping import Variant, feature_range
from frofa.augmentations.ops.pointwise import fusible
from frofa.augmentations.ops.resample import Taps, constant, expand_taps, places, sum_taps

KERNEL = tuple(weight / 13 for weight in (1, 1, 1, 1, 5, 1, 1, 1, 1))  # Pillow's SMOOTH, row by row
BINS = 256


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


class Equalize(StylisticAugmentation):
    """Make all values of the range equally frequent, with some probability.

    Parameters
    ----------
    p : float, default=0.5
        Probability for each image, or for each image and channel. 0 is the identity; as in `Invert`, the paper states
        none.
    variant : {"default", "c", "c2"}, default="default"
        Whose values are counted: of the image's whole feature map, or in ``"c2"`` of each channel; ``"c"`` counts those
        of the map and draws for each channel. On pooled features ``"c2"`` is the identity.

    Notes
    -----
    A look-up of 256 bins: a pixel becomes the number of pixels in lower bins, divided by the number outside of the
    highest bin. Pillow's and AutoAugment's rule rounds in between, which leaves maps of less than 255 pixels as they
    are; ours does not round.

    On a GPU this takes longer than a pointwise operation: a histogram of 256 bins for each channel is counted by
    scattered additions, summed up and looked up, several times the memory traffic of the features themselves.

    References
    ----------
    Bär et al., CVPR 2024, section 4; AutoAugment's ``equalize``.

    Examples
    --------
    >>> import torch
    >>> from frofa.augmentations import Equalize
    >>> Equalize(p=1)(torch.tensor([[[0.0], [0.1], [0.2], [6.0]]]), torch.Generator()).flatten().tolist()
    [0.0, 2.0, 4.0, 6.0]
    """

    _parameter_constraints = FLAG
    strength = ("p", 0.0, 1.0)

    def __init__(self, p: float = 0.5, variant: Variant = "default"):
        self.p = p
        self.variant = variant

    def make_params(self, batch: TokenBatch, /, generator: Generator) -> Params:
        """Draw ``{"equalized": True with probability p}``, shape (n, 1, 1) or (n, 1, C)."""
        return {"equalized": self.uniform(batch, generator, 0, 1) < self.p}

    def transform(self, batch: TokenBatch, /, params: Params) -> TokenBatch:
        """Look up."""
        x, low, high = self.image(batch)
        span = high - low
        bins = ((x - low) / span.where(span > 0, 1)).mul_(BINS - 1).round_().long()
        if batch.mask is not None:
            bins.clamp_(0, BINS - 1)
        counts = _histograms(bins, batch.mask)
        if self.variant != "c2":
            counts = counts.sum(2, keepdim=True)
        top = counts[:, -1:]  # of the highest bin, which the largest value is always in
        lower = counts.cumsum(1).sub_(counts)
        table = lower.to(x.dtype) / (counts.sum(1, keepdim=True) - top).clamp_(min=1)
        looked_up = table.expand(-1, -1, x.shape[2]).gather(1, bins).mul_(span).add_(low)
        changed = params["equalized"] & (span > 0)
        return batch.replace(patches=torch.where(changed, looked_up, x).to(batch.patches.dtype))


def _histograms(bins: Tensor, mask: Tensor | None) -> Tensor:
    """Count bins (n, N, C), of the tokens where the mask is True; shape (n, 256, C), float32."""
    n, _, channels = bins.shape
    counts = torch.zeros((n, BINS, channels), device=bins.device)
    ones = torch.ones((1, 1, 1), device=bins.device) if mask is None else mask.unsqueeze(2).float()
    return counts.scatter_add_(1, bins, ones.expand(bins.shape))


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
