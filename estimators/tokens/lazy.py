"""Features that are read when they are used, such as those of a store, as heads take them.

Heads know nothing of stores. An object is taken for such features if it has what `LazyFeatures` has.
"""

from collections.abc import Iterator
from math import prod
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from sklearn.utils import assert_all_finite, check_array
from torch import Tensor

from frofa.compute.arrays import check_magnitude
from frofa.compute.devices import as_tensor
from frofa.compute.memory import row_chunks
from frofa.estimators.tokens.padding import CHUNK_ELEMENTS, PaddedTokens, mean_over_images
from frofa.ragged import RaggedTokens

Array = npt.NDArray[Any]
SMALL = 2**24
"""Elements up to which lazy tokens are read into a CPU's memory as a whole: 64 MiB in float32."""


@runtime_checkable
class LazyFeatures(Protocol):
    """Features (n, ...) that are not in memory, or not on the device, until they are asked for.

    `dtype` is that of ``np.asarray(features)``.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> Any:
        """Choose rows, by a slice or an array of positions, as features of the same kind."""

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        """Read all rows."""

    def tensor(self) -> Tensor:
        """Read all rows into a tensor on the CPU, of the dtype that they are stored in."""

    def to_device(self, device: torch.device) -> Tensor:
        """Move all rows to a device, in any floating point dtype, for all who ask; MemoryError if they do not fit."""


def blocks(features: LazyFeatures) -> Iterator[Array]:
    """Read all rows, some at a time, in float32; float64 stays what it is."""
    dtype = np.float64 if features.dtype == np.float64 else np.float32
    for rows in row_chunks(len(features), CHUNK_ELEMENTS, prod(features.shape[1:])):
        yield np.asarray(features[rows], dtype)


def check_finite(features: LazyFeatures, estimator: Any, dtype: npt.DTypeLike) -> None:
    """Check lazy features block by block, as arrays are: there are samples, and values are finite and not too large."""
    # That there is a sample, and its kind, shows in the first; values are checked block by block.
    check_array(np.asarray(features[:1]), allow_nd=True, estimator=estimator, input_name="X")
    for block in blocks(features):
        assert_all_finite(block, estimator_name=type(estimator).__name__, input_name="X")
        check_magnitude(block, dtype, type(estimator).__name__)


def mean_over_tokens(features: LazyFeatures) -> Array:
    """Average tokens (n, N, C) over the tokens, in float64."""
    return np.concatenate([block.mean(1, dtype=np.float64) for block in blocks(features)])


def average_tokens(features: Array | LazyFeatures | RaggedTokens) -> Array:
    """Average tokens (n, N, C) of any kind over the tokens, in float64."""
    if isinstance(features, RaggedTokens):
        return mean_over_images(features)
    if isinstance(features, LazyFeatures):
        return mean_over_tokens(features)
    average: Array = features.mean(1, dtype=np.float64)
    return average


class LazyTokens:
    """Lazy tokens (n, N, C) as training takes a tensor: rows that are asked for are read, in float32, to a device."""

    def __init__(self, features: LazyFeatures, device: torch.device):
        self.features, self.device, self.shape = features, device, features.shape

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: Tensor | slice | int) -> Tensor:
        chosen = rows.cpu().numpy() if isinstance(rows, Tensor) else rows
        return as_tensor(np.asarray(self.features[chosen], np.float32), self.device)


Tokens = Tensor | LazyTokens | PaddedTokens


def tokens_on(features: Array | LazyFeatures | RaggedTokens, device: torch.device) -> Tokens:
    """Make tokens ready for training on a device.

    Arrays are moved to the device in float32. Lazy tokens go to a GPU as they are stored, where they stay for the next
    head, if they fit; otherwise, and on a CPU if they are not small, they are read batch by batch.
    """
    if isinstance(features, RaggedTokens):
        return PaddedTokens(features, device)
    if not isinstance(features, LazyFeatures):
        return as_tensor(features, device)
    if device.type != "cpu":
        try:
            return features.to_device(device)
        except MemoryError:
            return LazyTokens(features, device)
    return as_tensor(np.asarray(features), device) if prod(features.shape) <= SMALL else LazyTokens(features, device)


def batch_on(features: Array | LazyFeatures, device: torch.device) -> Tensor:
    """Move a few rows to a device, in float32; lazy tokens that are there already are not read again."""
    if isinstance(features, LazyFeatures) and device.type != "cpu":
        return features.to_device(device).float()
    return as_tensor(np.asarray(features), device)
