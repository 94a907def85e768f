"""Bounds on memory: of one file that is read, and of all that are in memory at once."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from PIL import Image

BYTES_A_PIXEL = 8
"""Four channels of 16 bits: what a pixel of the largest file takes."""
PIXELS = 89_478_485
"""Pillow's own limit, which counts here even where the user has changed it."""


def largest_file() -> int:
    """Give the most bytes of a file, or member of an archive, that is read as an image.

    They are 8 for each of ``PIL.Image.MAX_IMAGE_PIXELS``, by default 716 MB: an image of as many pixels as Pillow
    takes, not compressed, with four channels of 16 bits. Without that limit, all are read.
    """
    return sys.maxsize if Image.MAX_IMAGE_PIXELS is None else BYTES_A_PIXEL * Image.MAX_IMAGE_PIXELS


def refuse_large(n_bytes: int) -> None:
    """Raise an OSError for a file of more than `largest_file` bytes.

    Examples
    --------
    >>> refuse_large(10**10)
    Traceback (most recent call last):
    OSError: it has 10000000000 bytes; more than 715827880 are not read (8 for each of PIL.Image.MAX_IMAGE_PIXELS)
    """
    limit = largest_file()
    if n_bytes > limit:
        raise OSError(
            f"it has {n_bytes} bytes; more than {limit} are not read ({BYTES_A_PIXEL} for each of "
            "PIL.Image.MAX_IMAGE_PIXELS)"
        )


class Budget:
    """Bytes that the threads of this process hold together at most; a thread that asks for more waits.

    A file that is larger than the total is held alone.
    """

    def __init__(self, total: int):
        self.total = total
        self._free = total
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, n_bytes: int) -> Iterator[None]:
        """Wait until so many bytes are free, and hold them."""
        # A file that is larger than the total waits for all of it.
        share = min(n_bytes, self.total)
        with self._changed:
            self._changed.wait_for(lambda: share <= self._free)
            self._free -= share
        try:
            yield
        finally:
            with self._changed:
                self._free += share
                self._changed.notify_all()


_budget = Budget(BYTES_A_PIXEL * PIXELS)


def hold(n_bytes: int) -> AbstractContextManager[None]:
    """Wait until a file of so many bytes may be in memory beside those of other threads, and count it meanwhile."""
    return _budget.hold(n_bytes)


def _renew() -> None:
    """Start anew in a forked process, which has none of the threads that held bytes."""
    global _budget
    _budget = Budget(_budget.total)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
