"""The geometric part of a checkpoint's preprocessing, in Pillow alone.

A process that decodes images needs neither torch nor timm, whose import takes seconds.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

from PIL import Image, ImageOps

from frofa.decoding.views import Box, Making, flip

Size: TypeAlias = "tuple[int, int]"
"""Height and width, in pixels."""
HUGE = 2**25
"""Pixels of a resized image from which on what is cut off afterwards is not computed."""
LONGEST_FILTER = 4
"""Pixels to each side that a filter of Pillow's looks at when it enlarges, one more than Lanczos's."""


@dataclass(frozen=True)
class Trim:
    """Cut off a border of so many pixels, as timm's `TrimBorder` does."""

    border: int

    def __call__(self, image: Image.Image) -> Image.Image:
        """Cut the border off; nothing is left of an image that it covers."""
        left, top = min(self.border, image.width), min(self.border, image.height)
        width, height = (max(0, side - 2 * self.border) for side in image.size)
        return image.crop((left, top, left + width, top + height))


@dataclass(frozen=True)
class Resize:
    """Resize the shorter side, or to a height and width, as torchvision's `Resize` does."""

    size: "int | Size"
    interpolation: int

    def target(self, image: Image.Image) -> Size:
        """Compute height and width of what comes out."""
        if isinstance(self.size, tuple):
            return self.size
        if image.width <= image.height:
            return int(self.size * image.height / image.width), self.size
        return self.size, int(self.size * image.width / image.height)

    def __call__(self, image: Image.Image) -> Image.Image:
        """Resize the image."""
        return _resize(image, *self.target(image), self.interpolation)


@dataclass(frozen=True)
class ResizeKeepRatio:
    """Resize to cover a height and width (`longest` 0), or to fit into them (1), as timm's `ResizeKeepRatio` does."""

    size: Size
    longest: float
    interpolation: int

    def target(self, image: Image.Image) -> Size:
        """Compute height and width of what comes out."""
        # The smaller ratio covers the size, the larger one fits into it.
        ratios = image.height / self.size[0], image.width / self.size[1]
        ratio = max(ratios) * self.longest + min(ratios) * (1.0 - self.longest)
        return round(image.height / ratio), round(image.width / ratio)

    def __call__(self, image: Image.Image) -> Image.Image:
        """Resize the image."""
        return _resize(image, *self.target(image), self.interpolation)


@dataclass(frozen=True)
class CenterCrop:
    """Cut out the centre, as torchvision's `CenterCrop` and timm's own do; what the image lacks is filled."""

    size: Size
    fill: tuple[int, ...] = (0, 0, 0)

    def __call__(self, image: Image.Image) -> Image.Image:
        """Fill what the image lacks, then crop it."""
        height, width = self.size
        lack_x, lack_y = max(width - image.width, 0), max(height - image.height, 0)
        if lack_x or lack_y:
            # Half on each side; of an odd number, right and bottom get one more.
            border = (lack_x // 2, lack_y // 2, (lack_x + 1) // 2, (lack_y + 1) // 2)
            image = ImageOps.expand(image, border, self.fill)
            if image.size == (width, height):
                return image
        top, left = round((image.height - height) / 2.0), round((image.width - width) / 2.0)
        return image.crop((left, top, left + width, top + height))


GeometryStep: TypeAlias = Trim | Resize | ResizeKeepRatio | CenterCrop


@dataclass(frozen=True)
class Geometry:
    """Steps from an upright RGB image to one of a fixed size.

    The last one is a `CenterCrop`, which fixes the size.
    """

    steps: tuple[GeometryStep, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the pixels that come out: height, width, 3."""
        last = self.steps[-1]
        if not isinstance(last, CenterCrop):
            raise TypeError(f"expected a crop as the last step. Got {last}.")
        return (*last.size, 3)

    def __call__(self, image: Image.Image) -> Image.Image:
        """Apply all steps; those that resize and then crop, in one."""
        # Each step with the one after it, since a crop may spare most of the resizing before it.
        for step, after in zip(self.steps, (*self.steps[1:], None), strict=True):
            if isinstance(step, (Resize, ResizeKeepRatio)) and isinstance(after, CenterCrop):
                image = _resize_centre(image, step, after)
            else:
                image = step(image)
        return image

    @property
    def views(self) -> Making:
        """Steps from an upright RGB image to images of its views, of the fixed size."""
        return Making(self, self.crop, flip)

    def crop(self, image: Image.Image, box: Box) -> Image.Image:
        """Resize a box of an upright RGB image to the fixed size, with no other step between."""
        height, width, _ = self.shape
        # The filter of the last step that resizes.
        filters = [step.interpolation for step in self.steps if isinstance(step, (Resize, ResizeKeepRatio))]
        return image.resize((width, height), Image.Resampling((filters or [Image.Resampling.BICUBIC])[-1]), box)

    def row(self, image: Image.Image) -> bytes:
        """Give the bytes of an image of the fixed size: H * W * 3."""
        return image.tobytes()


def _resize_centre(image: Image.Image, resize: Resize | ResizeKeepRatio, crop: CenterCrop) -> Image.Image:
    """Resize an image; of one that would become huge, only the middle, which the crop leaves.

    A strip of 60,000 x 1 pixels, say, would become one of three billion.
    """
    height, width = resize.target(image)
    if height * width <= HUGE:
        return resize(image)
    # Along x and y: the region of the image to cut first, the box in it to resize, and the size to resize the box to.
    region, box, size = [0, 0, *image.size], [0.0, 0.0, *map(float, image.size)], [width, height]
    for axis, (whole, kept) in enumerate(zip((width, height), crop.size[::-1], strict=True)):
        if whole > kept:
            # The crop keeps pixels first to first + kept of the resized image, which these of the image become.
            scale, first = image.size[axis] / whole, round((whole - kept) / 2.0)
            begin, end, size[axis] = first * scale, (first + kept) * scale, kept
            margin = math.ceil(LONGEST_FILTER * max(scale, 1.0))
            region[axis] = max(0, math.floor(begin) - margin)
            region[axis + 2] = min(image.size[axis], math.ceil(end) + margin)
            box[axis], box[axis + 2] = begin - region[axis], end - region[axis]
    # Cut first: Pillow resizes tall images in another order of steps if few rows are wanted.
    part = image.crop((region[0], region[1], region[2], region[3]))
    return part.resize((size[0], size[1]), Image.Resampling(resize.interpolation), (box[0], box[1], box[2], box[3]))


def _resize(image: Image.Image, height: int, width: int, interpolation: int) -> Image.Image:
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling(interpolation))
