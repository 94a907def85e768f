"""Weights over an image as a picture, without matplotlib."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[Any]
LEAST_SIDE = 192
"""Pixels that the longer side of an overlay has at least: smaller pictures are enlarged by a whole factor."""
LEAST_SPAN = 0.1
"""Difference between the least and the largest weight, in units of their mean, that takes all of the colours at least:
a map of nearly equal weights looks like one."""
COLOURS = np.array(
    [
        *((0, 0, 4), (40, 11, 84), (101, 21, 110), (159, 42, 99)),
        *((212, 72, 66), (245, 125, 21), (250, 193, 39), (252, 255, 164)),
    ],
    np.float32,
)
"""Colours of matplotlib's inferno, evenly spaced, from the least weight to the largest: lightness alone tells them
apart."""
OPACITY = (0.45, 0.75)
"""Opacity of the colours of the least and the largest weight, over the image in grey."""


def overlay(picture: Image.Image, weights: npt.ArrayLike) -> Image.Image:
    """Colour an image by weights: dark violet is the least of them, light yellow the largest.

    Weights that are nearly equal, within 10 % of their mean, do not take all of the colours.

    Parameters
    ----------
    picture : PIL.Image.Image
        What the weights cover.
    weights : array-like of shape (rows, columns)
        Not negative; a weight for each cell of an even grid over the picture.

    Returns
    -------
    PIL.Image.Image
        Mode RGB; of the picture's size, or enlarged by a whole factor, so that the longer side has 192 pixels at least.

    Examples
    --------
    >>> import numpy as np
    >>> from PIL import Image
    >>> from frofa.displays.attention import overlay
    >>> overlay(Image.new("RGB", (64, 48)), np.eye(4)).size
    (192, 144)
    """
    shown = enlarged(picture)
    heat = Image.fromarray(spread(weights))
    level = np.clip(np.asarray(heat.resize(shown.size, Image.Resampling.BILINEAR)), 0, 1)
    colours, opacity = _colours(level)
    grey = np.asarray(shown.convert("L"), np.float32)[..., None]
    return Image.fromarray(np.rint((1 - opacity) * grey + opacity * colours).astype(np.uint8))


def layer(weights: npt.ArrayLike) -> Image.Image:
    """Draw weights (rows, columns) as a pixel each, for pages that lay them over a picture in grey as `overlay` does.

    Returns
    -------
    PIL.Image.Image
        Mode RGBA, of size (columns, rows); to be enlarged smoothly.
    """
    colours, opacity = _colours(spread(weights))
    return Image.fromarray(np.rint(np.concatenate([colours, 255 * opacity], 2)).astype(np.uint8), "RGBA")


def enlarged(picture: Image.Image) -> Image.Image:
    """Enlarge a small picture by a whole factor, as an overlay is."""
    picture = picture.convert("RGB")
    factor = max(1, math.ceil(LEAST_SIDE / max(picture.size)))
    size = picture.width * factor, picture.height * factor
    return picture if factor == 1 else picture.resize(size, Image.Resampling.BICUBIC)


def said(weights: npt.ArrayLike) -> str:
    """Say how uneven weights (rows, columns) are, by their least and largest in units of their mean.

    Examples
    --------
    >>> from frofa.displays.attention import said
    >>> said([[0.1, 0.4], [0.3, 0.2]])
    '0.4 to 1.6 times even'
    >>> said([[0.26, 0.24], [0.25, 0.25]])
    'nearly even'
    """
    values = np.asarray(weights, np.float64)
    if not (mean := values.mean()) > 0:
        return "no weight"
    low, high = values.min() / mean, values.max() / mean
    if high - low < LEAST_SPAN:
        return "nearly even"
    digits = 1 if high - low > 0.5 else 2
    return f"{low:.{digits}f} to {high:.{digits}f} times even"


def spread(weights: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Spread weights (rows, columns) over 0 to 1, the largest at 1 unless all are nearly equal."""
    values = np.asarray(weights, np.float32)
    low, high = values.min(), values.max()
    span = max(float(high - low), LEAST_SPAN * float(values.mean()))
    levels: npt.NDArray[np.float32] = (values - low) / np.float32(span or 1.0)
    return levels


def _colours(level: Array) -> tuple[Array, Array]:
    """Give colours (..., 3), between the nearest two of `COLOURS`, and opacities (..., 1) of levels from 0 to 1."""
    place = level * (len(COLOURS) - 1)
    below = np.clip(place.astype(np.intp), 0, len(COLOURS) - 2)
    share = (place - below)[..., None]
    colours: Array = (1 - share) * COLOURS[below] + share * COLOURS[below + 1]
    return colours, (OPACITY[0] + (OPACITY[1] - OPACITY[0]) * level)[..., None]
