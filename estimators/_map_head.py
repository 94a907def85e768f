"""The attention-pooling (MAP) head: parameters and a folded forward pass, as pure functions.

The layout and the names are those of timm's `AttentionPoolLatent` (with a `LayerNorm` of eps 1e-6 and the exact GELU),
plus ``head.weight`` and ``head.bias`` for the classifier, so that weights move freely between the two.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

LAYER_NORM_EPS = 1e-6


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


def map_pool(params: Mapping[str, Tensor], tokens: Tensor, num_heads: int) -> Tensor:
    """Attention-pool tokens (n, N, C) to (n, C).

    With a single query, the key projection folds into the query and the value projection moves behind the weighted
    sum: N * C * num_heads multiplications an image instead of 2 * N * C * C, and the same numbers. The key bias adds
    the same to every token's logit, and so cancels in the softmax.
    """
    channels = tokens.shape[-1]
    head_dim = channels // num_heads
    key, value = params["kv.weight"].view(2, num_heads, head_dim, channels)
    query = F.linear(params["latent"][0], params["q.weight"], params["q.bias"]).view(num_heads, 1, head_dim)
    folded = (query @ key).squeeze(1) * head_dim**-0.5  # (num_heads, C)
    attention = F.linear(tokens, folded).softmax(1)  # (n, N, num_heads)
    gathered = attention.transpose(1, 2) @ tokens  # (n, num_heads, C)
    values = torch.einsum("nhc,hdc->nhd", gathered, value).flatten(1) + params["kv.bias"][channels:]
    pooled = F.linear(values, params["proj.weight"], params["proj.bias"])
    x = F.layer_norm(pooled, (channels,), params["norm.weight"], params["norm.bias"], LAYER_NORM_EPS)
    x = F.gelu(F.linear(x, params["mlp.fc1.weight"], params["mlp.fc1.bias"]))
    return pooled + F.linear(x, params["mlp.fc2.weight"], params["mlp.fc2.bias"])


def map_logits(params: Mapping[str, Tensor], tokens: Tensor, num_heads: int) -> Tensor:
    """Class logits (n, n_classes) of tokens (n, N, C)."""
    return F.linear(map_pool(params, tokens, num_heads), params["head.weight"], params["head.bias"])
