"""Tokens of images of different sizes as heads work on them: padded batches, or images of one grid at a time."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from sklearn.utils import assert_all_finite
from torch import Tensor

from frofa.augmentations import TokenBatch
from frofa.compute.arrays import check_magnitude
from frofa.compute.memory import row_chunks
from frofa.ragged import RaggedTokens

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]
CHUNK_ELEMENTS = 2**22
"""Elements that are read, checked, averaged or augmented at once: 16 MiB in float32."""


class BatchShape(NamedTuple):
    """The shape of batches of some images.

    `length` is the number of tokens of the largest, to which all are padded, if any is smaller: `padded`. `grid` is
    that of all images, if they have the same.
    """

    length: int
    grid: tuple[int, int] | None
    padded: bool


class PaddedTokens:
    """RaggedTokens as training takes a tensor: images that are asked for are padded, in float32, on a device.

    On a GPU, the values are there as they are, without padding, if they fit; else, and on a CPU, each batch is put
    together in memory.
    """

    def __init__(self, features: RaggedTokens, device: torch.device):
        self.features, self.device, self.shape = features, device, features.shape
        self._values: Tensor | None = None
        if device.type != "cpu":
            self._values = _to_device(features.values, device)
        self._starts, self._sizes, self._grids = (
            torch.as_tensor(numbers, device=device)
            for numbers in (features.offsets[:-1], features.sizes, features.grids)
        )

    def __len__(self) -> int:
        return len(self.features)

    def shape_of(self, rows: Indices) -> BatchShape:
        """Tell the shape of batches of these images, whichever of them are in a batch."""
        grids, sizes = self.features.grids[rows], self.features.sizes[rows]
        alike = bool((grids == grids[0]).all())
        length = int(sizes.max())
        return BatchShape(length, (int(grids[0, 0]), int(grids[0, 1])) if alike else None, bool((sizes < length).any()))

    def batch(self, rows: Tensor, shape: BatchShape, buffer: Tensor | None = None) -> TokenBatch:
        """Put images together, padded with zeros that the mask hides; with one grid if all have it, else each image's.

        Rows (m,) are the positions of the images, on the device; `shape` is that of these images, or of more, as
        `shape_of` tells it. The buffer, (m, shape.length, C), is the memory of an earlier batch, to be overwritten.
        """
        # Tokens that are padding, (m, length): those beyond the number that an image has.
        sizes = self._sizes[rows]
        hidden = torch.arange(shape.length, device=self.device) >= sizes[:, None]
        if self._values is None:
            patches = self._from_host(rows, shape.length, buffer)
        else:
            # Places in the values of all images, (m, length); those of padding are some other image's, or the last.
            place = self._starts[rows][:, None] + torch.arange(shape.length, device=self.device)
            patches = self._values[place.clamp_(max=len(self._values) - 1)].float()
            if shape.padded:
                patches.masked_fill_(hidden.unsqueeze(2), 0)
        grid = self._grids[rows] if shape.grid is None else shape.grid
        return TokenBatch(patches, grid, ~hidden if shape.padded else None)

    def all(self) -> TokenBatch:
        """Pad all images, in one batch."""
        rows = torch.arange(len(self), device=self.device)
        return self.batch(rows, self.shape_of(np.arange(len(self))))

    def _from_host(self, rows: Tensor, length: int, buffer: Tensor | None) -> Tensor:
        values, offsets = self.features.values, self.features.offsets
        shape = (len(rows), length, values.shape[1])
        if buffer is None or buffer.shape != shape or buffer.device.type != "cpu":
            buffer = torch.empty(shape)
        # Image by image, which converts to float32 on the way, without a copy in between.
        target = buffer.numpy()
        for i, row in enumerate(rows.tolist()):
            start, stop = offsets[row], offsets[row + 1]
            target[i, : stop - start] = values[start:stop]
            target[i, stop - start :] = 0
        return buffer.to(self.device)


def by_grid(features: RaggedTokens, rows: Indices) -> Iterator[tuple[Indices, Array, tuple[int, int]]]:
    """Yield images of the same grid together: their positions (m,), tokens (m, N, C) and the grid.

    Positions are out of `rows`, in order. A chunk has `CHUNK_ELEMENTS` elements at most, but one image at least.
    """
    # Grids (n_grids, 2), and for each of the rows which of them it has.
    grids, which = np.unique(features.grids[rows], axis=0, return_inverse=True)
    for i, (height, width) in enumerate(grids.tolist()):
        alike = rows[which.ravel() == i]
        for part in row_chunks(len(alike), CHUNK_ELEMENTS, height * width * features.shape[2]):
            chosen = alike[part]
            yield chosen, features[chosen].values.reshape(len(chosen), height * width, -1), (height, width)


def mean_over_images(features: RaggedTokens) -> Array:
    """Average each image's tokens, in float64; shape (n, C)."""
    means: Array = np.empty((len(features), features.shape[2]))
    for rows, tokens, _ in by_grid(features, np.arange(len(features))):
        means[rows] = tokens.mean(1, dtype=np.float64)
    return means


def check_ragged(features: RaggedTokens, estimator: Any, dtype: npt.DTypeLike) -> None:
    """Check ragged tokens block by block, as arrays are: there are images, and values are finite and not too large."""
    name = type(estimator).__name__
    if not len(features):
        raise ValueError(f"Found RaggedTokens with 0 sample(s) while a minimum of 1 is required by {name}.")
    for rows in row_chunks(len(features.values), CHUNK_ELEMENTS, features.shape[2]):
        block = features.values[rows]
        assert_all_finite(block, estimator_name=name, input_name="X")
        check_magnitude(block, dtype, name)


def refuse_prefix(n_prefix: int, grid: Any) -> None:
    """Raise a ValueError if the parameters of a head contradict what RaggedTokens say themselves."""
    if n_prefix:
        raise ValueError(f"RaggedTokens have no class or register tokens: n_prefix must be 0. Got {n_prefix}.")
    if grid is not None:
        raise ValueError(f"RaggedTokens have a grid for each image: grid must be None. Got {grid!r}.")


def _to_device(values: Array, device: torch.device) -> Tensor | None:
    """Move values to a device in float16 or float32; None if they do not fit there."""
    dtype = np.float16 if values.dtype == np.float16 else np.float32
    try:
        return torch.as_tensor(np.require(values, dtype, "W"), device=device)
    except torch.OutOfMemoryError:
        return None
