"""Images as a backbone sees them: upright, resized and cut by the checkpoint's own preprocessing."""

from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np
from PIL import Image

from frofa.backbones.backbone import Backbone
from frofa.extraction.extractor import FrozenFeatureExtractor
from frofa.images.items import ImageItem
from frofa.images.pixels.colour import SILVER, Colour, parse_colour
from frofa.images.reading import content, decode, read_error

See = Callable[[Image.Image], Image.Image]
"""From an upright RGB image to what the backbone takes, as an image."""


class SeenPictures(Sequence[Image.Image]):
    """Images as a backbone sees them, each of which is read when it is asked for.

    An `ImageReadError` names an image that cannot be read.
    """

    def __init__(self, items: Sequence[ImageItem], see: See, background: Colour = SILVER):
        self.items, self.see, self.background = items, see, background

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> "SeenPictures": ...
    def __getitem__(self, index: int | slice) -> "Image.Image | SeenPictures":
        if isinstance(index, slice):
            return SeenPictures(self.items[index], self.see, self.background)
        item = self.items[index]
        try:
            image = decode(content(item)[0], self.background)
        except Exception as error:  # decoders raise a dozen types
            raise read_error(int(index), item, error) from error
        return self.see(image)


def seen_by(extractor: FrozenFeatureExtractor, items: Sequence[ImageItem]) -> SeenPictures:
    """Show images as an extractor's backbone sees them; for a custom encoder, of which that is not known, whole."""
    backbone = extractor._backbone()
    return SeenPictures(items, _see(backbone), parse_colour(extractor.background))


def as_given(items: Sequence[ImageItem]) -> SeenPictures:
    """Show images whole."""
    return SeenPictures(items, _whole)


def grid_of(extractor: FrozenFeatureExtractor) -> tuple[int, int] | None:
    """Give rows and columns of the tokens of a backbone; None where they are not known, or differ between images."""
    return None if extractor.max_tokens is not None else extractor._backbone().layout.grid


def _see(backbone: Backbone) -> See:
    if backbone.is_custom:
        return _whole
    preprocessing = backbone.preprocessing
    if preprocessing.geometry is not None:
        # Of images that keep their aspect ratio, too, the plain view is the resized image, not the row of its patches.
        return preprocessing.geometry.views.plain
    return lambda image: _pixels(preprocessing.whole(image).numpy(), backbone.data_config)


def _whole(image: Image.Image) -> Image.Image:
    return image


def _pixels(values: Any, config: Any) -> Image.Image:
    """Take back the normalisation of values (3, H, W), or (1, H, W) of grey images."""
    mean, std = (np.asarray(config[name], np.float32).reshape(-1, 1, 1) for name in ("mean", "std"))
    levels = np.clip(np.rint(255 * (values * std + mean)), 0, 255).astype(np.uint8)
    return Image.fromarray(np.broadcast_to(levels, (3, *levels.shape[1:])).transpose(1, 2, 0).copy())
