"""Pictures of a folder's images by their index, small and large, encoded when they are asked for."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from frofa.annotation.server.folder import FolderImage
from frofa.web.thumbnails import thumbnail

SIZES = (64, 96, 128, 160, 192, 256, 384, 512)
"""Sizes of thumbnails in pixels of the longer side; others are rounded up to one of them."""
LARGE = 1600
"""Most pixels of the longer side of an image that is looked at alone."""
KIND = "image/webp"
CACHE_BYTES = 64 * 1024 * 1024
"""Bytes of encoded thumbnails that are kept: some 10,000 of 256 pixels."""
AT_ONCE = 4
"""Pictures that are made at the same time: more of them make each other wait."""


class Pictures:
    """Encoded pictures of images that are known by index alone.

    Parameters
    ----------
    root : Path
        Directory without links in its path.
    names : sequence of str
        Paths of the images below it; an index is a position in these.
    cache_bytes : int
        Bytes of thumbnails that are kept, those last asked for.
    """

    def __init__(self, root: Path, names: Sequence[str], cache_bytes: int = CACHE_BYTES):
        self._root, self._names = str(root), names
        self._cache = Cache(cache_bytes)
        self._turn = threading.BoundedSemaphore(AT_ONCE)

    def __len__(self) -> int:
        return len(self._names)

    def thumbnail(self, index: int, size: int) -> bytes:
        """Encode an image small, or take it from the cache; IndexError if there is none, ImageReadError if it is none.

        Size is that of the longer side in pixels, at most.
        """
        size = next((one for one in SIZES if one >= size), SIZES[-1])
        found = self._cache.get((index, size))
        if found is None:
            found = self._encode(index, size, quality=75)
            self._cache.put((index, size), found)
        return found

    def large(self, index: int) -> bytes:
        """Encode an image for the screen; errors as of `thumbnail`."""
        return self._encode(index, LARGE, quality=85)

    def _encode(self, index: int, size: int, quality: int) -> bytes:
        if not 0 <= index < len(self._names):
            raise IndexError(f"expected an index from 0 to {len(self._names) - 1}. Got {index}.")
        with self._turn:
            return thumbnail(FolderImage(self._root, self._names[index]), size, quality, position=index)


class Cache:
    """Bytes by key, up to a number of them all; those that were not asked for longest go first."""

    def __init__(self, most: int):
        self._most, self._used = most, 0
        self._found: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[int, int]) -> bytes | None:
        """Find what was put under a key."""
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
            return self._found.get(key)

    def put(self, key: tuple[int, int], data: bytes) -> None:
        """Keep bytes under a key, in the place of others."""
        with self._lock:
            self._used += len(data) - len(self._found.pop(key, b""))
            self._found[key] = data
            while self._used > self._most:
                self._used -= len(self._found.popitem(last=False)[1])
