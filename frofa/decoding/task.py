"""Decoding, as threads and processes do it: an image becomes a row of pixels. No torch, no NumPy: see `_worker`."""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

from frofa.decoding.geometry import Geometry
from frofa.exceptions import ImageReadError
from frofa.images.items import ImageItem
from frofa.images.pixels.budget import hold
from frofa.images.pixels.colour import SILVER, Colour
from frofa.images.reading import content, decode, n_bytes, read_error
from frofa.utils.blocks import sample


class Task(NamedTuple):
    """One image to decode.

    Attributes
    ----------
    position : int
        In the input.
    item : path, PIL image, array, ...
    expected : str or None
        The digest that its content had when it was looked up in a store.
    row : int
        Where the pixels go.
    background : (int, int, int)
        What shows where the image is transparent.
    """

    position: int
    item: ImageItem
    expected: str | None
    row: int = -1
    background: Colour = SILVER


def upright(task: Task) -> Any:
    """Read and decode an image to upright RGB.

    Raises
    ------
    Exception
        Whatever the operating system and the decoders raise.
    """
    with hold(n_bytes(task.item)):
        image, digest = content(task.item)
        if task.expected is not None and digest != task.expected:
            raise OSError("the file changed while it was being read")
        return decode(image, task.background)


def decode_into(rows: memoryview, geometry: Geometry, tasks: Sequence[Task]) -> list[ImageReadError | None]:
    """Write the pixels of each image to its row of `rows`, n * H * W * 3 bytes; return what could not be read."""
    failures: list[ImageReadError | None] = []
    size = prod(geometry.shape)
    for task in tasks:
        try:
            rows[task.row * size : (task.row + 1) * size] = geometry(upright(task)).tobytes()
            failures.append(None)
        except Exception as error:  # decoders raise a dozen types
            failures.append(failure(task, error))
    return failures


class Digest(NamedTuple):
    """What identifies the content of an image.

    Attributes
    ----------
    key : str
        As of `frofa.images.reading.content`.
    sample : bytes or None
        Of the bytes of a file, see `frofa.utils.blocks`.
    """

    key: str
    sample: bytes | None


def digests(tasks: Sequence[Task]) -> list[Digest | ImageReadError]:
    """The digest of each image's content, or why it could not be read."""
    found: list[Digest | ImageReadError] = []
    for task in tasks:
        try:
            with hold(n_bytes(task.item)):
                image, key = content(task.item)
                found.append(Digest(key, sample(image) if isinstance(image, bytes) else getattr(image, "blocks", None)))
        except Exception as error:
            found.append(failure(task, error))
    return found


def failure(task: Task, error: Exception) -> ImageReadError:
    """The error that names the image."""
    failed = read_error(task.position, task.item, error)
    failed.__cause__ = error
    return failed
