"""Images to choose from, read in parts: their vectors, as the probe sees them, and what a classifier makes of them."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn import config_context, get_config
from torch import Tensor

from frofa.blocks import FeatureBlocks
from frofa.compute.arrays import as_features
from frofa.compute.devices import one_thread_each
from frofa.compute.memory import row_chunks
from frofa.estimators.core.blocks import PLAIN, mean_of_tokens
from frofa.estimators.solvers.shrinkage.spaces import side_by_side
from frofa.estimators.tokens.lazy import LazyFeatures
from frofa.ragged import RaggedTokens

Array = npt.NDArray[Any]
Rows = slice | npt.NDArray[np.intp]
READ_ELEMENTS = 2**21
"""Features that are read at once: 8 MiB in float32, of which a head makes some copies in float64."""


class Pool:
    """Samples (n, ...) of any kind that heads take, of which rows are read when they are used.

    Parameters
    ----------
    X : array-like of shape (n, C) or (n, N, C), RaggedTokens, lazy features or FeatureBlocks
    device : torch.device
        Where vectors are.

    Raises
    ------
    ValueError
        If there is no sample; and, when they are read, if features are not finite.
    """

    def __init__(self, X: Any, device: torch.device):
        self.X, self.device = _indexable(as_features(X)), device
        if len(self.X.shape) not in (2, 3) or not all(self.X.shape):
            raise ValueError(
                f"expected features (n, C) or tokens (n, N, C) of one sample or more. Got shape {self.X.shape}."
            )
        blocks = self.X if isinstance(self.X, FeatureBlocks) else FeatureBlocks({PLAIN: [_plain(self.X)]})
        self._blocks = blocks.select(blocks.vectors or None)
        # Elements of a row in all blocks and views.
        views = [view for name in self._blocks.names for view in self._blocks.views(name)]
        self._row_size = sum(prod(view.shape[1:]) for view in views)

    def __len__(self) -> int:
        return len(self._blocks)

    @property
    def widths(self) -> dict[str, int]:
        """Channels of each block, or of a token of it."""
        return {name: int(self._blocks.views(name)[0].shape[-1]) for name in self._blocks.names}

    def rows(self, rows: Rows) -> Any:
        """Choose rows, of the kind that was given; lazy ones are not read."""
        return self.X.iloc[rows] if hasattr(self.X, "iloc") else self.X[rows]

    def parts(self) -> Iterator[slice]:
        """Cut the rows into parts that are read at once."""
        return row_chunks(len(self), READ_ELEMENTS, self._row_size)

    def each(self, function: Callable[[Any], Array]) -> Array:
        """Give what a function makes of all rows, (n, ...), part by part, in several threads."""
        parts, settings = list(self.parts()), get_config()

        def work(part: slice) -> Array:
            with config_context(**settings):  # each thread has its own
                return function(self.rows(part))

        with one_thread_each(len(parts)) as n_workers, ThreadPoolExecutor(n_workers) as threads:
            return np.concatenate(list(threads.map(work, parts)))

    def plain(self, rows: Rows) -> npt.NDArray[np.float64]:
        """Read rows as features (m, C), as they are: blocks side by side, averaged over views and tokens."""
        chosen = self._blocks[rows]
        views = [[mean_of_tokens(view) for view in chosen.views(name)] for name in chosen.names]
        return np.concatenate([np.mean([np.asarray(v, np.float64) for v in each], axis=0) for each in views], axis=1)

    def vectors(self, rows: Rows) -> Tensor:
        """Read rows as vectors (m, D) of length one, in float32: equal parts of each block, averaged over views."""
        chosen = np.arange(len(self))[rows]
        parts = row_chunks(len(chosen), READ_ELEMENTS, self._row_size)
        return torch.cat([self._vectors(chosen[part]) for part in parts])

    def _vectors(self, rows: npt.NDArray[np.intp]) -> Tensor:
        blocks = self.blocks(rows)
        shares = torch.full((1, len(blocks)), 1 / len(blocks), device=self.device)
        return side_by_side(blocks, shares)[0]

    def blocks(self, rows: npt.NDArray[np.intp], names: Sequence[str] | None = None) -> list[list[Tensor]]:
        """Read rows of blocks, all or those of some names, to the device: for each its views (1, m, C), in float32."""
        # Of rows that follow one another, arrays and files give views.
        run = bool((np.diff(rows) == 1).all())
        chosen = self._blocks[slice(int(rows[0]), int(rows[-1]) + 1) if run else rows]
        return [[self._tensor(view, rows) for view in chosen.views(name)] for name in names or chosen.names]

    def _tensor(self, view: Any, rows: npt.NDArray[np.intp]) -> Tensor:
        """Read a view (m, C), or the means of tokens (m, N, C), to the device: (1, m, C) in float32."""
        array = np.asarray(mean_of_tokens(view))
        # Half precision crosses to the device as it is.
        array = np.require(array, array.dtype if array.dtype in (np.float16, np.float32) else np.float32, "W")
        features = torch.as_tensor(array, device=self.device).float()
        known = torch.isfinite(features).all(1)
        if not known.all():
            position = int(rows[int(known.int().argmin())])
            raise ValueError(f"expected finite features. Got NaN or infinity at position {position}.")
        return features[None]


def _indexable(X: Any) -> Any:
    """Leave what is indexed by rows as it is, and make an array of everything else."""
    kept = isinstance(X, (FeatureBlocks, RaggedTokens, LazyFeatures)) or hasattr(X, "iloc")
    return X if kept else np.asarray(X)


def _plain(X: Any) -> Any:
    return np.asarray(X) if hasattr(X, "iloc") else X
