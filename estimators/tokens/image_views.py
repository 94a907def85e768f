"""Tokens of several views of the same images, as heads train on them and predict from them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from frofa.blocks import FeatureBlocks
from frofa.compute.memory import is_out_of_memory
from frofa.estimators.tokens.lazy import SMALL, LazyFeatures, LazyTokens, Tokens, tokens_on
from frofa.ragged import RaggedTokens

Array = npt.NDArray[Any]


class ImageViews:
    """Tokens of V views of the same n images: each (n, N, C), all of them arrays, lazy, or ragged.

    Rows are images: those that are chosen keep all of their views.
    """

    ndim = 3

    def __init__(self, views: Sequence[Any]):
        self.views = tuple(views)

    shape = property(lambda self: tuple(self.views[0].shape))
    dtype = property(lambda self: self.views[0].dtype)

    def __len__(self) -> int:
        return len(self.views[0])

    def __getitem__(self, rows: Any) -> "ImageViews":
        return ImageViews([view[rows] for view in self.views])


def token_views(X: FeatureBlocks, name: str) -> tuple[Any, ...]:
    """Choose the block of tokens, in the name of an estimator; ValueError if there are several."""
    if len(X.tokens) > 1:
        raise ValueError(
            f"{name} needs one block of tokens: choose it by X.select([...]). Got the blocks {', '.join(X.tokens)}."
        )
    return X.views(X.tokens[0])


def views_in(tokens: Any) -> tuple[Any, ...]:
    """Give the views of tokens of any kind: themselves alone, if they are no `ImageViews`."""
    return tokens.views if isinstance(tokens, ImageViews) else (tokens,)


def views_on(tokens: Any, device: torch.device) -> Tokens:
    """Make tokens ready for training on a device, as `tokens_on` does: of V views, V * n rows, view by view.

    Row v * n + i is view v of image i. Lazy views go to a GPU in one piece, if they fit.
    """
    if not isinstance(tokens, ImageViews):
        return tokens_on(tokens, device)
    views = tokens.views
    if all(isinstance(view, RaggedTokens) for view in views):
        return tokens_on(RaggedTokens.concatenate(views), device)
    if not all(isinstance(view, LazyFeatures) for view in views):
        return tokens_on(np.concatenate([np.asarray(view) for view in views]), device)
    if device.type == "cpu" and len(views) * int(np.prod(views[0].shape)) > SMALL:
        return LazyViews(views, device)
    try:
        return _in_one_piece(views, device)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return LazyViews(views, device)


class LazyViews(LazyTokens):
    """Lazy tokens of V views of n images as training takes a tensor of V * n rows, as `views_on` orders them."""

    def __init__(self, views: Sequence[Any], device: torch.device):
        super().__init__(views[0], device)
        self.views = tuple(views)
        self.shape = (len(views) * len(views[0]), *views[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Tensor | slice | int) -> Tensor:
        chosen = np.arange(len(self))[rows.cpu().numpy() if isinstance(rows, Tensor) else rows]
        which, images = np.divmod(np.atleast_1d(chosen), len(self.features))
        # Read view by view, in float32, to the places (m, N, C) where the rows are wanted.
        values = np.empty((len(which), *self.shape[1:]), np.float32)
        for v in np.unique(which):
            values[which == v] = np.asarray(self.views[v][images[which == v]], np.float32)
        return torch.from_numpy(values[0] if chosen.ndim == 0 else values).to(self.device)


def _in_one_piece(views: Sequence[Any], device: torch.device) -> Tensor:
    """Read lazy views one after another into one tensor (V * n, N, C), of the dtype that they are stored in."""
    n, first = len(views[0]), views[0].tensor()
    dtype = torch.float32 if device.type == "cpu" else first.dtype
    whole = torch.empty((len(views) * n, *first.shape[1:]), dtype=dtype, device=device)
    whole[:n] = first
    for v, view in enumerate(views[1:], 1):
        whole[v * n : (v + 1) * n] = view.tensor()
    return whole
