"""What the stylistic augmentations share: the three variants, and clipping."""

from abc import abstractmethod
from numbers import Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Generator, Tensor

from frofa.augmentations.base import Augmentation, Params, uniform
from frofa.augmentations.batch import TokenBatch
from frofa.augmentations.ops.mapping import Variant, feature_range
from frofa.augmentations.ops.pointwise import Operation, pointwise

UNIT = Interval(Real, 0, 1, closed="both")


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

    def uniform(self, batch: TokenBatch, generator: Generator, low: float, high: float) -> Tensor:
        """U(low, high): one value an image, shape (n, 1, 1), or one an image and channel, shape (n, 1, C)."""
        channels = 1 if self.variant == "default" else batch.patches.shape[2]
        return uniform(batch, generator, low, high, 1, channels)

    def image(self, batch: TokenBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Patches in float32 at least, and the bounds of their range."""
        wide = torch.promote_types(batch.patches.dtype, torch.float32)
        low, high = feature_range(batch.patches, self.variant, batch.mask)
        return batch.patches.to(wide), low.to(wide), high.to(wide)


class PointwiseAugmentation(StylisticAugmentation):
    """A stylistic augmentation that changes each value at its place, by one drawn number."""

    operation: ClassVar[Operation]
    drawn: ClassVar[str]
    """What the drawn number is called."""
    clip = False

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
