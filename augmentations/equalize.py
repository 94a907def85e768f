"""Equalize: all values of the range equally frequent."""

import torch
from torch import Generator, Tensor

from frofa.augmentations.base import Params
from frofa.augmentations.batch import TokenBatch
from frofa.augmentations.ops.dispatch import BINS, EQUALIZE, FusedStep
from frofa.augmentations.ops.mapping import Variant
from frofa.augmentations.stylistic import FLAG, StylisticAugmentation


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
    kernel = EQUALIZE

    def __init__(self, p: float = 0.5, variant: Variant = "default"):
        self.p = p
        self.variant = variant

    def fused_step(self) -> FusedStep | None:
        """Say which step of the fused kernel for choices does the same; it counts whole images, not channels."""
        return None if self.variant == "c2" else super().fused_step()

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
