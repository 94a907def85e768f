"""Batches of tokens: with their grid, mask, targets and prefix tokens, as augmentations take and return them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

Grid = tuple[int, int] | Tensor | None
MOST_GRIDS = 8
"""Largest batch of which an error message lists the grid of each image."""


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Tokens of n images, where they lie, and the labels that go with them.

    Attributes
    ----------
    patches : Tensor of shape (n, N, C)
        Floating point; patch tokens, row by row of the grid.
    grid : (int, int), Tensor of shape (n, 2), or None
        Height and width in tokens. Of images of different sizes, a tensor of integers, on any device: the tokens of
        image i are the first ``h_i * w_i`` of its N. None for features without positions.
    mask : Tensor of shape (n, N), or None
        True where the head sees a token; None where it sees all.
    targets : Tensor of shape (n, n_classes), or None
        Class weights of each image (one-hot labels times sample weights), which `MixUp` mixes.
    prefix : Tensor of shape (n, P, C), or None
        Class and register tokens: handed on as they are, except that `MixUp` mixes them as it does the patches.

    Examples
    --------
    >>> import torch
    >>> from frofa.augmentations import Brightness, TokenBatch
    >>> generator = torch.Generator().manual_seed(0)
    >>> tokens = torch.randn(8, 1 + 64, 192, generator=generator)  # a class token and 8 x 8 patches
    >>> batch = Brightness(0.3)(TokenBatch.from_tokens(tokens, n_prefix=1), generator)
    >>> batch.tokens.shape, batch.tokens[:, 0].equal(tokens[:, 0])
    (torch.Size([8, 65, 192]), True)
    """

    patches: Tensor
    grid: Grid = None
    mask: Tensor | None = None
    targets: Tensor | None = None
    prefix: Tensor | None = None

    @classmethod
    def from_tokens(
        cls,
        tokens: Tensor,
        *,
        n_prefix: int = 0,
        grid: Grid = None,
        mask: Tensor | None = None,
        targets: Tensor | None = None,
    ) -> "TokenBatch":
        """Split tokens into prefix and patches, and check that all fits together.

        Parameters
        ----------
        tokens : Tensor of shape (n, P + N, C), or (n, C)
            Pooled features (n, C) become a batch of one token without positions.
        n_prefix : int, default=0
            P, the number of class and register tokens, which come first.
        grid : (int, int) or Tensor of shape (n, 2), default=None
            Height and width; None takes N to be a square, and where it is none, tokens have no positions.
        mask : Tensor of bool, shape (n, N), default=None
            True where the head sees a token, of which every image needs one. What lies beyond an image's own tokens, by
            a tensor of grids, is hidden in any case.
        targets : Tensor of shape (n, n_classes), default=None

        Raises
        ------
        ValueError
            If a shape or dtype does not fit; the message says which.
        """
        if not isinstance(tokens, Tensor) or tokens.ndim not in (2, 3) or not tokens.is_floating_point():
            got = (
                f"shape {tuple(tokens.shape)}, {tokens.dtype}" if isinstance(tokens, Tensor) else type(tokens).__name__
            )
            raise ValueError(
                "expected a tensor of floating point features of shape (n, tokens, channels) or (n, channels). "
                f"Got {got}."
            )
        if tokens.ndim == 2:
            if n_prefix or grid is not None or mask is not None:
                raise ValueError(
                    "pooled features (n, channels) have no prefix, grid or mask: give tokens of three axes."
                )
            return cls(tokens.unsqueeze(1), targets=_check_rows("targets", targets, tokens, 2))
        if not 0 <= n_prefix < tokens.shape[1]:
            raise ValueError(f"n_prefix must leave at least one of the {tokens.shape[1]} tokens. Got {n_prefix}.")
        # Prefix tokens (n, P, C) come first, and have no place on the grid.
        patches = tokens[:, n_prefix:]
        grid = _check_grid(grid, patches)
        if isinstance(grid, Tensor):
            mask = _hide_padding(mask, grid, patches)
        mask = _check_rows("mask", mask, patches, 2)
        if mask is not None and (mask.dtype != torch.bool or mask.shape != patches.shape[:2]):
            raise ValueError(
                f"mask must be bool of shape {tuple(patches.shape[:2])}. Got {mask.dtype}, {tuple(mask.shape)}."
            )
        if mask is not None and not bool(mask.any(1).all()):
            raise ValueError("mask must show at least one token of every image. Got an image without any.")
        return cls(
            patches,
            grid,
            mask,
            _check_rows("targets", targets, tokens, 2),
            tokens[:, :n_prefix] if n_prefix else None,
        )

    @property
    def tokens(self) -> Tensor:
        """Prefix and patch tokens as one tensor, shape (n, P + N, C)."""
        return self.patches if self.prefix is None else torch.cat([self.prefix, self.patches], 1)

    @property
    def token_mask(self) -> Tensor | None:
        """The mask of `tokens`, in which prefix tokens are always seen: shape (n, P + N), or None."""
        if self.mask is None or self.prefix is None:
            return self.mask
        return torch.cat([self.mask.new_ones(self.prefix.shape[:2]), self.mask], 1)

    def __repr__(self) -> str:
        parts = {name: getattr(self, name) for name in ("patches", "grid", "mask", "targets", "prefix")}
        shown = {
            name: f"shape {_shape(part)}" if isinstance(part, Tensor) else repr(part) for name, part in parts.items()
        }
        return f"TokenBatch({', '.join(f'{name}={text}' for name, text in shown.items() if text != 'None')})"

    def replace(self, **changes: Any) -> "TokenBatch":
        """Copy the batch with some attributes changed."""
        return replace(self, **changes)

    def select(self, rows: Any) -> "TokenBatch":
        """Take some of the images, by a slice or by a tensor of indices on the batch's device."""
        grid = self.grid
        if isinstance(grid, Tensor):  # its device need not be that of the patches
            grid = grid[rows.to(grid.device) if isinstance(rows, Tensor) else rows]
        parts = {name: getattr(self, name) for name in ("mask", "targets", "prefix")}
        chosen = {name: None if part is None else part[rows] for name, part in parts.items()}
        return TokenBatch(self.patches[rows], grid, **chosen)

    @staticmethod
    def join(parts: "Sequence[TokenBatch]") -> "TokenBatch":
        """Put batches of the same grid one after another; where some have a mask, the others' tokens are all seen."""
        if len(parts) == 1:
            return parts[0]

        def cat(name: str) -> Tensor | None:
            tensors = [getattr(part, name) for part in parts]
            if name == "mask" and any(tensor is not None for tensor in tensors):
                tensors = [_all_seen(p) if t is None else t for p, t in zip(parts, tensors, strict=True)]
            return None if tensors[0] is None else torch.cat(tensors)

        grids = [part.grid for part in parts]
        grid = torch.cat([g for g in grids if isinstance(g, Tensor)]) if isinstance(grids[0], Tensor) else grids[0]
        patches = torch.cat([part.patches for part in parts])
        return TokenBatch(patches, grid, cat("mask"), cat("targets"), cat("prefix"))


