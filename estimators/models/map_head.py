"""The attention-pooling (MAP) head: parameters and a folded forward pass, as pure functions.

The layout and the names are those of timm's `AttentionPoolLatent` (with a `LayerNorm` of eps 1e-6 and the exact GELU),
plus ``head.weight`` and ``head.bias`` for the classifier, so that weights move freely between the two.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

LAYER_NORM_EPS = 1e-6
"""The eps of big_vision's and timm's LayerNorms."""


def default_num_heads(channels: int) -> int:
    """Attention heads of about 64 channels, as in the backbones: the largest divisor of C up to C / 64."""
    return next(h for h in range(max(1, channels // 64), 0, -1) if channels % h == 0)


def init_map_head(channels: int, n_classes: int, mlp_ratio: float, generator: Generator) -> dict[str, Tensor]:
    """Fresh parameters, float32 on the generator's device (big_vision's `MAPHead`).

    Xavier-uniform probe and kernels, zero biases, a zero classifier.
    """

    def xavier(rows: int, columns: int) -> Tensor:
        bound = math.sqrt(6 / (rows + columns))
        draw = torch.rand((rows, columns), generator=generator, device=generator.device)
        return (2 * draw - 1) * bound

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(shape, device=generator.device)

    # Draws are in this order for good: seeds of saved results depend on it.
    hidden = int(channels * mlp_ratio)
    return {
        "latent": xavier(1, channels).unsqueeze(0),
        "q.weight": xavier(channels, channels),
        "q.bias": zeros(channels),
        "kv.weight": torch.cat([xavier(channels, channels), xavier(channels, channels)]),
        "kv.bias": zeros(2 * channels),
        "proj.weight": xavier(channels, channels),
        "proj.bias": zeros(channels),
        "norm.weight": zeros(channels) + 1,
        "norm.bias": zeros(channels),
        "mlp.fc1.weight": xavier(hidden, channels),
        "mlp.fc1.bias": zeros(hidden),
        "mlp.fc2.weight": xavier(channels, hidden),
        "mlp.fc2.bias": zeros(channels),
        "head.weight": zeros(n_classes, channels),
        "head.bias": zeros(n_classes),
    }


def map_pool(params: Mapping[str, Tensor], tokens: Tensor, num_heads: int, mask: Tensor | None = None) -> Tensor:
    """Attention-pool tokens with many heads at once, to (H, n, C); dimensions as in `TokenModel.logits`.

    Each of the H heads has `num_heads` attention heads. With a single query, the key projection folds into the query
    and the value projection moves behind the weighted sum: N * C * num_heads multiplications an image instead of 2 * N
    * C * C, and the same numbers. The key bias adds the same to every token's logit, and so cancels in the softmax.
    """
    if tokens.ndim == 3:
        tokens, mask = tokens.unsqueeze(0), None if mask is None else mask.unsqueeze(0)
    gathered = _weigh(params, tokens, num_heads, mask) @ tokens
    seen = project(params, per_head(gathered, num_heads))
    return seen.pooled + linear(seen.activated, params, "mlp.fc2")


def map_attention(params: Mapping[str, Tensor], tokens: Tensor, num_heads: int, mask: Tensor | None = None) -> Tensor:
    """Compute what `map_pool` weighs tokens by, (H, n, num_heads, N): of sum 1 over the tokens, zero where masked."""
    if tokens.ndim == 3:
        tokens, mask = tokens.unsqueeze(0), None if mask is None else mask.unsqueeze(0)
    return per_head(_weigh(params, tokens, num_heads, mask), num_heads).transpose(1, 2)


def _weigh(params: Mapping[str, Tensor], tokens: Tensor, num_heads: int, mask: Tensor | None) -> Tensor:
    """Compute attention weights (S, n, H / S * num_heads, N) of tokens (S, n, N, C)."""
    # All queries of a stream's heads at once: (S, H / S * num_heads, C).
    _, folded = fold(params, num_heads)
    return attend(folded.unflatten(0, (len(tokens), -1)).flatten(1, 2), tokens, mask)


def fold(params: Mapping[str, Tensor], num_heads: int) -> tuple[Tensor, Tensor]:
    """Fold keys into the queries: the query (H, num_heads, head_dim), and what multiplies tokens, (H, num_heads, C)."""
    query = torch.baddbmm(params["q.bias"].unsqueeze(1), params["latent"].flatten(1, 2), params["q.weight"].mT)
    query = query.view(len(query), num_heads, -1)
    # Each attention head's query times its key projection (head_dim, C), scaled as products with the keys would be.
    key = projections(params["kv.weight"], num_heads)[0]
    return query, (query.unsqueeze(2) @ key).squeeze(2) * query.shape[2] ** -0.5


def projections(kv: Tensor, num_heads: int) -> tuple[Tensor, Tensor]:
    """View key and value projections of each attention head, (H, num_heads, head_dim, C), in ``kv.weight``."""
    key, value = kv.unflatten(1, (2, num_heads, -1)).unbind(1)
    return key, value


def attend(folded: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Compute attention weights (S, n, Q, N) of folded queries (S, Q, C) on tokens (S, n, N, C)."""
    # Small products, image by image, are faster on a CPU; one product of all images of a stream is on a GPU.
    if tokens.device.type == "cpu":
        logits = folded.unsqueeze(1) @ tokens.mT
    else:
        logits = (folded @ tokens.flatten(1, 2).mT).unflatten(2, tokens.shape[1:3]).transpose(1, 2)
    if mask is not None:
        logits = logits.masked_fill(~mask.unsqueeze(2), -math.inf)
    weights: Tensor = logits.softmax(3)
    return weights


