"""Views of an image: itself, its mirror image, and crops that are drawn from its content.

A crop is a function of the image's content digest, the crop's number and the settings, and of nothing else: the same in
every process, run and order of images, and known before the image is decoded. Neither NumPy nor torch is imported here,
since processes that decode draw the boxes.
"""

import hashlib
import json
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple, TypeAlias

from PIL import Image

Box: TypeAlias = "tuple[int, int, int, int]"
"""Left, upper, right and lower side, in pixels of the upright image, as Pillow has them."""

AREA = (0.5, 1.0)
"""The default range of the part of an image's area that a crop shows."""
ASPECT = (3 / 4, 4 / 3)
"""The range of width over height of a crop, as in torchvision's `RandomResizedCrop`."""
TRIES = 10
"""Draws of area and aspect until a box fits into the image, as in torchvision."""
RULES = 1
"""Version of the rules by which crops are drawn; to be raised whenever they change for any image."""


@dataclass(frozen=True)
class View:
    """One of the views of an image.

    A crop has a number, and shows a part of the area between the two numbers of `area`; with `flips`, half of the crops
    are mirrored. Of other views, these are 0, None and False. Made by `make_views`.
    """

    kind: Literal["plain", "mirror", "crop"] = "plain"
    number: int = 0
    area: tuple[float, float] | None = None
    flips: bool = False

    def __str__(self) -> str:
        return f"crop {self.number}" if self.kind == "crop" else self.kind

    def draw(self, digest: str, width: int, height: int) -> tuple[Box, bool]:
        """Draw the box of a crop in an image of this content digest and size, and whether it is mirrored."""
        if self.area is None:
            raise ValueError(f"expected a crop. Got the view {self}.")
        # Numbers in [0, 1): one for the flip, two for the place, two for each try. Settings play no part in them, so
        # that the same crop with and without flips differs by its flip alone.
        flip, right, down, *shapes = _uniform(f"{digest} {self.number}", 3 + 2 * TRIES)
        box_width, box_height = _box_size(width, height, self.area, shapes)
        left = int(right * (width - box_width + 1))
        upper = int(down * (height - box_height + 1))
        return (left, upper, left + box_width, upper + box_height), self.flips and flip < 0.5


class ImageView(NamedTuple):
    """A view of the image at a position of the input."""

    position: int
    view: View


PLAIN = View()
MIRROR = View("mirror")


def make_views(n_views: int, *, area: tuple[float, float] = AREA, mirror: bool = True) -> tuple[View, ...]:
    """List views of an image: the plain image, its mirror image, and crops.

    The list for fewer views is a prefix of the list for more.

    Parameters
    ----------
    n_views : int
        How many, 1 at least.
    area : (float, float), default=(0.5, 1.0)
        The smallest and the largest part of the image's area that a crop shows.
    mirror : bool, default=True
        Take the mirror image, and mirror half of the crops; False where left and right differ in meaning.

    Returns
    -------
    tuple of View

    Raises
    ------
    ValueError
        If there is no view, or the range of areas is not one of numbers between 0 and 1.

    Examples
    --------
    >>> [str(view) for view in make_views(4)]
    ['plain', 'mirror', 'crop 0', 'crop 1']
    >>> [str(view) for view in make_views(3, mirror=False)]
    ['plain', 'crop 0', 'crop 1']
    """
    if not isinstance(n_views, Integral) or isinstance(n_views, bool) or n_views < 1:
        raise ValueError(f"expected one view or more. Got {n_views!r}.")
    low, high = checked_area(area)
    whole = (PLAIN, MIRROR) if mirror else (PLAIN,)
    crops = (View("crop", number, (low, high), bool(mirror)) for number in range(int(n_views) - len(whole)))
    return (*whole[: int(n_views)], *crops)


def checked_area(area: Any) -> tuple[float, float]:
    """Check a range of parts of an area: two numbers above 0 and up to 1, in order; a ValueError says what it is."""
    pair = tuple(area) if isinstance(area, (tuple, list)) else ()
    if len(pair) != 2 or not all(isinstance(part, Real) and not isinstance(part, bool) for part in pair):
        raise ValueError(f"expected a range of areas such as {AREA}. Got {area!r}.")
    low, high = map(float, pair)
    if not 0 < low <= high <= 1:
        raise ValueError(f"expected a range of areas, above 0 and up to 1, such as {AREA}. Got {area!r}.")
    return low, high


def preprocessing_with(preprocessing: str, view: View) -> str:
    """Add a view to the preprocessing of a spec, a JSON object as text; the plain view leaves every byte of it."""
    part = view_part(view)
    return json.dumps({**json.loads(preprocessing), "view": part}, sort_keys=True) if part else preprocessing


def view_part(view: View) -> dict[str, Any]:
    """Describe a view in JSON, with all that the box of a crop depends on but the image; nothing for the plain view."""
    if view.kind == "plain":
        return {}
    if view.area is None:
        return {"kind": view.kind}
    return {
        "kind": view.kind,
        "number": view.number,
        "area": list(view.area),
        "flips": view.flips,
        "rules": RULES,
    }


@dataclass(frozen=True)
class Making:
    """Steps from an upright image to its views: to the plain one, to a box of it, and to the mirror image of either."""

    plain: Callable[[Image.Image], Any]
    crop: Callable[[Image.Image, Box], Any]
    mirror: Callable[[Any], Any]

    def __call__(self, image: Image.Image, digest: str, views: Sequence[View]) -> list[Any]:
        """Make views of an image of this content digest; its plain form at most once."""
        # The mirror image is the plain one turned, which costs no second resize.
        plain = self.plain(image) if any(view.kind != "crop" for view in views) else None

        def make(view: View) -> Any:
            if view.kind != "crop":
                return self.mirror(plain) if view.kind == "mirror" else plain
            box, flipped = view.draw(digest, image.width, image.height)
            part = self.crop(image, box)
            return self.mirror(part) if flipped else part

        return [make(view) for view in views]


def flip(image: Image.Image) -> Image.Image:
    """Mirror an image, left to right."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def _box_size(width: int, height: int, area: tuple[float, float], shapes: Sequence[float]) -> tuple[int, int]:
    """Choose width and height of a box in an image, from pairs of numbers in [0, 1)."""
    low, high = map(math.log, ASPECT)
    for part, shape in zip(shapes[::2], shapes[1::2], strict=True):
        pixels = width * height * (area[0] + part * (area[1] - area[0]))
        aspect = math.exp(low + shape * (high - low))
        box = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
        if 0 < box[0] <= width and 0 < box[1] <= height:
            return box
    # None fits, as in long images: all that an aspect of the range holds. torchvision takes it from the centre, by
    # which all crops of such an image would be the same one.
    return min(width, max(1, round(height * ASPECT[1]))), min(height, max(1, round(width / ASPECT[0])))


def _uniform(seed: str, n: int) -> list[float]:
    """Draw numbers in [0, 1), each a multiple of 2**-53."""
    drawn = hashlib.shake_256(f"frofa view {RULES}: {seed}".encode()).digest(8 * n)
    return [number / 2**53 for number in (word >> 11 for word in struct.unpack(f"<{n}Q", drawn))]
