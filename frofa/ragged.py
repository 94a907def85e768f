"""Tokens of images of different sizes, without padding."""

from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
FLOATS = (np.float16, np.float32, np.float64)
SHOWN = 3
"""Number of images whose grids the repr shows."""


class RaggedTokens:
    """Tokens of images whose grids differ: what a NaViT extracts at native resolution and aspect ratio.

    It is indexed by images, as scikit-learn's splitters and searches do: a slice, positions or a mask give RaggedTokens
    of these images, an integer gives the tokens of one, shape (h, w, C). The heads of `frofa.estimators` train on it
    and predict it as they do an array (n, N, C): the probes average each image's own tokens, `MAPClassifier` attends to
    them, and augmentations respect each image's grid.

    Parameters
    ----------
    values : ndarray of shape (T, C)
        Tokens of one image after another, each row by row of its grid; float16, float32 or float64. A memory map will
        do: values are not copied, and not to be changed. Class and register tokens are left out.
    grids : ndarray of int, shape (n, 2)
        Height and width of each image in tokens.

    Attributes
    ----------
    values : ndarray of shape (T, C)
    grids : ndarray of int64, shape (n, 2)
    offsets : ndarray of int64, shape (n + 1,)
        The tokens of image i are ``values[offsets[i]:offsets[i + 1]]``.
    sizes : ndarray of int64, shape (n,)
        Number of tokens of each image.
    shape : (int, int, int)
        Shape of ``padded()``: images, tokens of the largest, channels.
    ndim : int
        3, as of an array of tokens.
    dtype : dtype
    nbytes : int
        Bytes of the values.

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, or the number of tokens is not that of the grids.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa.estimators import RaggedTokens
    >>> tokens = RaggedTokens(np.arange(20, dtype=np.float32).reshape(10, 2), np.array([[2, 3], [1, 4]]))
    >>> tokens
    RaggedTokens(2 images, 10 tokens of 2 channels, float32, grids 2x3, 1x4)
    >>> tokens[1].shape, tokens[[1, 0]].grids.tolist()
    ((1, 4, 2), [[1, 4], [2, 3]])
    >>> padded, grids = tokens.padded()
    >>> padded.shape
    (2, 6, 2)
    """

    ndim = 3

    def __init__(self, values: Array, grids: npt.ArrayLike):
        self.values, self.grids = _check_values(values), _check_grids(grids)
        self.sizes: npt.NDArray[np.int64] = self.grids.prod(1)
        self.offsets: npt.NDArray[np.int64] = np.concatenate([[0], np.cumsum(self.sizes)])
        if self.offsets[-1] != len(self.values):
            raise ValueError(
                f"values must hold a row for each token: {self.offsets[-1]} of these {len(self.grids)} grids. Got "
                f"{len(self.values)} rows."
            )

    shape = property(lambda self: (len(self), int(self.sizes.max(initial=0)), self.values.shape[1]))
    dtype = property(lambda self: self.values.dtype)
    nbytes = property(lambda self: self.values.nbytes)

    def __len__(self) -> int:
        return len(self.grids)

    def __repr__(self) -> str:
        shown = ", ".join(f"{height}x{width}" for height, width in self.grids[:SHOWN])
        grids = f", grids {shown}{', ...' if len(self) > SHOWN else ''}" if len(self) else ""
        total, channels = self.values.shape
        return f"RaggedTokens({len(self)} images, {total} tokens of {channels} channels, {self.dtype}{grids})"

    def __iter__(self) -> Iterator[Array]:
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        raise TypeError(
            "RaggedTokens are no array, as images have different numbers of tokens: take .padded(), or .values."
        )

    def __getitem__(self, item: Any) -> Any:
        rows = _chosen_images(item)
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:  # a view
                stop = max(start, stop)
                return RaggedTokens(self.values[self.offsets[start] : self.offsets[stop]], self.grids[start:stop])
            rows = np.arange(start, stop, step)
        elif isinstance(rows, Integral):
            i = range(len(self))[int(rows)]  # raises what a sequence raises
            return self.values[self.offsets[i] : self.offsets[i + 1]].reshape(*self.grids[i], -1)
        rows = image_positions(rows, len(self))
        return RaggedTokens(self.values[_spans(self.offsets[rows], self.sizes[rows])], self.grids[rows])

    def padded(self, length: int | None = None) -> tuple[Array, npt.NDArray[np.int64]]:
        """Tokens as one array, each image's followed by zeros.

        Parameters
        ----------
        length : int, default=None
            Tokens of each image with its zeros; None takes the number of the largest.

        Returns
        -------
        tokens : ndarray of shape (n, length, C)
        grids : ndarray of int64, shape (n, 2)
            Height and width of each image, which `frofa.augmentations.TokenBatch` takes as a tensor.
        """
        longest = self.shape[1]
        length = longest if length is None else length
        if length < longest:
            raise ValueError(f"length must be {longest} or more, the tokens of the largest image. Got {length}.")
        tokens = np.zeros((len(self), length, self.values.shape[1]), self.dtype)
        # The mask (n, length) is true in row-major order where the tokens come, which is the order of the values.
        tokens[np.arange(length) < self.sizes[:, None]] = self.values
        return tokens, self.grids

    def equals(self, other: object) -> bool:
        """Tell whether other is RaggedTokens of the same grids, dtype and values."""
        return (
            isinstance(other, RaggedTokens)
            and self.dtype == other.dtype
            and np.array_equal(self.grids, other.grids)
            and np.array_equal(self.values, other.values)
        )

    @staticmethod
    def concatenate(parts: "Sequence[RaggedTokens]") -> "RaggedTokens":
        """Put the images of several one after another; all have the same number of channels."""
        if not parts:
            raise ValueError("expected at least one RaggedTokens to concatenate. Got none.")
        channels = sorted({part.values.shape[1] for part in parts})
        if len(channels) > 1:
            raise ValueError(f"expected tokens of one number of channels. Got {channels}.")
        values = np.concatenate([part.values for part in parts])
        return RaggedTokens(values, np.concatenate([part.grids for part in parts]))


