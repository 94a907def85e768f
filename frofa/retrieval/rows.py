"""Features that are searched, of any kind, a chunk at a time: nothing is copied that can be read where it lies."""

import os
from mmap import mmap
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import issparse
from torch import Tensor

from frofa.compute.arrays import check_embedded, largest
from frofa.store import FeatureArray
from frofa.store.directory import StoreDirectory

Array = npt.NDArray[Any]
Positions: TypeAlias = "npt.NDArray[np.int64] | range"
CHUNK = 2**24
"""Values that are read and computed with at once."""
RESIDENT = 0.4
"""Part of the free memory of a GPU that rows may be kept in: a search after the first need not read them again."""
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Rows:
    """Rows (n, D) of an array, a memory map, a tensor or lazy features, and the squares of their lengths.

    A TypeError says that they are no numbers, a ValueError that they have no rows (n, D).
    """

    def __init__(self, features: Any):
        self.features = _as_rows(features)
        self.n, self.width = (int(size) for size in self.features.shape)
        self._resident: Tensor | None = None
        self._squares: npt.NDArray[np.float32] = np.full(self.n, np.nan, np.float32)

    def on(self, device: torch.device) -> Tensor | None:
        """Keep all rows on a GPU, if they need little of what is free there, and give them back; else None."""
        if device.type != "cuda" or isinstance(self.features, Tensor):
            return None
        if self._resident is None or self._resident.device != device:
            n_bytes = self.n * self.read(range(1)).nbytes
            if n_bytes > RESIDENT * torch.cuda.mem_get_info(device)[0]:
                return None
            lazy = isinstance(self.features, FeatureArray)
            self._resident = self.features.to_device(device) if lazy else self.read(range(self.n)).to(device)
        return self._resident

    def release(self) -> None:
        """Forget rows that are kept on a GPU."""
        self._resident = None
        if isinstance(self.features, FeatureArray):
            self.features.release()

    def read(self, at: Positions) -> Tensor:
        """Read rows into a tensor (m, D) of the dtype that they have, on the CPU or where a tensor lies."""
        evenly = isinstance(at, range)
        rows: Any = slice(at.start, at.stop, at.step) if isinstance(at, range) else at
        if isinstance(self.features, Tensor):
            return self.features[rows if evenly else torch.from_numpy(rows).to(self.features.device)]
        part = self.features[rows]
        if isinstance(part, FeatureArray):
            return part.tensor()
        part = np.asarray(part)
        # PyTorch has neither other orders of bytes nor reversed rows, and warns of what is read-only.
        if not part.dtype.isnative or not part.flags.writeable or min(part.strides, default=0) < 0:
            part = np.array(part, part.dtype.newbyteorder("="))
        return torch.from_numpy(part)

    def squares(self, at: Positions, values: Tensor) -> Tensor:
        """Squares of the lengths (m,) of rows that were read, in float32; computed once.

        A ValueError says that a row is not finite, or too large to compute with.
        """
        rows: Any = slice(at.start, at.stop, at.step) if isinstance(at, range) else at
        known = self._squares[rows]
        if np.isnan(known).any():
            known = values.float().square().sum(1).cpu().numpy()
            bound = largest(np.float32) ** 2
            if not (known <= bound).all():  # nor is it where there are NaN
                worst = int(np.flatnonzero(~(known <= bound))[0])
                position = at[worst] if isinstance(at, range) else int(at[worst])
                raise ValueError(
                    f"features must be finite and of lengths below {bound**0.5:.1e}. Got others at row {position}."
                )
            self._squares[rows] = known
        return torch.from_numpy(np.array(known)).to(values.device)

    def take_squares(self, others: "Rows") -> None:
        """Take over what is known of the first rows, which are those of others."""
        self._squares[: others.n] = others._squares

    @property
    def nbytes(self) -> int:
        """Bytes that are kept beside the features."""
        return self._squares.nbytes


def is_in_memory(features: Any) -> bool:
    """Tell arrays, tensors and lists from memory maps, also parts of these, and lazy features: from files."""
    while isinstance(features, np.ndarray):
        features = features.base
    return not isinstance(features, (mmap, FeatureArray, StoreDirectory, str, os.PathLike))


def _as_rows(features: Any) -> Any:
    if isinstance(features, Tensor) and features.layout == torch.strided:
        values: Any = features.detach()
        known = values.dtype in FLOATS
        shape, kind = tuple(values.shape), str(values.dtype)
    else:
        lazy = isinstance(features, FeatureArray)
        values = features if lazy else _as_array(features)
        known, shape, kind = lazy or values.dtype in (np.float16, np.float32, np.float64), values.shape, values.dtype
    if len(shape) != 2:
        advice = ": pool tokens first, or take an output of vectors" if len(shape) == 3 else ""
        raise ValueError(f"expected features of shape (n, D){advice}. Got {shape}.")
    if not shape[0] or not shape[1]:
        raise ValueError(f"expected one row or more, of one feature or more. Got shape {shape}.")
    if not known:
        raise TypeError(f"expected features of float16, float32 or float64. Got {kind}.")
    return values


def _as_array(features: Any) -> Array:
    """Take an array as it is, a memory map too; make one of lists and data frames, whole numbers to float32."""
    if features is None or isinstance(features, (str, bytes, dict, set)):
        raise TypeError(f"expected features of shape (n, D), a store or its path. Got {type(features).__name__}.")
    check_embedded(features, "features")
    if issparse(features) or getattr(features, "layout", torch.strided) != torch.strided:
        raise TypeError(f"expected dense features of shape (n, D). Got a sparse {type(features).__name__}.")
    values = np.asarray(features)
    return values.astype(np.float32) if values.dtype.kind in "iub" else values
