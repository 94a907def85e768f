"""Decoding as threads and processes do it: an image becomes a row of pixels.

Nothing here imports torch or NumPy, whose import would take most of the time that a process of `frofa.decoding.worker`
needs to start.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple, TypeVar

from frofa.decoding.geometry import Geometry
from frofa.decoding.views import PLAIN, View
from frofa.exceptions import ImageReadError
from frofa.images.items import ImageItem
from frofa.images.pixels.budget import hold
from frofa.images.pixels.colour import SILVER, Colour
from frofa.images.reading import content, decode, n_bytes, read_error
from frofa.utils.blocks import sample

T = TypeVar("T")


class DecodeTask(NamedTuple):
    """One image to decode: its position in the input, the colour where it is transparent, the views to make of it.

    `expected` is the digest that its content had when it was looked up in a store; `rows` has one row for the pixels of
    each view.
    """

    position: int
    item: ImageItem
    expected: str | None = None
    rows: tuple[int, ...] = ()
    background: Colour = SILVER
    views: tuple[View, ...] = (PLAIN,)


class ContentDigest(NamedTuple):
    """The identity of an image: the digest of its content, and of a file also a sample of it (`frofa.utils.blocks`)."""

    key: str
    sample: bytes | None


def upright(task: DecodeTask) -> tuple[Any, str]:
    """Read and decode an image to upright RGB; return it with the digest of its content.

    What the operating system and the decoders raise is raised as it is.
    """
    with hold(n_bytes(task.item)):
        image, digest = content(task.item)
        if task.expected is not None and digest != task.expected:
            raise OSError("the file changed while it was being read")
        return decode(image, task.background), digest


def decode_into(rows: memoryview, geometry: Geometry, tasks: Sequence[DecodeTask]) -> list[ImageReadError | None]:
    """Write the pixels of each image's views to its rows of `rows`, n * H * W * 3 bytes; return what could not be read.

    An image is read and decoded once for all of its views.
    """
    size = prod(geometry.shape)

    def decode_one(task: DecodeTask) -> None:
        for row, view in zip(task.rows, geometry.views(*upright(task), task.views), strict=True):
            rows[row * size : (row + 1) * size] = geometry.row(view)

    return [attempt(decode_one, task) for task in tasks]


def digests(tasks: Sequence[DecodeTask]) -> list[ContentDigest | ImageReadError]:
    """Digest the content of each image; in the place of one that cannot be read stands the error."""
    return [attempt(_digest, task) for task in tasks]


def _digest(task: DecodeTask) -> ContentDigest:
    with hold(n_bytes(task.item)):
        image, key = content(task.item)
        return ContentDigest(key, sample(image) if isinstance(image, bytes) else getattr(image, "blocks", None))


def attempt(work: Callable[[DecodeTask], T], task: DecodeTask) -> T | ImageReadError:
    """Do the work; where it raises an error, return one that names the image."""
    try:
        return work(task)
    except Exception as error:  # decoders raise a dozen types
        return failure(task, error)


def failure(task: DecodeTask, error: Exception) -> ImageReadError:
    """Make the error that names the image."""
    failed = read_error(task.position, task.item, error)
    failed.__cause__ = error
    return failed
