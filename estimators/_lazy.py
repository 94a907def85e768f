"""Features that are read when they are used, such as those of a store: what heads need of them, and how they take them.

Heads know nothing of stores. An object is taken for such features if it has what `LazyFeatures` has.
"""

from collections.abc import Iterator
from math import prod
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from sklearn.utils import assert_all_finite, check_array

Array = npt.NDArray[Any]
BLOCK = 2**22
"""Elements that are read at once: 16 MiB in float32."""


@runtime_checkable
class LazyFeatures(Protocol):
    """Features (n, ...) that are somewhere else.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
        Of ``np.asarray(features)``.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> Any:
        """Those rows, by a slice or an array of positions, as features of the same kind."""

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        """Read all rows."""

    def tensor(self) -> torch.Tensor:
        """Read all rows into a tensor on the CPU, of the dtype that they are stored in."""

    def to_device(self, device: torch.device) -> torch.Tensor:
        """All rows on a device, in any floating point dtype; kept there for the next who asks.

        Raises
        ------
        MemoryError
            If they do not fit.
        """


def blocks(features: LazyFeatures) -> Iterator[Array]:
    """Read all rows, some at a time, in float32; float64 stays what it is."""
    size = max(1, BLOCK // max(1, prod(features.shape[1:])))
    dtype = np.float64 if features.dtype == np.float64 else np.float32
    for start in range(0, len(features), size):
        yield np.asarray(features[start : start + size], dtype)


def check_finite(features: LazyFeatures, estimator: Any) -> None:
    """Check what `sklearn.utils.check_array` checks of an array, block by block.

    Raises
    ------
    ValueError
        If there is no sample, or a value is not finite.
    """
    check_array(np.asarray(features[:1]), allow_nd=True, estimator=estimator, input_name="X")
    for block in blocks(features):
        assert_all_finite(block, estimator_name=type(estimator).__name__, input_name="X")


def mean_over_tokens(features: LazyFeatures) -> Array:
    """Average tokens (n, N, C) over the tokens, in float64."""
    return np.concatenate([block.mean(1, dtype=np.float64) for block in blocks(features)])
