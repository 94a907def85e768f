"""Augmented copies of samples that have several blocks and views."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from frofa.augmentations import Augmentation
from frofa.blocks import FeatureBlocks
from frofa.estimators.tokens.lazy import average_tokens
from frofa.estimators.tokens.views import with_copies

Array = npt.NDArray[Any]


def token_blocks(X: Any) -> list[list[Any]] | None:
    """Give the tokens (n, N, C) of features of any kind, view by view of each block; None where there are vectors."""
    if isinstance(X, FeatureBlocks):
        return None if X.vectors else [list(X.views(name)) for name in X.names]
    return [[X]] if getattr(X, "ndim", 2) == 3 else None


def copies_of_blocks(
    blocks: Sequence[Sequence[Any]],
    rows: npt.NDArray[np.intp],
    augment: Augmentation,
    n_copies: int,
    seed: int,
    *,
    n_prefix: int,
    grid: tuple[int, int] | None,
) -> Array:
    """Draw augmented copies of all views, as `with_copies` does: float64, (n, n_views * n_copies, D).

    Blocks are of vectors (n, C) or tokens (n, N, C), view by view; of the copies, which are side by side, those of the
    first view come first. Each block and view has random numbers of its own.
    """
    found = []
    for number, block in enumerate(blocks):
        views = []
        for place, view in enumerate(block):
            own = int(np.random.SeedSequence([seed, number, place]).generate_state(1)[0])
            features = average_tokens(view) if view.ndim == 3 else np.asarray(view, np.float64)
            tokens = view if view.ndim == 3 else features
            copies = with_copies(tokens, features, rows, augment, n_copies, own, n_prefix=n_prefix, grid=grid)
            views.append(copies[:, 1:])
        found.append(np.concatenate(views, axis=1))
    return np.concatenate(found, axis=2)
