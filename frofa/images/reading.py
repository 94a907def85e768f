"""Image files in: reading, opening and decoding them to upright RGB."""

import io
import os
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import PIL
from PIL import Image, UnidentifiedImageError

from frofa.exceptions import ImageReadError, ItemError
from frofa.images.items import ImageItem, LazyImage, Sample, check_array, describe
from frofa.images.pixels.budget import refuse_large
from frofa.images.pixels.colour import SILVER, Colour, flatten, to_rgb, upright
from frofa.images.pixels.formats import FORMATS
from frofa.utils.files import expand_home

AVIF = (b"ftypavif", b"ftypavis")
HEIC = (b"ftypheic", b"ftypheix", b"ftypheim", b"ftypheis", b"ftyphevc", b"ftypmif1", b"ftypmsf1")
"""Bytes 4 to 12 of files of these formats."""
RULES = 2
"""Version of the rules by which an image becomes RGB; to be raised whenever they change for any image."""
DECODER = f"Pillow {PIL.__version__}, rules {RULES}"
"""Part of every stored feature's key, as decoders differ in the last bits."""


def content(item: ImageItem) -> tuple[Image.Image | bytes, str]:
    """Read an image, but do not decode a file.

    Returns
    -------
    content : bytes or PIL.Image.Image
        A file's bytes, or the upright image, which is RGB, or RGBA where some of it is transparent.
    digest : str
        Digest of the file's bytes, wherever it lies: in a folder, an archive or a data set. Or of size and pixels.
    """
    if isinstance(item, Sample):
        return item.content()
    found = item.read() if isinstance(item, LazyImage) else item
    if isinstance(found, (str, os.PathLike)):
        found = expand_home(found)
        refuse_large(n_bytes(found))
        found = read_file(Path(found))
    if isinstance(found, bytes):
        return found, blake2b(found, digest_size=20, person=b"frofa-file").hexdigest()
    if isinstance(found, Image.Image):
        image = upright(found)
    else:
        check_array(found)
        image = Image.fromarray(found)
    # Pixels have no file: their digest is of size, mode and values.
    shape = image.size if image.mode == "RGB" else (*image.size, image.mode)
    digest = blake2b(repr(shape).encode(), digest_size=20, person=b"frofa-pixels")
    digest.update(image.tobytes())
    return image, digest.hexdigest()


def n_bytes(item: ImageItem) -> int:
    """Give the bytes of the file of an image; 0 where there is none, or their number cannot be had."""
    if isinstance(item, LazyImage):
        return item.n_bytes
    if not isinstance(item, (str, os.PathLike)):
        return 0
    try:
        return os.stat(expand_home(item)).st_size  # noqa: PTH116 (of a path of any kind)
    except (OSError, ValueError):
        return 0


def read_file(path: Path) -> bytes:
    """Read the bytes of a file; where a link leads nowhere, the error says where to."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        if path.is_symlink():
            raise OSError(f"a link to {path.readlink()}, which does not exist") from None
        raise


def decode(image: Image.Image | bytes, background: Colour = SILVER, *, near: int | None = None) -> Image.Image:
    """Decode what `content` returned to an upright RGB image; of an animation, the first frame.

    The background shows through where the image is transparent. With `near`, a JPEG file may be decoded to a half, a
    quarter or an eighth of its size, at which its longer side still has so many pixels: that is many times faster.

    Raises
    ------
    OSError
        If it is not an image, a damaged one, or has more pixels than ``PIL.Image.MAX_IMAGE_PIXELS``.
    """
    if isinstance(image, Image.Image):
        return flatten(image, background)
    if not isinstance(image, bytes):  # what a custom encoder reads by itself
        return image
    if not image:
        raise OSError("the file is empty")
    try:
        return _decode(image, background, near)
    except UnidentifiedImageError:  # its message has an address in memory
        if image[4:12] in HEIC:
            raise OSError("a HEIC image, which Pillow cannot read: convert it, to JPEG for example") from None
        raise OSError("not an image, or of a format that Pillow cannot read") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise OSError(f"a decompression bomb? {error}") from None


def _decode(data: bytes, background: Colour, near: int | None) -> Image.Image:
    try:
        with open_image(data) as opened:
            _refuse_bombs(opened)
            if near is not None:
                # Pillow keeps both sides above what is asked for, so the shorter one is asked for less.
                width, height = (-(-near * side // max(opened.size)) for side in opened.size)
                opened.draft(None, (width, height))
            return to_rgb(opened, background)
    except Exception:
        without_exif = data.replace(b"Exif", b"none") if data[4:12] in AVIF else data
        if without_exif == data:
            raise
    return _decode(without_exif, background, near)  # an AVIF image is refused whole if its EXIF data is broken


def open_image(source: bytes | BinaryIO) -> Image.Image:
    """Open an encoded image of one of `FORMATS`, without decoding its pixels; nothing else here calls Pillow's opener.

    Raises
    ------
    UnidentifiedImageError
        If it is of no such format.
    """
    # The usual formats first: to register all of Pillow's takes a moment.
    for register in (Image.preinit, Image.init):
        register()
        known = [name for name in FORMATS if name in Image.OPEN]
        with suppress(UnidentifiedImageError):
            return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=known)
    raise UnidentifiedImageError


def is_image_file(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file is an image by its content, whatever its ending."""
    try:
        with Path(path).open("rb") as file, open_image(file):
            return True
    except Exception:  # Pillow raises a dozen types
        return False


def _refuse_bombs(image: Image.Image) -> None:
    """Refuse images above Pillow's limit, where Pillow only warns: it raises above twice the limit."""
    n_pixels = image.width * image.height
    if Image.MAX_IMAGE_PIXELS is not None and n_pixels > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError(
            f"Image size ({n_pixels} pixels) exceeds limit of {Image.MAX_IMAGE_PIXELS} pixels (Image.MAX_IMAGE_PIXELS)"
        )


def check_readable(position: int, item: ImageItem) -> ImageReadError | None:
    """Decode an image; return the error where that fails."""
    try:
        decode(content(item)[0])
    except Exception as error:  # decoders raise a dozen types
        return read_error(position, item, error)
    return None


def read_error(position: int, item: ImageItem, error: Exception) -> ImageReadError:
    """Make the error that names an image and says in a few words why it could not be read."""
    if isinstance(error, OSError) and str(error):
        reason = error.strerror or str(error)  # the name is said already
    else:
        reason = f"{type(error).__name__}: {error}"
    kind = ItemError if isinstance(item, Sample) else ImageReadError
    return kind(position, describe(item), reason)
