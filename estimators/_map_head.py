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


def map_pool(params: Mapping[str, Tensor], tokens: Tensor, num_heads: int, mask: Tensor | None = None) -> Tensor:
    """Attention-pool tokens with many heads at once.

    With a single query, the key projection folds into the query and the value projection moves behind the weighted
    sum: N * C * num_heads multiplications an image instead of 2 * N * C * C, and the same numbers. The key bias adds
    the same to every token's logit, and so cancels in the softmax.

    Parameters
    ----------
    params : mapping of str to Tensor
        With a leading dimension H, that of the heads (each of num_heads attention heads).
    tokens : Tensor of shape (H, n, N, C), or (n, N, C)
        Each head's own tokens, or tokens that all heads share.
    num_heads : int
        Attention heads of each.
    mask : Tensor of bool, shape (H, n, N) or (n, N), default=None
        True where a token is seen, of which every image needs one.

    Returns
    -------
    Tensor of shape (H, n, C)
    """
    channels = tokens.shape[-1]
    head_dim = channels // num_heads
    key, value = params["kv.weight"].unflatten(1, (2, num_heads, head_dim)).unbind(1)  # (H, num_heads, head_dim, C)
    query = torch.baddbmm(params["q.bias"].unsqueeze(1), params["latent"].flatten(1, 2), params["q.weight"].mT)
    query = query.view(-1, num_heads, 1, head_dim)
    folded = (query @ key).squeeze(2) * head_dim**-0.5  # (H, num_heads, C)
    if tokens.ndim == 4 and len(tokens) == 1:  # one head's own tokens are shared by all: ordinary products are faster
        tokens, mask = tokens[0], None if mask is None else mask[0]
    gathered = (_gather if tokens.ndim == 4 else _gather_shared)(folded, tokens, mask)
    values = torch.einsum("bnhc,bhdc->bnhd", gathered, value).flatten(2) + params["kv.bias"][:, None, channels:]
    pooled = linear(values, params, "proj")
    x = F.layer_norm(pooled, (channels,), eps=LAYER_NORM_EPS)
    x = x * params["norm.weight"].unsqueeze(1) + params["norm.bias"].unsqueeze(1)
    return pooled + linear(F.gelu(linear(x, params, "mlp.fc1")), params, "mlp.fc2")


def _gather(folded: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Attention-weighted sums (H, n, num_heads, C) of each head's own tokens (H, n, N, C)."""
    logits = (tokens.flatten(1, 2) @ folded.mT).unflatten(1, tokens.shape[1:3])  # (H, n, N, num_heads)
    if mask is not None:
        logits = logits.masked_fill(~mask.unsqueeze(-1), -math.inf)
    gathered: Tensor = logits.softmax(2).mT @ tokens
    return gathered


def _gather_shared(folded: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
    """The same of tokens (n, N, C) that all heads share, which are read once for all of them."""
    logits = F.linear(tokens, folded.flatten(0, 1))  # (n, N, H * num_heads)
    if mask is not None:
        logits = logits.masked_fill(~mask.unsqueeze(-1), -math.inf)
    gathered: Tensor = (logits.softmax(1).mT @ tokens).unflatten(1, folded.shape[:2]).transpose(0, 1)
    return gathered


def linear(x: Tensor, params: Mapping[str, Tensor], name: str) -> Tensor:
    """Each head's linear layer of that name: (H, n, inputs) to (H, n, outputs)."""
    weight, bias = params[f"{name}.weight"], params[f"{name}.bias"]
    if len(weight) == 1:
        return F.linear(x[0], weight[0], bias[0]).unsqueeze(0)
    return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)


def map_logits(params: Mapping[str, Tensor], tokens: Tensor, mask: Tensor | None = None, *, num_heads: int) -> Tensor:
    """Class logits (H, n, n_classes) of tokens (H, n, N, C) or (n, N, C), as in `map_pool`."""
    return linear(map_pool(params, tokens, num_heads, mask), params, "head")
