"""Small NaFlexViTs with random weights, and images as patches, for the tests of packed passes."""

from typing import Any

import torch
from timm.models.naflexvit import NaFlexVit, NaFlexVitCfg
from torch import Tensor

PATCH = 4
SMALL: dict[str, Any] = {
    "patch_size": PATCH,
    "embed_dim": 48,
    "depth": 3,
    "num_heads": 4,
    "pos_embed_grid_size": (6, 6),
}
CASES: dict[str, dict[str, Any]] = {
    "siglip2": {"act_layer": "gelu_tanh", "pos_embed_interp_mode": "bilinear"},
    "gap": {"init_values": 0.5, "global_pool": "avg", "reg_tokens": 4, "fc_norm": True},
    "par_gap": {"pos_embed_ar_preserving": True, "global_pool": "avg", "reg_tokens": 2},
    "parfac_gap": {"pos_embed_ar_preserving": True, "pos_embed": "factorized", "global_pool": "avg", "reg_tokens": 4},
    "factorized": {"pos_embed": "factorized"},
    "map_reg": {"reg_tokens": 1, "pool_include_prefix": True},
    "cls": {"class_token": True, "global_pool": "token", "reg_tokens": 1, "qk_norm": True},
    "avgmax": {"global_pool": "avgmax", "class_token": True, "fc_norm": False},
    "max": {"global_pool": "max", "pos_embed": "none"},
    "grid_sample": {"pos_embed_use_grid_sample": True, "pos_embed_interp_mode": "bilinear"},
    "factorized_grid_sample": {"pos_embed_use_grid_sample": True, "pos_embed": "factorized"},
    "pre_norm": {"pre_norm": True, "class_token": True, "scale_mlp_norm": True, "scale_attn_inner_norm": True},
    "rope_axial": {"rope_type": "axial", "pos_embed": "none", "class_token": True, "swiglu_mlp": True},
    "rope_half": {"rope_type": "axial", "rope_rotate_half": True, "reg_tokens": 2, "init_values": 0.3},
    "rope_mixed": {"rope_type": "mixed", "reg_tokens": 1},
    "rope_dinov3": {"rope_type": "dinov3", "rope_rotate_half": True, "class_token": True, "pos_embed": "none"},
    "eva": {"attn_type": "eva", "swiglu_mlp": True, "qkv_fused": True, "scale_attn_inner_norm": True},
    "unfused": {"attn_type": "rope", "rope_type": "axial", "qkv_fused": False, "class_token": True},
    "grouped": {"attn_type": "rope", "rope_type": "axial", "qkv_fused": False, "num_kv_heads": 2, "attn_gated": True},
}
GRIDS = [(3, 5), (1, 1), (6, 6), (1, 64), (5, 3), (2, 9), (9, 2), (3, 5), (8, 8), (64, 1)]


def model(name: str, **overrides: Any) -> Any:
    """One of `CASES` in eval mode; every weight is drawn, as fresh ones hide what is added or scaled."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = NaFlexVit(NaFlexVitCfg(**{**SMALL, **CASES[name], **overrides}), num_classes=0).eval()
    return drawn(module)


def drawn(module: Any) -> Any:
    """The module with weights drawn anew, of a size that keeps activations near 1."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        scale = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.3
        parameter.data = parameter.data + scale * torch.randn(parameter.shape, generator=generator)
    return module.requires_grad_(False)


def patches_of(grids: list[tuple[int, int]], seed: int = 0, size: int = PATCH) -> list[Tensor]:
    """Normalised patches (N, P * P * 3) of images with these grids."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows * columns, 3 * size * size, generator=generator) for rows, columns in grids]


def coordinates(grid: tuple[int, int]) -> Tensor:
    """Of each patch (N, 2): row and column."""
    return torch.cartesian_prod(torch.arange(grid[0]), torch.arange(grid[1])).view(-1, 2)


def alone(module: Any, patches: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Tokens (n_prefix + N, C) after the final norm, and the pooled vector, of one image by timm's own NaFlex pass."""
    valid = torch.ones(1, len(patches), dtype=torch.bool, device=patches.device)
    found = module.forward_features(patches[None], coordinates(grid)[None].to(patches.device), valid)
    return found["patches"][0], module.forward_head(**found, pre_logits=True)[0]
