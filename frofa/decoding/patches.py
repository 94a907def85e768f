"""Images at their own aspect ratio as patches, in NumPy and Pillow alone: this runs where images are decoded.

It gives what timm's evaluation transform with ``naflex=True, patchify=True`` gives, before normalisation.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from frofa.decoding.views import Box, Making, flip

Pixels = npt.NDArray[np.uint8]
MOST_ENLARGED = 100.0
"""No image is enlarged more than so many times."""
PRECISION = 1e-5
"""Width of the interval of ratios at which the bisection ends, as timm's does."""
HEADER = 8
"""Bytes that hold the grid, two int32, at the start of a row."""


def native_grid(
    height: int, width: int, patch_size: tuple[int, int], max_tokens: int, *, enlarge: bool = True
) -> tuple[int, int]:
    """Find the grid of patches of an image under a budget, with its aspect ratio up to rounding.

    Sides are scaled by one factor, the largest for which the sides, rounded up to whole patches, hold at most
    `max_tokens` patches; so small images are enlarged. It is found by bisection, step for step as timm's
    `get_image_size_for_seq` does, so that no image gets another grid there.

    Sizes are height and width: in pixels of the image and `patch_size`, in patches of the result. Without `enlarge`, no
    side is enlarged, but for rounding up to whole patches: timm's ``max_ratio=1``. An image that would be shrunk more
    than 100,000 times is a ValueError.
    """

    def grid(ratio: float) -> tuple[int, int]:
        return max(math.ceil(height * ratio / patch_size[0]), 1), max(math.ceil(width * ratio / patch_size[1]), 1)

    # By what both sides are scaled: `low` fits into the budget, `high` does not.
    low, high = PRECISION / 10.0, MOST_ENLARGED
    while high - low >= PRECISION:
        middle = (low + high) / 2.0
        rows, columns = grid(middle)
        if rows * columns <= max_tokens:
            low = middle
        else:
            high = middle
    if low <= PRECISION:
        raise ValueError(
            f"an image of {height} x {width} pixels is too large to be resized to {max_tokens} patches of "
            f"{patch_size[0]} x {patch_size[1]}"
        )
    return grid(low if enlarge else min(low, 1.0))


def patchify(pixels: Pixels, patch_size: tuple[int, int]) -> Pixels:
    """Cut pixels (H, W, 3) into patches (N, P * P * 3), row by row of the grid; sides are multiples of the patch's."""
    rows, columns = pixels.shape[0] // patch_size[0], pixels.shape[1] // patch_size[1]
    # (rows, P, columns, P, 3), and then with each patch's pixels together, (rows, columns, P, P, 3).
    parts = pixels.reshape(rows, patch_size[0], columns, patch_size[1], -1)
    return parts.transpose(0, 2, 1, 3, 4).reshape(rows * columns, -1)


@dataclass(frozen=True)
class NativeGeometry:
    """From an upright RGB image to a row that holds its grid and its patches; it stands where a `Geometry` does.

    Patches are of (height, width) pixels, `max_tokens` at most; `interpolation` is Pillow's number of the filter.
    """

    patch_size: tuple[int, int]
    max_tokens: int
    interpolation: int
    enlarge: bool = True

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of a row: a place for the grid and one for each patch, by the bytes of a patch."""
        return 1 + self.max_tokens, 3 * self.patch_size[0] * self.patch_size[1]

    def __call__(self, image: Image.Image) -> Pixels:
        """Resize, cut into patches, and write the grid before them."""
        return self._cut(self._resized(image))

    @property
    def views(self) -> Making:
        """Steps from an upright RGB image to images of its views, whose sides are multiples of the patch's."""
        return Making(self._resized, self.crop, flip)

    def crop(self, image: Image.Image, box: Box) -> Image.Image:
        """Cut a box out of an upright RGB image, and resize it as an image of its own."""
        return self._resized(image.crop(box))

    def row(self, image: Image.Image) -> bytes:
        """Give the bytes of the row of a resized image."""
        return self._cut(image).tobytes()

    def _resized(self, image: Image.Image) -> Image.Image:
        grid = native_grid(image.height, image.width, self.patch_size, self.max_tokens, enlarge=self.enlarge)
        size = grid[1] * self.patch_size[1], grid[0] * self.patch_size[0]
        return image if image.size == size else image.resize(size, Image.Resampling(self.interpolation))

    def _cut(self, image: Image.Image) -> Pixels:
        grid = image.height // self.patch_size[0], image.width // self.patch_size[1]
        # (1 + max_tokens, bytes of a patch): the grid first, then patches, then zeros.
        row = np.zeros(self.shape, np.uint8)
        row[0, :HEADER] = np.array(grid, "<i4").view(np.uint8)
        row[1 : 1 + grid[0] * grid[1]] = patchify(np.asarray(image), self.patch_size)
        return row


def grids_of(rows: Pixels) -> npt.NDArray[np.int64]:
    """Read the grids (n, 2) that rows (n, 1 + max_tokens, bytes of a patch) hold."""
    return np.ascontiguousarray(rows[:, 0, :HEADER]).view("<i4").astype(np.int64)
