"""Where the tokens of a training step come from: an array, or images of different sizes."""

import numpy as np
import numpy.typing as npt
from torch import Tensor

from frofa.augmentations import TokenBatch
from frofa.estimators.tokens.lazy import LazyTokens, take
from frofa.estimators.tokens.padding import BatchShape, PaddedTokens


class DenseBatches:
    """Batches of tokens (n, P + N, C).

    Parameters
    ----------
    tokens : Tensor or LazyTokens
    n_prefix : int
    grid : (int, int) or None
        As in `TokenBatch.from_tokens`, which checks them.
    """

    def __init__(self, tokens: Tensor | LazyTokens, n_prefix: int, grid: tuple[int, int] | None):
        few = TokenBatch.from_tokens(tokens[:1], n_prefix=n_prefix, grid=grid)
        self.tokens, self.n_prefix = tokens, n_prefix
        self.grid = None if few.patches.shape[1] == 1 else few.grid  # what needs a grid is to say so, not to do nothing
        self.buffer: Tensor | None = None

    def take(self, rows: Tensor, targets: Tensor) -> TokenBatch:
        """Gather rows; the memory of the batch before may be overwritten."""
        tokens, self.buffer = take(self.tokens, rows, self.buffer)
        prefix = tokens[:, : self.n_prefix] if self.n_prefix else None
        return TokenBatch(tokens[:, self.n_prefix :], self.grid, targets=targets, prefix=prefix)


class PaddedBatches:
    """Batches of images of different sizes, all padded to the largest of those that are trained on.

    Parameters
    ----------
    tokens : PaddedTokens
    rows : ndarray of int
        The images that are trained on.
    """

    def __init__(self, tokens: PaddedTokens, rows: npt.NDArray[np.intp]):
        self.tokens, self.shape = tokens, tokens.shape_of(rows)
        self.buffer: Tensor | None = None

    def take(self, rows: Tensor, targets: Tensor) -> TokenBatch:
        """Gather and pad images, as `DenseBatches.take` does."""
        batch = self.tokens.batch(rows, self.shape, self.buffer)
        self.buffer = batch.patches
        grid = None if self.shape.length == 1 else batch.grid  # as of other tokens
        return batch.replace(grid=grid, targets=targets)


def shape_of(tokens: Tensor | LazyTokens | PaddedTokens, rows: npt.NDArray[np.intp]) -> BatchShape | None:
    """What heads that are trained together have in common, besides their parameters; None of tokens of one size."""
    return tokens.shape_of(rows) if isinstance(tokens, PaddedTokens) else None
