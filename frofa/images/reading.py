"""Images in: listing folders, reading and decoding files, and turning whatever a user has into RGB."""

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import PIL
from PIL import Image, UnidentifiedImageError

from frofa.exceptions import ImageReadError, ItemError
from frofa.images.frames import is_column, is_frame, only_column, values_of
from frofa.images.image_set import ImageSet
from frofa.images.listing import is_hidden, scan, warn_of_parts
from frofa.images.pixels.budget import refuse_large
from frofa.images.pixels.colour import SILVER, Colour, flatten, to_rgb, upright
from frofa.images.pixels.formats import EXTENSIONS, FORMATS
from frofa.utils.files import expand_home
from frofa.utils.text import class_name

if TYPE_CHECKING:  # NumPy is imported where it is used: processes that decode start sooner
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "LazyImage",
    "Sample",
    "as_image_list",
    "check_readable",
    "content",
    "decode",
    "describe",
    "is_image_file",
    "list_images",
    "load_image_folder",
    "open_image",
    "read_error",
    "read_file",
    "to_rgb",
]
AVIF = (b"ftypavif", b"ftypavis")
HEIC = (b"ftypheic", b"ftypheix", b"ftypheim", b"ftypheis", b"ftyphevc", b"ftypmif1", b"ftypmsf1")
"""How files of these formats begin, after four bytes."""
RULES = 2
"""Number of the rules by which an image becomes RGB; to be raised whenever they change for any image."""
DECODER = f"Pillow {PIL.__version__}, rules {RULES}"
"""Part of every stored feature's key: decoders differ in the last bits."""


class LazyImage(ABC):
    """An image that is read where it is needed: a member of an archive, a frame of a video, a row of a data set.

    Subclasses are small, immutable and can be pickled; any thread or process may read them.
    """

    __slots__ = ()

    @abstractmethod
    def describe(self) -> str:
        """What an error calls it, such as ``photos.zip!/cats/1.jpg``."""

    @property
    def n_bytes(self) -> int:
        """Bytes that `read` takes to memory; 0 where they are few, or not known before."""
        return 0

    @abstractmethod
    def read(self) -> "bytes | str | os.PathLike[str] | Image.Image | npt.NDArray[np.uint8]":
        """The encoded image, the path of a file, or the pixels."""


class Sample(LazyImage):
    """An item of a custom encoder, which is no image: `frofa.encoders.samples`."""

    __slots__ = ()

    @abstractmethod
    def content(self) -> tuple[Any, str]:
        """As `content` below, with something that has a method `read` in place of the image."""


OTHERWISE = "or PIL images (Image.fromarray) of other types and of grey or transparent pixels"
Images: TypeAlias = Any
"""What `as_image_list` takes."""
ImageItem: TypeAlias = "str | os.PathLike[str] | Image.Image | npt.NDArray[np.uint8] | LazyImage"


def load_image_folder(directory: str | os.PathLike[str]) -> "tuple[list[str], npt.NDArray[np.str_]]":
    """List the images of a directory in ImageFolder layout, ``DIRECTORY/CLASS/.../IMAGE``.

    Parameters
    ----------
    directory : path
        One sub-directory a class; its name is the label, in Unicode's composed form (NFC). Hidden files and directories
        are ignored, and so are files beside the class directories and files without the ending of an image. Links to
        directories are followed.

    Returns
    -------
    paths : list of str
        Sorted by class, then by path.
    labels : ndarray of str, shape (n,)
        The class of each path.

    Raises
    ------
    NotADirectoryError
        If `directory` is not a directory.
    ValueError
        If it has no class directories, or one of them has no image.

    Examples
    --------
    >>> paths, labels = load_image_folder("flowers/train")  # doctest: +SKIP
    >>> sorted(set(labels))  # doctest: +SKIP
    ['daisy', 'rose']
    """
    import numpy as np

    root = Path(expand_home(directory))
    if not root.is_dir():
        raise NotADirectoryError(f"expected a directory of class directories, DIRECTORY/CLASS/IMAGE. Got {root}.")
    classes = [entry.name for entry in root.iterdir() if entry.is_dir() and not is_hidden(entry.name)]
    classes.sort(key=lambda name: (class_name(name), name))
    if not classes:
        raise ValueError(
            f"expected a directory of class directories, DIRECTORY/CLASS/IMAGE. Got {root}, which has no sub-directory."
        )
    warn_of_parts(classes)
    paths: list[str] = []
    labels: list[str] = []
    for name in classes:
        found = list_images(root / name)
        if not found:
            raise ValueError(f"the class directory {root / name} has no image. Known endings: {', '.join(EXTENSIONS)}.")
        paths += found
        labels += [class_name(name)] * len(found)
    return paths, np.array(labels)


