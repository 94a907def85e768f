"""Batches of a training step, gathered from an array or from images of different sizes."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from frofa.augmentations import TokenBatch
from frofa.estimators.tokens.lazy import LazyTokens, batch_on
from frofa.estimators.tokens.padding import PaddedTokens
from frofa.ragged import RaggedTokens


def seen_on(features: Any, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Move a few images to a device, in float32; return tokens (m, N, C) and their mask, if they differ in size."""
    if not isinstance(features, RaggedTokens):
        return batch_on(features, device), None
    batch = PaddedTokens(features, device).all()
    return batch.patches, batch.mask


class DenseBatches:
    """Batches of tokens (n, P + N, C), with prefix and grid as in `TokenBatch.from_tokens`, which checks them."""

    def __init__(self, tokens: Tensor | LazyTokens, n_prefix: int, grid: tuple[int, int] | None):
        few = TokenBatch.from_tokens(tokens[:1], n_prefix=n_prefix, grid=grid)
        self.tokens, self.n_prefix = tokens, n_prefix
        # A single token has no grid: augmentations that need one are to say so, not to do nothing.
        self.grid = None if few.patches.shape[1] == 1 else few.grid
        self.buffer: Tensor | None = None

    def take(self, rows: Tensor, targets: Tensor) -> TokenBatch:
        """Gather rows; the memory of the batch before may be overwritten."""
        if isinstance(self.tokens, LazyTokens):
            tokens = self.tokens[rows]
        else:  # to the same memory each time: new memory costs a CPU more than filling it
            if self.buffer is None or len(self.buffer) != len(rows):
                self.buffer = self.tokens.new_empty((len(rows), *self.tokens.shape[1:]))
            tokens = torch.index_select(self.tokens, 0, rows, out=self.buffer).float()
        prefix = tokens[:, : self.n_prefix] if self.n_prefix else None
        return TokenBatch(tokens[:, self.n_prefix :], self.grid, targets=targets, prefix=prefix)


class PaddedBatches:
    """Batches of images of different sizes, all padded to the largest of `rows`, those that are trained on."""

    def __init__(self, tokens: PaddedTokens, rows: npt.NDArray[np.intp]):
        self.tokens, self.shape = tokens, tokens.shape_of(rows)
        self.buffer: Tensor | None = None

    def take(self, rows: Tensor, targets: Tensor) -> TokenBatch:
        """Gather and pad images, as `DenseBatches.take` does."""
        batch = self.tokens.batch(rows, self.shape, self.buffer)
        self.buffer = batch.patches
        grid = None if self.shape.length == 1 else batch.grid  # as in `DenseBatches`
        return batch.replace(grid=grid, targets=targets)