def per_head(gathered: Tensor, num_heads: int) -> Tensor:
    """Regroup weights or weighted sums of tokens, (S, n, H / S * num_heads, ...), by heads: (H, num_heads, n, ...)."""
    each: Tensor = gathered.unflatten(2, (-1, num_heads))
    return each.permute(0, 2, 3, 1, 4).flatten(0, 1)


class Projected(NamedTuple):
    """Values of a forward pass from the attention to the MLP's second layer: (H, n, C), the last two (H, n, hidden)."""

    values: Tensor
    pooled: Tensor
    normalised: Tensor
    mean: Tensor
    rstd: Tensor
    normed: Tensor
    hidden: Tensor
    activated: Tensor


def project(params: Mapping[str, Tensor], gathered: Tensor) -> Projected:
    """Value and output projection of weighted sums (H, num_heads, n, C), and the MLP's first layer."""
    num_heads, channels = gathered.shape[1], gathered.shape[3]
    # Values behind the weighted sum, as attention weights add up to one: (H, num_heads, n, head_dim), then (H, n, C).
    _, value = projections(params["kv.weight"], num_heads)
    values = (gathered @ value.mT).transpose(1, 2).flatten(2) + params["kv.bias"][:, None, channels:]
    pooled = linear(values, params, "proj")
    # The LayerNorm without gain and bias, which differ from head to head, and then with them.
    normalised, mean, rstd = torch.native_layer_norm(pooled, (channels,), None, None, LAYER_NORM_EPS)
    normed = torch.addcmul(params["norm.bias"].unsqueeze(1), normalised, params["norm.weight"].unsqueeze(1))
    hidden = linear(normed, params, "mlp.fc1")
    return Projected(values, pooled, normalised, mean, rstd, normed, hidden, F.gelu(hidden))


def linear(x: Tensor, params: Mapping[str, Tensor], name: str) -> Tensor:
    """Apply each head's linear layer of a name: (H, n, inputs) to (H, n, outputs)."""
    return torch.baddbmm(params[f"{name}.bias"].unsqueeze(1), x, params[f"{name}.weight"].mT)


def map_logits(params: Mapping[str, Tensor], tokens: Tensor, mask: Tensor | None = None, *, num_heads: int) -> Tensor:
    """Compute class logits (H, n, n_classes) of tokens (S, n, N, C) or (n, N, C), as in `map_pool`."""
    return linear(map_pool(params, tokens, num_heads, mask), params, "head")
