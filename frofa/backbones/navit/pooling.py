"""Pooling of each image of a packed sequence."""

from typing import Any

import torch
from torch import Tensor

from frofa.backbones.navit.attention import Segments, attend, segments_of

POOLS = ("map", "avg", "max", "avgmax", "token")


def reduce(x: Tensor, segments: Segments, how: str) -> Tensor:
    """Take the mean or maximum over each image's tokens: (T, C) to (n, C)."""
    if len(segments.lengths) == 1:
        return (x.mean(0) if how == "mean" else x.amax(0))[None]
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    # Unchecked, as a check of the lengths would wait for the device.
    return torch.segment_reduce(x, how, offsets=segments.offsets.long(), axis=0, unsafe=True)


def own_pooling(module: Any, everything: Tensor, of_all: Segments, patches: Tensor, of_patches: Segments) -> Tensor:
    """Pool each image as `forward_head(pre_logits=True)` of timm's vision transformers does: to (n, C).

    Tokens are those after the model's final norm: `everything` with class and register tokens, `patches` without.
    """
    x, segments = (everything, of_all) if module.pool_include_prefix else (patches, of_patches)
    if getattr(module, "attn_pool", None) is not None:
        pooled = attention_pool(module.attn_pool, x, segments)
    elif module.global_pool == "token":
        pooled = everything[of_all.offsets[:-1].long()]
    elif module.global_pool == "avgmax":
        pooled = 0.5 * (reduce(x, segments, "mean") + reduce(x, segments, "max"))
    else:
        pooled = reduce(x, segments, "mean" if module.global_pool == "avg" else "max")
    return module.fc_norm(pooled)  # type: ignore[no-any-return]


def attention_pool(pool: Any, x: Tensor, segments: Segments) -> Tensor:
    """Pool each image by timm's `AttentionPoolLatent` (a MAP head): (T, C) to (n, C)."""
    n, heads = len(segments.lengths), pool.num_heads
    # The learned queries (latent_len, heads, D), the same for each image; keys and values (T, heads, D).
    queries = pool.q_norm(pool.q(pool.latent[0]).unflatten(-1, (heads, -1)))
    found = pool.kv(x).unflatten(-1, (2, heads, -1))
    keys, values = pool.k_norm(found[:, 0]), found[:, 1]
    # Each image's queries attend to its tokens: (n * latent_len, C).
    queries = queries.to(values.dtype).repeat(n, 1, 1)
    of_queries = segments_of([pool.latent_len] * n, x.device)
    attended = attend(queries, keys.to(values.dtype), values, of_queries, segments).flatten(1)
    pooled = pool.proj(attended)
    if pool.mlp is not None:
        pooled = pooled + pool.mlp(pool.norm(pooled))
    pooled = pooled.unflatten(0, (n, pool.latent_len))
    return pooled.mean(1) if pool.pool == "avg" else pooled[:, 0]  # type: ignore[no-any-return]
