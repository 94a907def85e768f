"""Stylistic augmentations that act on each pixel: brightness, contrast, invert, posterize, solarize."""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import StrOptions
from torch import Generator, Tensor

from frofa.augmentations.base import UNIT, Augmentation, Params, uniform
from frofa.augmentations.batch import TokenBatch
from frofa.augmentations.ops.dispatch import CODES, FusedStep, Operation
from frofa.augmentations.ops.mapping import Variant, feature_range
from frofa.augmentations.ops.pointwise import pointwise


class StylisticAugmentation(Augmentation):
    """An augmentation that changes values within a range, in one of the three variants."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "level": [UNIT],
        "variant": [StrOptions({"default", "c", "c2"})],
        "clip": ["boolean"],
    }
    strength = ("level", 0.0, 1.0)
    recordable = True
    variant: Variant
    clip = False

    def uniform(self, batch: TokenBatch, generator: Generator, low: float, high: float) -> Tensor:
        """U(low, high): one value an image, shape (n, 1, 1), or one an image and channel, shape (n, 1, C)."""
        channels = 1 if self.variant == "default" else batch.patches.shape[2]
        return uniform(batch, generator, low, high, 1, channels)

    def fused_step(self) -> FusedStep | None:
        """Say which step of the fused kernel for choices does the same; None where there is none."""
        code = self._own_kernel()
        return None if code is None else FusedStep(code, self.variant == "c2", self.clip)

    def image(self, batch: TokenBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Patches in float32 at least, and the bounds of their range."""
        wide = torch.promote_types(batch.patches.dtype, torch.float32)
        low, high = feature_range(batch.patches, self.variant, batch.mask)
        return batch.patches.to(wide), low.to(wide), high.to(wide)


class PointwiseAugmentation(StylisticAugmentation):
    """A stylistic augmentation that changes each value at its place, by one drawn number."""

    operation: ClassVar[Operation]
    drawn: ClassVar[str]
    """Name of the drawn number."""

    @abstractmethod
    def draw(self, batch: TokenBatch, generator: Generator) -> Tensor:
        """Draw one number an image, shape (n, 1, 1), or one an image and channel, shape (n, 1, C)."""

    def make_params(self, batch: TokenBatch, /, generator: Generator) -> Params:
        """Draw the numbers, shape (n, 1, 1) or (n, 1, C)."""
        return {self.drawn: self.draw(batch, generator)}

    def transform(self, batch: TokenBatch, /, params: Params) -> TokenBatch:
        """Change each value, and clip to the range if asked."""
        value, mask = params[self.drawn], batch.mask
        patches = pointwise(batch.patches, self.operation, value, self.variant, clip=self.clip, mask=mask)
        return batch.replace(patches=patches)


WITHOUT_CLIP = {name: StylisticAugmentation._parameter_constraints[name] for name in ("level", "variant")}
FLAG = {"p": [UNIT], "variant": StylisticAugmentation._parameter_constraints["variant"]}


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

    operation = "brightness"
    kernel = CODES["brightness"]
    drawn = "shift"

    def __init__(self, level: float = 0.5, variant: Variant = "c2", *, clip: bool = True):
        self.level = level
        self.variant = variant
        self.clip = clip

    def draw(self, batch: TokenBatch, generator: Generator) -> Tensor:
        """Draw the shift from U(-level, level)."""
        return self.uniform(batch, generator, -self.level, self.level)


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

    operation = "contrast"
    kernel = CODES["contrast"]
    drawn = "factor"

    def __init__(self, level: float = 1.0, variant: Variant = "default", *, clip: bool = True):
        self.level = level
        self.variant = variant
        self.clip = clip

    def draw(self, batch: TokenBatch, generator: Generator) -> Tensor:
        """Draw the factor from U(1 / (1 + level), 1 + level)."""
        return self.uniform(batch, generator, 1 / (1 + self.level), 1 + self.level)


class Posterize(PointwiseAugmentation):
    """Keep only the highest of 8 bits, a random number of them.

    Parameters
    ----------
    level : float, default=0.5
        The number of dropped bits is drawn uniformly from {0, ..., round(7 * level)}: 0 is the identity, at 1
        between one and eight bits are kept. The paper does not state its range; this one is our choice.
    variant : {"default", "c", "c2"}, default="c"
        As in `Brightness`; the paper found ``"c"`` best (+5.9 points at 1 shot). On pooled features ``"c2"`` is the
        identity.

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

    _parameter_constraints = WITHOUT_CLIP  # dropping bits cannot leave the range
    operation = "posterize"
    kernel = CODES["posterize"]
    drawn = "dropped_bits"

    def __init__(self, level: float = 0.5, variant: Variant = "c"):
        self.level = level
        self.variant = variant

    def draw(self, batch: TokenBatch, generator: Generator) -> Tensor:
        """Draw the number of dropped bits from {0, ..., round(7 * level)}."""
        return self.uniform(batch, generator, 0, round(7 * self.level) + 1).floor_()


class Solarize(PointwiseAugmentation):
    """Mirror the range at the values above a random threshold.

    Parameters
    ----------
    level : float, default=0.5
        The threshold is drawn from U(1 - level, 1), in units of the range: 0 is the identity. The paper does not state
        its range; this one is our choice (the reference code's threshold is fixed by its level).
    variant : {"default", "c", "c2"}, default="default"
        As in `Brightness`. On pooled features ``"c2"`` is the identity.

    References
    ----------
    Bär et al., CVPR 2024, section 4; AutoAugment's ``solarize``.

    Examples
    --------
    >>> import torch
    >>> from frofa.augmentations import Solarize
    >>> generator = torch.Generator().manual_seed(0)
    >>> Solarize(level=0.2)(torch.randn(8, 64, 192, generator=generator), generator).shape
    torch.Size([8, 64, 192])
    """

    _parameter_constraints = WITHOUT_CLIP
    operation = "solarize"
    kernel = CODES["solarize"]
    drawn = "threshold"

    def __init__(self, level: float = 0.5, variant: Variant = "default"):
        self.level = level
        self.variant = variant

    def draw(self, batch: TokenBatch, generator: Generator) -> Tensor:
        """Draw the threshold from U(1 - level, 1)."""
        return self.uniform(batch, generator, 1 - self.level, 1.0)


class Invert(PointwiseAugmentation):
    """Mirror the range, ``low + high - x``, with some probability.

    Parameters
    ----------
    p : float, default=0.5
        Probability for each image, or for each image and channel. 0 is the identity. The paper states none; a head that
        sees only inverted features cannot know those it will be tested on, hence one half.
    variant : {"default", "c", "c2"}, default="default"
        As in `Brightness`. On pooled features ``"c2"`` is the identity.

    References
    ----------
    Bär et al., CVPR 2024, section 4.

    Examples
    --------
    >>> import torch
    >>> from frofa.augmentations import Invert
    >>> Invert(p=1)(torch.tensor([[[0.0], [1.0], [4.0]]]), torch.Generator()).flatten().tolist()
    [4.0, 3.0, 0.0]
    """

    _parameter_constraints = FLAG
    strength = ("p", 0.0, 1.0)
    operation = "invert"
    kernel = CODES["invert"]
    drawn = "inverted"

    def __init__(self, p: float = 0.5, variant: Variant = "default"):
        self.p = p
        self.variant = variant

    def draw(self, batch: TokenBatch, generator: Generator) -> Tensor:
        """Draw 1 with probability p, else 0."""
        return (self.uniform(batch, generator, 0, 1) < self.p).float()
