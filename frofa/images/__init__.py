"""Images of any origin: folders, tables, archives, data sets, videos and arrays, listed and decoded."""

from frofa.images.pixels.colour import to_rgb
from frofa.images.reading import (
    LazyImage,
    Sample,
    as_image_list,
    check_readable,
    content,
    decode,
    describe,
    is_image_file,
    list_images,
    load_image_folder,
    open_image,
    read_error,
    read_file,
)

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