def _all_seen(batch: TokenBatch) -> Tensor:
    return batch.patches.new_ones(batch.patches.shape[:2], dtype=torch.bool)


def _check_grid(grid: Grid, patches: Tensor) -> Grid:
    n, n_tokens, _ = patches.shape
    if grid is None:
        side = math.isqrt(n_tokens)
        return (side, side) if side * side == n_tokens else None
    if isinstance(grid, Tensor):
        sizes = grid.cpu()
        if (
            sizes.shape != (n, 2)
            or sizes.is_floating_point()
            or bool((sizes < 1).any() | (sizes.prod(1) > n_tokens).any())
        ):
            raise ValueError(
                f"grid must hold a height and a width for each of the {n} images, of at most {n_tokens} tokens. Got "
                f"{sizes.tolist() if len(sizes) <= MOST_GRIDS else tuple(sizes.shape)}."
            )
        return sizes
    if not isinstance(grid, (tuple, list)) or [isinstance(side, Integral) for side in grid] != [True, True]:
        raise ValueError(f"grid must be (height, width), or a tensor with one row an image. Got {grid!r}.")
    height, width = grid
    if height < 1 or width < 1 or height * width != n_tokens:
        raise ValueError(f"grid must be (height, width) with height * width = {n_tokens} tokens. Got {grid}.")
    return int(height), int(width)


def _check_rows(name: str, value: Tensor | None, features: Tensor, ndim: int) -> Tensor | None:
    if value is not None and (not isinstance(value, Tensor) or value.ndim != ndim or len(value) != len(features)):
        raise ValueError(f"{name} must have {ndim} dimensions and {len(features)} rows. Got {_shape(value)}.")
    return value


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def _hide_padding(mask: Tensor | None, grid: Tensor, patches: Tensor) -> Tensor | None:
    """Hide what lies beyond each image's own tokens: the mask (n, N), or None where nothing does."""
    n_tokens = patches.shape[1]
    if bool((grid.prod(1) == n_tokens).all()):
        return mask
    # (n, N): position below the number of tokens that the image has.
    own = (torch.arange(n_tokens) < grid.prod(1, keepdim=True)).to(patches.device)
    return own if mask is None or mask.shape != own.shape else mask & own
