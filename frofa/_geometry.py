"""The geometric part of a checkpoint's preprocessing, in Pillow alone.

A process that decodes images needs neither torch nor timm, whose import takes seconds.
"""

from dataclasses import dataclass
from typing import TypeAlias

from PIL import Image, ImageOps

Size: TypeAlias = "tuple[int, int]"
"""Height and width, in pixels."""


@dataclass(frozen=True)
class Trim:
    """Cut off a border of so many pixels, as timm's `TrimBorder` does."""

    border: int

    def __call__(self, image: Image.Image) -> Image.Image:
        """Apply it."""
        left, top = min(self.border, image.width), min(self.border, image.height)
        width, height = (max(0, side - 2 * self.border) for side in image.size)
        return image.crop((left, top, left + width, top + height))


@dataclass(frozen=True)
class Resize:
    """Resize the shorter side, or to a height and width, as torchvision's `Resize` does."""

    size: "int | Size"
    interpolation: int

    def __call__(self, image: Image.Image) -> Image.Image:
        """Apply it."""
        if isinstance(self.size, tuple):
            height, width = self.size
        elif image.width <= image.height:
            height, width = int(self.size * image.height / image.width), self.size
        else:
            height, width = self.size, int(self.size * image.width / image.height)
        return _resize(image, height, width, self.interpolation)


@dataclass(frozen=True)
class ResizeKeepRatio:
    """Resize to cover a height and width (`longest` 0), or to fit into them (1), as timm's `ResizeKeepRatio` does."""

    size: Size
    longest: float
    interpolation: int

    def __call__(self, image: Image.Image) -> Image.Image:
        """Apply it."""
        ratios = image.height / self.size[0], image.width / self.size[1]
        ratio = max(ratios) * self.longest + min(ratios) * (1.0 - self.longest)
        return _resize(image, round(image.height / ratio), round(image.width / ratio), self.interpolation)


@dataclass(frozen=True)
class CenterCrop:
    """Cut out the centre; what the image lacks is filled, as torchvision's `CenterCrop` and timm's own do."""

    size: Size
    fill: tuple[int, ...] = (0, 0, 0)

    def __call__(self, image: Image.Image) -> Image.Image:
        """Apply it."""
        height, width = self.size
        lack_x, lack_y = max(width - image.width, 0), max(height - image.height, 0)
        if lack_x or lack_y:
            border = (lack_x // 2, lack_y // 2, (lack_x + 1) // 2, (lack_y + 1) // 2)
            image = ImageOps.expand(image, border, self.fill)
            if image.size == (width, height):
                return image
        top, left = round((image.height - height) / 2.0), round((image.width - width) / 2.0)
        return image.crop((left, top, left + width, top + height))


Step: TypeAlias = Trim | Resize | ResizeKeepRatio | CenterCrop


@dataclass(frozen=True)
class Geometry:
    """Steps from an upright RGB image to one of a fixed size.

    Attributes
    ----------
    steps : tuple
        The last one is a `CenterCrop`, which fixes the size.
    """

    steps: tuple[Step, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the pixels that come out: height, width, 3."""
        last = self.steps[-1]
        if not isinstance(last, CenterCrop):
            raise TypeError(f"expected a crop as the last step. Got {last}.")
        return (*last.size, 3)

    def __call__(self, image: Image.Image) -> Image.Image:
        """Apply all steps."""
        for step in self.steps:
            image = step(image)
        return image


def _resize(image: Image.Image, height: int, width: int, interpolation: int) -> Image.Image:
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling(interpolation))
