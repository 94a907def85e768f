"""The subject of an examination: an extractor, its backbone, and a few images."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from frofa.backbones.backbone import Backbone
from frofa.backbones.navit.backbone import NativeBackbone
from frofa.backbones.outputs import Output, Request
from frofa.extraction.extractor import FrozenFeatureExtractor
from frofa.images.items import ImageItem
from frofa.images.pixels.colour import SILVER, Colour, parse_colour
from frofa.images.reading import content, decode, read_error

MOST_IMAGES = 8
BOTH: tuple[Output, ...] = ("tokens", "pooled")
FLOAT32_TOLERANCE = 1e-4
"""Largest relative difference between two ways to compute the same features in float32."""


@dataclass
class Subject:
    """An extractor under examination with its own backbone, and eight images or items of a custom encoder at most.

    `golden` is the file of golden vectors that the caller named, if any.
    """

    extractor: FrozenFeatureExtractor
    backbone: Backbone
    items: Sequence[ImageItem]
    golden: Path | None = None

    @cached_property
    def pixels(self) -> Tensor:
        """The images as the model takes them: float32 (n, 3, H, W), or rows of patches (see `pixels_of`)."""
        return pixels_of(self.backbone, self.items, parse_colour(self.extractor.background))

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Tokens and the pooled vector, as far as the model has them."""
        return tuple(output for output in BOTH if output in self.backbone.layout.widths)

    def features(self, output: Output = "pooled", precision: str = "float32", pixels: Tensor | None = None) -> Tensor:
        """Features of the last layer with its norm, float32 on the CPU."""
        return features_of(self.backbone, self.pixels if pixels is None else pixels, output, precision)

    def raw(self) -> Any:
        """Run the model's own `forward_features` in float32, without any of frofa's code."""
        with torch.inference_mode():
            return self.backbone.module.forward_features(self.pixels.to(self.backbone.device))  # type: ignore[operator]


def pixels_of(backbone: Backbone, items: Sequence[ImageItem], background: Colour = SILVER) -> Tensor:
    """Preprocess images as an extraction does; rows of a grid and its patches, uint8, for a `NativeBackbone`."""
    parts = backbone.preprocessing
    found = []
    for position, item in enumerate(items):
        # An image that cannot be read is the caller's fault, not the model's: it is named as an extraction names it.
        try:
            image = decode(content(item)[0], background)
        except Exception as error:  # decoders raise a dozen types
            raise read_error(position, item, error) from error
        if parts.geometry is None:
            found.append(parts.whole(image))
        else:
            geometric = torch.from_numpy(np.array(parts.geometry(image)))
            is_native = isinstance(backbone, NativeBackbone)  # normalises by itself
            found.append(geometric if is_native else parts.normalise(geometric[None])[0])
    return torch.stack(found)


def features_of(backbone: Backbone, pixels: Tensor, output: Output, precision: str = "float32") -> Tensor:
    """Features of the last layer with its norm, on the CPU."""
    request = Request(output, backbone.resolve_layer(output, None, True), True)
    return backbone.extract(pixels, [request], precision)[0].cpu()


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference of an image's features, relative to the largest of them; NaN where one is not finite."""
    # Rows (n, values) of an image each; an image of zeros alone divides by the smallest number, not by zero.
    found, expected = found.double().flatten(1), expected.double().flatten(1)
    largest = expected.abs().amax(1).clamp(min=torch.finfo(torch.float64).tiny)
    return float(((found - expected).abs().amax(1) / largest).max())


def reference_images() -> npt.NDArray[np.uint8]:
    """Four colour images (4, 112, 168, 3) made of the packaged sample: a picture in each channel, two side by side.

    They are not square, and their channels differ, so that features depend on crop, size and order of channels.
    """
    with (files("frofa") / "data" / "fashion_mnist_sample.npz").open("rb") as file, np.load(file) as sample:
        pictures = sample["train"][:10, :4]  # 10 classes, 4 of each, 28 x 28
    # Each image (3, 28, 42): a class in each channel, and to the right the left halves of three other classes.
    tiles = [
        np.concatenate([pictures[[c, c + 1, c + 2], i], pictures[[c + 3, c + 4, c + 5], i, :, :14]], axis=2)
        for i, c in enumerate((0, 1, 3, 4))
    ]
    # Channels last, each pixel repeated to a square of 4 x 4.
    images = np.stack(tiles).transpose(0, 2, 3, 1).repeat(4, 1).repeat(4, 2)
    return np.ascontiguousarray(images)


def some(items: Sequence[Any]) -> Sequence[Any]:
    """Take at most `MOST_IMAGES` of the items, evenly spaced."""
    if len(items) <= MOST_IMAGES:
        return items
    return [items[index] for index in np.linspace(0, len(items) - 1, MOST_IMAGES).round().astype(int)]