def list_images(path: str | os.PathLike[str]) -> list[str]:
    """List the image files below a directory, sorted; a file is itself.

    Links that lead nowhere are listed where their names have the ending of an image; reading them is the error.

    Raises
    ------
    FileNotFoundError
        If `path` does not exist.
    """
    root = Path(expand_home(path))
    if root.is_file():
        return [str(root)]
    if not root.is_dir():
        raise FileNotFoundError(f"no such file or directory: {root}")
    return scan(root).images


def as_image_list(X: Images) -> Sequence[ImageItem]:
    """Check the input of an extractor and return it as a sequence of paths, PIL images, uint8 arrays and `LazyImage`.

    Columns, and frames of one column, may be those of pandas, polars or pyarrow; of an `ImageSet`, the items are taken.

    Raises
    ------
    TypeError, ValueError
        If `X` is not one of the accepted forms; the message lists them.
    """
    import numpy as np

    if isinstance(X, (str, bytes, os.PathLike, Image.Image)):
        raise TypeError(
            f"expected several images. Got {X!r}: pass a list, [image], or the paths that "
            "frofa.load_images(source) or frofa.load_image_folder(directory) returns."
        )
    if isinstance(X, ImageSet):
        X = X.items
    elif is_frame(X):
        X = only_column(X, "images")
    elif is_column(X):
        X = values_of(X)
    if isinstance(X, np.ndarray) and X.dtype.kind in "OSUT":
        if X.ndim == 2 and X.shape[1] == 1:
            X = X[:, 0]
        if X.ndim != 1:
            raise ValueError(f"expected one column of image paths. Got an array of shape {X.shape}.")
        X = X.tolist()
    if isinstance(X, np.ndarray):
        if X.dtype != np.uint8 or X.ndim != 4 or X.shape[3] != 3:
            raise ValueError(f"expected a uint8 array of shape (n, H, W, 3), {OTHERWISE}. Got {_describe_array(X)}.")
        return list(X)
    try:
        items = list(X)
    except TypeError:
        raise TypeError(
            "expected a list or pandas column of paths, a list of PIL images, or a uint8 array (n, H, W, 3). "
            f"Got {type(X).__name__}."
        ) from None
    for position, item in enumerate(items):
        _check_item(position, item)
    return items


def _check_item(position: int, item: object) -> None:
    import numpy as np

    if isinstance(item, np.ndarray):
        _check_array(item, f", at position {position}")
    elif not isinstance(item, (str, os.PathLike, Image.Image, LazyImage)):
        advice = ": os.fsdecode makes a path of bytes, PIL.Image.open an image" if isinstance(item, bytes) else ""
        raise TypeError(
            f"expected a path, a PIL image or a uint8 array. Got {type(item).__name__} ({item!r:.80}) "
            f"at position {position}{advice}."
        )


def _check_array(array: "npt.NDArray[Any]", where: str = "") -> None:
    if array.dtype != "uint8" or array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"expected uint8 images of shape (H, W, 3), {OTHERWISE}. Got {_describe_array(array)}{where}.")


def _describe_array(array: "npt.NDArray[Any]") -> str:
    values = f", values from {array.min()} to {array.max()}" if array.size and array.dtype.kind in "biuf" else ""
    return f"{array.dtype}, shape {array.shape}{values}"