def _check_values(values: Any) -> Array:
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype not in FLOATS:
        got = f"{values.dtype}, shape {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
        raise ValueError(
            f"values must be an array of float16, float32 or float64 of shape (tokens, channels). Got {got}."
        )
    if not values.shape[1]:
        raise ValueError(f"values must have one channel or more. Got shape {values.shape}.")
    return values


def _check_grids(grids: npt.ArrayLike) -> npt.NDArray[np.int64]:
    sizes = np.asarray(grids)
    if sizes.ndim != 2 or sizes.shape[1] != 2 or sizes.dtype.kind not in "iu":
        raise ValueError(
            f"grids must be whole numbers of shape (images, 2), height and width. Got {sizes.dtype}, shape "
            f"{sizes.shape}."
        )
    wrong = np.flatnonzero((sizes < 1).any(1))
    if len(wrong):
        raise ValueError(
            f"grids must have a height and a width of 1 or more. Got {sizes[wrong[0]].tolist()} of image {wrong[0]}."
        )
    return sizes.astype(np.int64, copy=False)


def _chosen_images(item: Any) -> Any:
    """Take the index of images out of a tuple; further axes, which differ from image to image, are taken whole only."""
    if not isinstance(item, tuple):
        return item
    rows, *others = item or (slice(None),)
    if rows is Ellipsis:
        rows = slice(None)
    if any(other is not Ellipsis and not (isinstance(other, slice) and other == slice(None)) for other in others):
        raise IndexError(f"RaggedTokens are indexed by images alone. Got {item!r}.")
    return rows


def image_positions(rows: Any, n: int) -> npt.NDArray[np.intp]:
    """Turn positions, which may count from the end, or a mask of n images into positions from 0 on."""
    chosen = np.asarray(rows)
    if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "biu"):
        raise IndexError(f"images are chosen by a slice, whole numbers or a mask of one axis. Got {rows!r}.")
    if chosen.dtype == bool and len(chosen) != n:
        raise IndexError(f"a mask of these images has {n} values. Got {len(chosen)}.")
    # An empty list becomes an array of floats, which are no positions.
    positions: npt.NDArray[np.intp] = np.arange(n)[chosen if chosen.size else chosen.astype(np.intp)]
    return positions


def _spans(starts: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """List the rows of `values` that hold the tokens of these images, one image after another."""
    before = np.cumsum(sizes) - sizes
    # A token's row is its place in the result, moved by how far its image lies from there.
    return np.repeat(starts - before, sizes) + np.arange(sizes.sum())
