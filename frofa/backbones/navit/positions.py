"""The first layer of a vision transformer over patches of images of any grid: projection and positions."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Positions(NamedTuple):
    """Positions of the N tokens of one grid.

    `added`, (N, C), is added to tokens. By `rope`, (1 or depth, N, 1 or heads, 2 * D), sines and then cosines, queries
    and keys are turned. What a model does not have is None.
    """

    added: Tensor | None
    rope: Tensor | None


def positions_of(module: nn.Module, grid: tuple[int, int]) -> Positions:
    """Positions of a grid in timm's `NaFlexVit` or `VisionTransformer`, at full precision also under autocast."""
    with torch.autocast(next(module.parameters()).device.type, enabled=False):
        return Positions(added_positions(module, grid), rope_of(module, grid))


def project(module: Any, patches: Tensor) -> Tensor:
    """Project patches (T, P * P * 3) to tokens (T, C) of the weights' dtype, before positions."""
    embeds = _embeds(module)
    # Of a convolution (C, 3, P, P), or of a linear layer over channels first: to (C, P * P * 3), channels last.
    weight = embeds.proj.weight
    if weight.ndim == 4:
        weight = weight.permute(0, 2, 3, 1).flatten(1)
    elif not getattr(embeds, "channels_last", True):
        weight = weight.unflatten(1, (3, *embeds.patch_size)).permute(0, 2, 3, 1).flatten(1)
    patches = patches.to(weight.dtype)
    if getattr(embeds, "norm_input", None) is not None:
        patches = embeds.norm_input(patches)
    # As float32 also under autocast: then positions are added, and residuals kept, at full precision.
    return embeds.norm(F.linear(patches, weight, embeds.proj.bias)).to(weight.dtype)  # type: ignore[no-any-return]


def prefix_tokens(module: Any) -> Tensor | None:
    """Class and register tokens (n_prefix, C), with their own positions added; None where there are none."""
    owner = module.embeds if is_naflex(module) else module
    parts = [token[0] for token in (owner.cls_token, owner.reg_token) if token is not None]
    if not parts:
        return None
    prefix = torch.cat(parts)
    if is_naflex(module) or module.pos_embed is None or module.no_embed_class:
        return prefix
    return prefix + module.pos_embed[0, : len(prefix)]  # type: ignore[no-any-return]


def added_positions(module: Any, grid: tuple[int, int]) -> Tensor | None:
    """Learned or factorised positions (N, C) of a grid, row by row; interpolated as timm does for one image."""
    if not is_naflex(module):
        return _of_plain_vit(module, grid)
    embeds = module.embeds
    square = (max(grid),) * 2 if embeds.pos_embed_ar_preserving else grid
    if embeds.pos_embed_type == "learned":
        table = embeds.pos_embed  # (1, h, w, C)
        if tuple(table.shape[1:3]) == grid:
            return table.flatten(0, 2)  # type: ignore[no-any-return]
        # Sampling at the patches' centres, which timm can do instead, is interpolation without antialiasing.
        sampled = getattr(embeds, "pos_embed_use_grid_sample", False)
        resized = F.interpolate(
            table.permute(0, 3, 1, 2).float(),
            size=square,
            mode=embeds.pos_embed_interp_mode,
            align_corners=getattr(embeds, "pos_embed_align_corners", False),
            antialias=getattr(embeds, "pos_embed_antialias", True) and not sampled,
        )
        return resized[0, :, : grid[0], : grid[1]].flatten(1).T.to(table.dtype)
    if embeds.pos_embed_type == "factorized":
        # Rows (h, C) and columns (w, C), whose sums are the positions.
        rows = _resized(embeds.pos_embed_y, square[0])[: grid[0]]
        columns = _resized(embeds.pos_embed_x, square[1])[: grid[1]]
        return (rows[:, None] + columns).flatten(0, 1)
    return None


def rope_of(module: Any, grid: tuple[int, int]) -> Tensor | None:
    """Rotary positions of a grid, shape (1 or depth, N, 1 or heads, 2 * D)."""
    if getattr(module, "rope", None) is None:
        return None
    found: Tensor = module.rope.get_embed(shape=list(grid))
    if found.ndim == 2:
        return found[None, :, None]
    return found.permute(0, 2, 1, 3)  # drawn for each block and head


def is_naflex(module: nn.Module) -> bool:
    """Whether a module is timm's `NaFlexVit`, not its `VisionTransformer`."""
    return type(module).__name__ == "NaFlexVit"


def _embeds(module: Any) -> Any:
    return module.embeds if is_naflex(module) else module.patch_embed


def _of_plain_vit(module: Any, grid: tuple[int, int]) -> Tensor | None:
    """Positions (N, C) of a `VisionTransformer`, without those of its prefix tokens."""
    from timm.layers import resample_abs_pos_embed

    if module.pos_embed is None:
        return None
    n_prefix = 0 if module.no_embed_class else module.num_prefix_tokens
    old = tuple(module.patch_embed.grid_size)
    found: Tensor = resample_abs_pos_embed(module.pos_embed, list(grid), old, num_prefix_tokens=n_prefix)
    return found[0, n_prefix:]


def _resized(table: Tensor, length: int) -> Tensor:
    """Interpolate positions (1, K, C) of one axis to (length, C)."""
    if table.shape[1] == length:
        return table[0]
    return F.interpolate(table.permute(0, 2, 1).float(), size=length, mode="linear")[0].T.to(table.dtype)
