"""Upright images of 8 bits a channel out of Pillow images of any mode."""

from contextlib import suppress
from numbers import Integral
from typing import Any, TypeAlias

from PIL import ExifTags, Image, ImageColor, TiffTags

Colour: TypeAlias = "tuple[int, int, int]"
SILVER: Colour = (192, 192, 192)
"""The default background: drawings in black and in white can be seen on it, see docs/images.md."""
DRAWN_BY_PROGRAMS = ("EPS", "IPTC")
"""Formats for which Pillow starts a program when pixels are asked for; the second may hold the first."""
SAY_ORIENTATION = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
"""Keys of an image's `info` that tell how it is turned."""
GREY_STEPS = {"L;2": 85, "L;4": 17}
"""Grey levels between two values of 2 or 4 bits in a PNG file, by Pillow's name of how they are stored."""
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that turns an image upright, by its EXIF orientation."""


def to_rgb(image: Image.Image, background: Colour = SILVER) -> Image.Image:
    """Turn a PIL image of any mode upright and to RGB.

    EXIF orientation is applied where it can be read; the rest of the EXIF data is not looked at. Grey, palette, CMYK
    and other modes are converted. What is transparent shows the background. Grey pixels of more than 8 bits become 8
    bits by one rule, whatever they come from:

    - whole numbers from 0 to 65535 keep the upper 8 of the bits that the largest of the picture needs, which are 8, 10,
      12, 14 or 16: up to 255 they stay as they are, 12 bits in 16 are divided by 16, 16 bits by 256;
    - floats from 0 to 1 are multiplied by 255 and rounded; those that are whole numbers follow the rule above;
    - what else there is (negative numbers, larger ones, NaN) is an error.

    Where a TIFF file says that white is zero, the result is inverted. Colours of 16 bits keep their upper 8.

    Parameters
    ----------
    image : PIL.Image.Image
    background : (int, int, int), default=(192, 192, 192)
        Red, green and blue; silver.

    Returns
    -------
    PIL.Image.Image
        Mode RGB.

    Raises
    ------
    OSError
        If pixels cannot be decoded, are out of range, or would need another program to be drawn.

    Examples
    --------
    >>> from PIL import Image
    >>> to_rgb(Image.new("I;16", (2, 2), 65535)).getpixel((0, 0))
    (255, 255, 255)
    >>> to_rgb(Image.new("RGBA", (2, 2), (255, 0, 0, 0)), (0, 0, 255)).getpixel((0, 0))
    (0, 0, 255)
    """
    return flatten(upright(image), background)


def flatten(image: Image.Image, background: Colour) -> Image.Image:
    """Lay an image that `upright` returns on a background."""
    if image.mode == "RGB":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, background), image).convert("RGB")


def upright(image: Image.Image) -> Image.Image:
    """Turn an image upright and to RGB as `to_rgb` does, or to RGBA where some of it is transparent."""
    if 0 in image.size:
        raise OSError("it has no pixels")
    # These are asked in this order: how a file stores pixels is known only before they are loaded.
    hidden = _transparent_value(image)
    _load(image)
    turned = UPRIGHT.get(_orientation(image))
    if hidden != image.info.get("transparency"):
        image = image.copy()
        image.info["transparency"] = hidden
    if image.mode.startswith("I") or image.mode == "F":
        # NumPy is imported for such images alone: see frofa.decoding.worker.
        from frofa.images.pixels.grey import eight_bits

        image = eight_bits(image)
    if turned is not None:
        image = image.transpose(turned)
        for name in SAY_ORIENTATION:  # which is right no longer
            image.info.pop(name, None)
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.mode == "La":  # which Pillow converts to no other mode
        image = image.convert("LA")
    image = image.convert("RGBA")
    # An alpha channel that hides nothing is dropped, so that the digest is that of the same pixels without one.
    opaque = image.getchannel("A").getextrema() == (255, 255)
    return image.convert("RGB") if opaque else image


def parse_colour(value: Any) -> Colour:
    """Read red, green and blue, each from 0 to 255, from a name, an HTML code, or three numbers.

    A ValueError says that it is none of these, or a transparent colour.
    """
    found: tuple[Any, ...] = ()
    if isinstance(value, str):
        with suppress(ValueError):
            found = ImageColor.getrgb(value)
    elif isinstance(value, (tuple, list)):
        found = tuple(value)
    whole = all(isinstance(part, Integral) and not isinstance(part, bool) for part in found)
    if len(found) != 3 or not whole or not all(0 <= part <= 255 for part in found):
        raise ValueError(
            "The 'background' parameter must be the name of a colour ('white'), an HTML code ('#ffffff'), or red, "
            f"green and blue from 0 to 255 ((255, 255, 255)). Got {value!r}."
        )
    red, green, blue = (int(part) for part in found)
    return red, green, blue


def _load(image: Image.Image) -> None:
    """Decode the pixels, whatever is wrong with the EXIF data of a TIFF file, and without starting a program."""
    if image.format in DRAWN_BY_PROGRAMS and getattr(image, "tile", None):
        raise OSError(
            f"an image of format {image.format} that is not loaded: its pixels may need another program, which is not "
            "started here. Load it before, by image.load()"
        )
    if hasattr(image, "tag_v2"):  # Pillow reads EXIF data of TIFF files when it loads them, and does not expect errors
        _drop_broken_exif(image)
    image.load()


def _transparent_value(image: Image.Image) -> Any:
    """Find the value that is transparent, if one is, on the scale of the pixels.

    Pillow scales pixels of PNG files to 8 bits, but not this value; only of one that is not loaded, the scale is known.
    """
    hidden, tiles = image.info.get("transparency"), getattr(image, "tile", None)
    if hidden is None or image.format != "PNG" or not tiles:
        return hidden
    stored = tiles[0][3]
    if stored in GREY_STEPS and isinstance(hidden, int):
        return hidden * GREY_STEPS[stored]
    return tuple(part >> 8 for part in hidden) if stored == "RGB;16B" else hidden


def _drop_broken_exif(image: Image.Image) -> None:
    try:
        for directory in TiffTags.TAGS_V2_GROUPS:
            image.getexif().get_ifd(directory)
    except Exception:  # broken data raises a dozen types
        orientation, exif = _orientation(image), image.getexif()
        # Orientation is all that is used of it; it is read before the rest goes.
        exif.clear()
        exif[ExifTags.Base.Orientation] = orientation


def _orientation(image: Image.Image) -> int:
    """Read the EXIF orientation, from 1 (upright) to 8; 1 where that cannot be read."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
        return int(found) if found in UPRIGHT else 1
    except Exception:  # broken data raises a dozen types
        return 1