def describe(item: ImageItem) -> str:
    """What an error calls an image: its path, or what it is."""
    if isinstance(item, LazyImage):
        return item.describe()
    if isinstance(item, Image.Image):
        return getattr(item, "filename", "") or f"PIL image, mode {item.mode}, size {item.size}"
    if isinstance(item, (str, os.PathLike)):
        return os.fspath(item)
    return f"array, shape {item.shape}"


def content(item: ImageItem) -> tuple[Image.Image | bytes, str]:
    """Read an image without decoding files.

    Returns
    -------
    content : bytes or PIL.Image.Image
        A file's bytes, or the upright image, which is RGB, or RGBA where some of it is transparent.
    digest : str
        Of the file's bytes, wherever it lies: in a folder, an archive or a data set. Or of size and pixels.
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
        _check_array(found)
        image = Image.fromarray(found)
    shape = image.size if image.mode == "RGB" else (*image.size, image.mode)
    digest = blake2b(repr(shape).encode(), digest_size=20, person=b"frofa-pixels")
    digest.update(image.tobytes())
    return image, digest.hexdigest()


def n_bytes(item: ImageItem) -> int:
    """Bytes of the file of an image; 0 where there is none, or it cannot be had."""
    if isinstance(item, LazyImage):
        return item.n_bytes
    if not isinstance(item, (str, os.PathLike)):
        return 0
    try:
        return os.stat(expand_home(item)).st_size  # noqa: PTH116 (of a path of any kind)
    except (OSError, ValueError):
        return 0


def read_file(path: Path) -> bytes:
    """The bytes of a file; where a link leads nowhere, the error says where to."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        if path.is_symlink():
            raise OSError(f"a link to {path.readlink()}, which does not exist") from None
        raise


def decode(image: Image.Image | bytes, background: Colour = SILVER) -> Image.Image:
    """Decode what `content` returned to an upright RGB image; of an animation, the first frame.

    What is transparent shows the background.

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
        return _decode(image, background)
    except UnidentifiedImageError:  # its message has an address in memory
        raise OSError(_why_not(image)) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise OSError(f"a decompression bomb? {error}") from None


def _decode(data: bytes, background: Colour) -> Image.Image:
    try:
        with open_image(data) as opened:
            _refuse_bombs(opened)
            return to_rgb(opened, background)
    except Exception:
        without_exif = data.replace(b"Exif", b"none") if data[4:12] in AVIF else data
        if without_exif == data:
            raise
    return _decode(without_exif, background)  # an AVIF image is refused whole if its EXIF data is broken


def open_image(source: bytes | BinaryIO) -> Image.Image:
    """Open an encoded image of one of `FORMATS` by Pillow, without decoding its pixels; the one place that does.

    Raises
    ------
    UnidentifiedImageError
        If it is of no such format.
    """
    for register in (Image.preinit, Image.init):  # the usual formats first: to know all takes a moment
        register()
        known = [name for name in FORMATS if name in Image.OPEN]
        with suppress(UnidentifiedImageError):
            return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=known)
    raise UnidentifiedImageError


def is_image_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file is an image by its content, whatever its ending."""
    try:
        with Path(path).open("rb") as file, open_image(file):
            return True
    except Exception:  # Pillow raises a dozen types
        return False


def _why_not(data: bytes) -> str:
    if data[4:12] in HEIC:
        return "a HEIC image, which Pillow cannot read: convert it, to JPEG for example"
    return "not an image, or of a format that Pillow cannot read"


def _refuse_bombs(image: Image.Image) -> None:
    """Refuse from Pillow's limit on, where it only warns, and raises from twice the limit on."""
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
    """The error that names an image and says in a few words why it could not be read."""
    if isinstance(error, OSError) and str(error):
        reason = error.strerror or str(error)  # the name is said already
    else:
        reason = f"{type(error).__name__}: {error}"
    kind = ItemError if isinstance(item, Sample) else ImageReadError
    return kind(position, describe(item), reason)
