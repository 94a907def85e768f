"""Stylistic augmentations that act on each pixel: brightness, contrast, posterize."""

from typing import Any, ClassVar

from torch import Generator, Tensor

from frofa.augmentations._base import Params, PointwiseAugmentation
from frofa.augmentations._functional import adjust_brightness, adjust_contrast, posterize
from frofa.augmentations._mapping import Variant


class Brightness(PointwiseAugmentation):
    """Add a random value to the features, in units of their range.

    The strongest single augmentation of the paper: +6.1 / +1.6 / +0.9 / +0.3 points of top-1 at 1 / 5 / 10 / 25 shots
    on ILSVRC-2012 in variant c2. Accuracy over the level is a plateau for c2 and a hump, best near 0.1-0.3, for c,
    whose shift is in units of the range of the whole feature map.

    Parameters
    ----------
    level : float, default=0.5
        The value is drawn from U(-level, level), in [0, 1] of the range. 0 is the identity.
    variant : {"default", "c", "c2"}, default="c2"
        ``"default"``: range of the image's feature map, one value an image. ``"c"``: the same range, one value an image
        and channel. ``"c2"``: range of each channel over the image's positions, one value an image and channel. On
        pooled features of shape (n, C) a channel has a single position, so that ``"c2"`` is the identity.
    clip : bool, default=True
        Clip to the range (the paper is silent; ports do).

    References
    ----------
    Bär et al., CVPR 2024, sections 3 and 5 (tables 2 and 3).

    Examples
    --------
    >>> import torch
    >>> from frofa.augmentations import Brightness
    >>> generator = torch.Generator().manual_seed(0)
    >>> tokens = torch.randn(8, 64, 192, generator=generator)
    >>> Brightness(level=0.3, variant="c2")(tokens, generator).shape
    torch.Size([8, 64, 192])
    """

    def __init__(self, level: float = 0.5, variant: Variant = "c2", *, clip: bool = True):
        self.level = level
        self.variant = variant
        self.clip = clip

    def make_params(self, features: Tensor, /, generator: Generator) -> Params:
        """Draw ``{"shift": U(-level, level)}``, shape (n, 1, 1) or (n, 1, C)."""
        return {"shift": self._uniform(features, generator, -self.level, self.level)}

    def adjust(self, features: Tensor, low: Tensor, high: Tensor, params: Params) -> Tensor:
        """Add the shift."""
        return adjust_brightness(features, low, high, params["shift"])


class Contrast(PointwiseAugmentation):
    """Scale each channel's distance to its mean over the positions by a random factor.

    Parameters
    ----------
    level : float, default=1.0
        The factor is drawn from U(1 / (1 + level), 1 + level): 0 is the identity, 1 the reference range 0.5 to 2.
    variant : {"default", "c", "c2"}, default="default"
        As in `Brightness`; the paper found ``"default"`` best. With a single position (pooled features) every variant
        is the identity.
    clip : bool, default=True
        Clip to the range.

    References
    ----------
    Bär et al., CVPR 2024, sections 3 and 5; the factor's range is big_vision's.

    Examples
    --------
    >>> import torch
    >>> from frofa.augmentations import Contrast
    >>> generator = torch.Generator().manual_seed(0)
    >>> Contrast(level=0.5)(torch.randn(8, 64, 192, generator=generator), generator).shape
    torch.Size([8, 64, 192])
    """

    def __init__(self, level: float = 1.0, variant: Variant = "default", *, clip: bool = True):
        self.level = level
        self.variant = variant
        self.clip = clip

    def make_params(self, features: Tensor, /, generator: Generator) -> Params:
        """Draw ``{"factor": U(1 / (1 + level), 1 + level)}``, shape (n, 1, 1) or (n, 1, C)."""
        return {"factor": self._uniform(features, generator, 1 / (1 + self.level), 1 + self.level)}

    def adjust(self, features: Tensor, low: Tensor, high: Tensor, params: Params) -> Tensor:  # noqa: ARG002
        """Scale around each channel's mean."""
        return adjust_contrast(features, params["factor"])


class Posterize(PointwiseAugmentation):
    """Keep only the highest of 8 bits, a random number of them.

    Parameters
    ----------
    level : float, default=0.5
        The number of dropped bits is drawn uniformly from {0, ..., round(7 * level)}: 0 is the identity, at 1
        between one and eight bits are kept. The paper does not state its range; this one is our choice.
    variant : {"default", "c", "c2"}, default="c"
        As in `Brightness`; the paper found ``"c"`` best (+5.9 points at 1 shot).

    References
    ----------
    Bär et al., CVPR 2024, sections 3 and 5.

    Examples
    --------
    >>> import torch
    >>> from frofa.augmentations import Posterize
    >>> generator = torch.Generator().manual_seed(0)
    >>> Posterize(level=1.0)(torch.randn(8, 64, 192, generator=generator), generator).shape
    torch.Size([8, 64, 192])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        name: constraint for name, constraint in PointwiseAugmentation._parameter_constraints.items() if name != "clip"
    }
    clip = False  # dropping bits cannot leave the range

    def __init__(self, level: float = 0.5, variant: Variant = "c"):
        self.level = level
        self.variant = variant

    def make_params(self, features: Tensor, /, generator: Generator) -> Params:
        """Draw ``{"dropped_bits": U{0, ..., round(7 * level)}}``, shape (n, 1, 1) or (n, 1, C)."""
        return {"dropped_bits": self._uniform(features, generator, 0, round(7 * self.level) + 1).floor()}

    def adjust(self, features: Tensor, low: Tensor, high: Tensor, params: Params) -> Tensor:
        """Drop the bits."""
        return posterize(features, low, high, params["dropped_bits"])
