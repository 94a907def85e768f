"""Items of a source of images: what they may be, what errors call them, and the checks before they are read."""

import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeAlias

from PIL import Image

if TYPE_CHECKING:  # NumPy is imported where it is used: processes that decode start sooner
    import numpy as np
    import numpy.typing as npt


class LazyImage(ABC):
    """An image that is read where it is needed: a member of an archive, a frame of a video, a row of a data set.

    Subclasses are small, immutable and can be pickled; any thread or process may read them.
    """

    __slots__ = ()

    @abstractmethod
    def describe(self) -> str:
        """Name the image as errors do, such as ``photos.zip!/cats/1.jpg``."""

    @property
    def n_bytes(self) -> int:
        """Bytes that `read` brings into memory; 0 where they are few, or not known before."""
        return 0

    @abstractmethod
    def read(self) -> "bytes | str | os.PathLike[str] | Image.Image | npt.NDArray[np.uint8]":
        """Return the encoded image, the path of a file, or the pixels."""


class Sample(LazyImage):
    """An item of a custom encoder that need not be an image; see `frofa.encoders.samples`."""

    __slots__ = ()

    @abstractmethod
    def content(self) -> tuple[Any, str]:
        """Return what the encoder reads, an object with a method `read`, and its digest, as `reading.content` does."""


OTHERWISE = "or PIL images (Image.fromarray) of other types and of grey or transparent pixels"
Images: TypeAlias = Any
"""All that `frofa.images.as_image_list` accepts, which checks it at run time."""
ImageItem: TypeAlias = "str | os.PathLike[str] | Image.Image | npt.NDArray[np.uint8] | LazyImage"


def describe(item: ImageItem) -> str:
    """Name an image as errors do: by its path, or by its type and size."""
    if isinstance(item, LazyImage):
        return item.describe()
    if isinstance(item, Image.Image):
        return getattr(item, "filename", "") or f"PIL image, mode {item.mode}, size {item.size}"
    if isinstance(item, (str, os.PathLike)):
        return os.fspath(item)
    return f"array, shape {item.shape}"


def check_array(array: "npt.NDArray[Any]", where: str = "") -> None:
    """Raise a ValueError for pixels that are not uint8 of shape (H, W, 3)."""
    if array.dtype != "uint8" or array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"expected uint8 images of shape (H, W, 3), {OTHERWISE}. Got {describe_array(array)}{where}.")


def describe_array(array: "npt.NDArray[Any]") -> str:
    """Say an array's dtype, shape and range of values."""
    values = f", values from {array.min()} to {array.max()}" if array.size and array.dtype.kind in "biuf" else ""
    return f"{array.dtype}, shape {array.shape}{values}"
