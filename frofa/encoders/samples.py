"""The input of a custom encoder: arrays, and files that it loads itself."""

import os
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from frofa.images.image_set import ImageSet
from frofa.images.items import Sample
from frofa.images.reading import read_file
from frofa.utils.blocks import sample

FORMS = "an array (n, ...), a list of arrays"


class ArraySample(Sample):
    """An array of numbers or Booleans in memory."""

    __slots__ = ("array",)

    def __init__(self, array: npt.NDArray[Any]):
        self.array = array

    def describe(self) -> str:
        """Name dtype and shape."""
        return f"array, {self.array.dtype}, shape {self.array.shape}"

    def content(self) -> tuple["ArraySample", str]:
        """Return the sample itself, and the digest of dtype, shape and bytes."""
        digest = blake2b(f"{self.array.dtype.str}:{self.array.shape};".encode(), digest_size=20, person=b"frofa-array")
        digest.update(np.ascontiguousarray(self.array).reshape(-1).view(np.uint8).data)
        return self, digest.hexdigest()

    def read(self) -> Any:
        """Return the array."""
        return self.array


class FileSample(Sample, os.PathLike[str]):
    """A file that an encoder loads by itself: `load` turns its path into what the encoder preprocesses.

    Once its digest was taken, `blocks` is a sample of its bytes, see `frofa.utils.blocks`.
    """

    __slots__ = ("_load", "_path", "_state", "blocks")

    def __init__(
        self,
        path: str,
        load: Callable[[str], Any],
        state: tuple[int, ...] | None = None,
        blocks: bytes | None = None,
    ):
        self._path, self._load = path, load
        self._state, self.blocks = state, blocks

    def __fspath__(self) -> str:
        return self._path

    def describe(self) -> str:
        """Name the path."""
        return self._path

    def content(self) -> tuple["FileSample", str]:
        """Return the file, to be read while it is as it is now, and the digest of its bytes."""
        # Taken before the bytes are read: a change in between is found when the encoder loads the file.
        state = _state(self._path)
        data = read_file(Path(self._path))
        digest = blake2b(data, digest_size=20, person=b"frofa-file").hexdigest()
        return FileSample(self._path, self._load, state, sample(data)), digest

    def read(self) -> Any:
        """Load the file by the encoder's `load`; an OSError if it changed since its digest was taken."""
        found = self._load(self._path)
        if self._state is not None and _state(self._path) != self._state:
            raise OSError("the file changed while it was being read")
        return found


def _state(path: str) -> tuple[int, ...]:
    """Time, size and inode of a file, which change when it is written."""
    try:
        status = os.stat(path)  # noqa: PTH116 (of a path of any kind)
    except FileNotFoundError:
        read_file(Path(path))  # says more of links
        raise
    return status.st_mtime_ns, status.st_size, status.st_ino


def as_samples(X: Any, load: Callable[[str], Any] | None) -> Sequence[Sample]:
    """Check the input of a custom encoder: an array (n, ...), a list of arrays, a column or a table.

    Paths need the encoder's own `load`. Other forms are a TypeError or ValueError.
    """
    expected = FORMS if load is None else f"{FORMS} or a list of paths"
    if isinstance(X, ImageSet):
        X = X.items
    if isinstance(X, (str, bytes, os.PathLike)):
        raise TypeError(f"expected several items: {expected}. Got {X!r}: pass a list.")
    # Columns and tables of pandas, then anything that NumPy takes; a column of paths or objects becomes a list.
    if hasattr(X, "iloc"):
        X = X.to_numpy()
    elif is_array(X):
        X = np.asarray(X)
    if isinstance(X, np.ndarray) and X.dtype.kind in "OUT":
        X = (X[:, 0] if X.ndim == 2 and X.shape[1] == 1 else X).tolist()
    if isinstance(X, np.ndarray) and X.ndim < 2:
        raise ValueError(f"expected {expected}. Got one array of shape {X.shape}: an item has at least one dimension.")
    try:
        items = list(X)
    except TypeError:
        raise TypeError(f"expected {expected}. Got {type(X).__name__}.") from None
    return [_sample(position, item, load) for position, item in enumerate(items)]


def is_array(value: object) -> bool:
    """Whether NumPy takes a value as an array: one of its own, a tensor, a PIL image."""
    return hasattr(value, "__array__") or hasattr(value, "__array_interface__")


def _sample(position: int, item: Any, load: Callable[[str], Any] | None) -> Sample:
    if isinstance(item, (str, os.PathLike)):
        if load is None:
            raise TypeError(
                f"expected arrays: this encoder has no 'load' for paths. Got {os.fspath(item)!r}, position {position}."
            )
        return FileSample(os.fspath(item), load)
    if not is_array(item) and not isinstance(item, (list, tuple)):
        also = "" if load is None else " or a path"
        raise TypeError(f"expected an array{also}. Got {type(item).__name__} ({item!r:.80}) at position {position}.")
    array = np.asarray(item)
    if array.dtype.kind not in "biufc" or array.ndim == 0:
        raise ValueError(
            f"expected arrays of numbers with at least one dimension. Got {array.dtype}, shape {array.shape}, at "
            f"position {position}."
        )
    return ArraySample(array)
