"""Images of any origin: folders, tables, archives, data sets, videos and arrays, listed and decoded.

Names whose modules take NumPy are loaded at first use: a decoding worker starts through here, and does without.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from frofa.images.items import LazyImage, Sample, describe
from frofa.images.pixels.colour import to_rgb
from frofa.images.reading import check_readable, content, decode, is_image_file, open_image, read_error, read_file

if TYPE_CHECKING:
    from frofa.images.folders import list_images, load_image_folder
    from frofa.images.image_set import ImageSet, as_image_list, join
    from frofa.images.sources import load_images

__all__ = [
    "ImageSet",
    "LazyImage",
    "Sample",
    "as_image_list",
    "check_readable",
    "content",
    "decode",
    "describe",
    "is_image_file",
    "join",
    "list_images",
    "load_image_folder",
    "load_images",
    "open_image",
    "read_error",
    "read_file",
    "to_rgb",
]

_LATE = {
    "ImageSet": "image_set",
    "as_image_list": "image_set",
    "join": "image_set",
    "list_images": "folders",
    "load_image_folder": "folders",
    "load_images": "sources",
}


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(import_module(f"frofa.images.{_LATE[name]}"), name)
    raise AttributeError(f"module 'frofa.images' has no attribute {name!r}")
