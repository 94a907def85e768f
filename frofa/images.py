"""Images in: listing folders, reading and decoding files, and turning whatever a user has into RGB."""

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import PIL
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from frofa._listing import EXTENSIONS, is_hidden, scan, warn_of_parts
from frofa.exceptions import ImageReadError, ItemError

if TYPE_CHECKING:  # NumPy is imported where it is used: processes that decode start sooner
    import numpy as np
    import numpy.typing as npt

DECODER = f"Pillow {PIL.__version__}"
"""Part of every stored feature's key: decoders differ in the last bits."""


class LazyImage(ABC):
    """An image that is read where it is needed: a member of an archive, a frame of a video, a row of a data set.

    Subclasses are small, immutable and can be pickled; any thread or process may read them.
    """

    __slots__ = ()

    @abstractmethod
    def describe(self) -> str:
        """What an error calls it, such as ``photos.zip!/cats/1.jpg``."""

    @abstractmethod
    def read(self) -> "bytes | str | os.PathLike[str] | Image.Image | npt.NDArray[np.uint8]":
        """The encoded image, the path of a file, or the pixels."""


class Sample(LazyImage):
    """An item of a custom encoder, which is no image: `frofa._samples`."""

    __slots__ = ()

    @abstractmethod
    def content(self) -> tuple[Any, str]:
        """As `content` below, with something that has a method `read` in place of the image."""


Images: TypeAlias = Any
"""What `as_image_list` takes."""
ImageItem: TypeAlias = "str | os.PathLike[str] | Image.Image | npt.NDArray[np.uint8] | LazyImage"


def load_image_folder(directory: str | os.PathLike[str]) -> "tuple[list[str], npt.NDArray[np.str_]]":
    """List the images of a directory in ImageFolder layout, ``DIRECTORY/CLASS/.../IMAGE``.

    Parameters
    ----------
    directory : path
        One sub-directory a class; its name is the label. Hidden files and directories are ignored, and so are files
        beside the class directories and files without the ending of an image. Links to directories are followed.

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

    root = Path(directory)
    if not root.is_dir():
        raise NotADirectoryError(f"expected a directory of class directories, DIRECTORY/CLASS/IMAGE. Got {root}.")
    classes = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not is_hidden(entry.name))
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
        labels += [name] * len(found)
    return paths, np.array(labels)


def list_images(path: str | os.PathLike[str]) -> list[str]:
    """List the image files below a directory, sorted; a file is itself.

    Links that lead nowhere are listed where their names have the ending of an image; reading them is the error.

    Raises
    ------
    FileNotFoundError
        If `path` does not exist.
    """
    root = Path(path)
    if root.is_file():
        return [str(root)]
    if not root.is_dir():
        raise FileNotFoundError(f"no such file or directory: {root}")
    return scan(root).images


def as_image_list(X: Images) -> Sequence[ImageItem]:
    """Check the input of an extractor and return it as a sequence of paths, PIL images, uint8 arrays and `LazyImage`.

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
    if hasattr(X, "iloc"):  # a pandas Series, or a DataFrame of one column
        X = X.to_numpy()
    if isinstance(X, np.ndarray) and X.dtype.kind in "OUT":
        if X.ndim == 2 and X.shape[1] == 1:
            X = X[:, 0]
        if X.ndim != 1:
            raise ValueError(f"expected one column of image paths. Got an array of shape {X.shape}.")
        X = X.tolist()
    if isinstance(X, np.ndarray):
        if X.dtype != np.uint8 or X.ndim != 4 or X.shape[3] != 3:
            raise ValueError(f"expected a uint8 array of shape (n, H, W, 3). Got {X.dtype}, shape {X.shape}.")
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
        if item.dtype != np.uint8 or item.ndim != 3 or item.shape[2] != 3:
            raise ValueError(
                f"expected uint8 images of shape (H, W, 3). Got {item.dtype}, shape {item.shape}, at position "
                f"{position}."
            )
    elif not isinstance(item, (str, os.PathLike, Image.Image, LazyImage)):
        raise TypeError(
            f"expected a path, a PIL image or a uint8 array. Got {type(item).__name__} ({item!r:.80}) "
            f"at position {position}."
        )


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
        A file's bytes, or the RGB image.
    digest : str
        Of the file's bytes, wherever it lies: in a folder, an archive or a data set. Or of size and pixels.
    """
    if isinstance(item, Sample):
        return item.content()
    found = item.read() if isinstance(item, LazyImage) else item
    if isinstance(found, (str, os.PathLike)):
        found = read_file(Path(found))
    if isinstance(found, bytes):
        return found, blake2b(found, digest_size=20, person=b"frofa-file").hexdigest()
    image = to_rgb(found) if isinstance(found, Image.Image) else Image.fromarray(found)
    digest = blake2b(repr(image.size).encode(), digest_size=20, person=b"frofa-pixels")
    digest.update(image.tobytes())
    return image, digest.hexdigest()


def read_file(path: Path) -> bytes:
    """The bytes of a file; where a link leads nowhere, the error says where to."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        if path.is_symlink():
            raise OSError(f"a link to {path.readlink()}, which does not exist") from None
        raise


def decode(image: Image.Image | bytes) -> Image.Image:
    """Decode what `content` returned to an upright RGB image; of an animation, the first frame.

    Raises
    ------
    OSError
        If it is not an image, a damaged one, or has more pixels than ``PIL.Image.MAX_IMAGE_PIXELS``.
    """
    if not isinstance(image, bytes):
        return image
    if not image:
        raise OSError("the file is empty")
    try:
        with Image.open(io.BytesIO(image)) as opened:
            _refuse_bombs(opened)
            return to_rgb(opened)
    except UnidentifiedImageError:  # its message has an address in memory
        raise OSError("not an image, or of a format that Pillow cannot read") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise OSError(f"a decompression bomb? {error}") from None


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


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn a PIL image of any mode upright and to RGB.

    EXIF orientation is applied; grey, palette and CMYK images are converted; transparency is dropped without
    compositing, as `Image.convert` does and as the pretraining of these models did; 16-bit images keep their high byte.

    Examples
    --------
    >>> from PIL import Image
    >>> to_rgb(Image.new("I;16", (2, 2), 65535)).getpixel((0, 0))
    (255, 255, 255)
    """
    image.load()  # some formats have their EXIF data at the end
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:  # without this, every image would be copied, and below
        image = ImageOps.exif_transpose(image)
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        import numpy as np

        high = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255)
        image = Image.fromarray(high.astype(np.uint8))
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # straight to RGB, Pillow warns of some transparent palettes
    return image.convert("RGB")
