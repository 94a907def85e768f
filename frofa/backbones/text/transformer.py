"""The pre-norm transformer over tokens that all text towers are, in PyTorch."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from frofa.backbones.text.config import TextConfig


def quick_gelu(x: Tensor) -> Tensor:
    """The approximation of GELU that OpenAI's CLIP was trained with: x * sigmoid(1.702 x)."""
    return x * torch.sigmoid(1.702 * x)


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": _gelu_tanh,
    "quick_gelu": quick_gelu,
}


class TextTransformer(nn.Module):
    """A text tower: ids (n, L) to embeddings (n, D), which are not normalised."""

    def __init__(self, config: TextConfig):
        super().__init__()
        # Plain settings as attributes: the digest of an architecture reads those.
        self.pooling, self.eos_id = config.pooling, config.eos_id
        self.causal, self.masked = config.causal, config.masked
        self.token_embedding = nn.Embedding(config.vocabulary, config.width)
        self.position_embedding = nn.Parameter(torch.empty(config.context, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, config.epsilon)
        self.projection = (
            nn.Identity()
            if config.projection is None
            else nn.Linear(config.width, config.projection, config.projection_bias)
        )

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Embed ids int64 (n, L) whose `mask`, bool (n, L), is False at padding."""
        places = self._places(ids)
        if self.causal and places is not None:
            # What comes after the token that is read is seen by none before it: most of a short text is padding.
            length = int(places.max()) + 1 if len(places) else 1
            ids, mask = ids[:, :length], mask[:, :length]
        x = self.token_embedding(ids) + self.position_embedding[: ids.shape[1]]
        # True where a key may be seen, for all heads and queries: (n, 1, 1, L).
        seen = mask[:, None, None, :] if self.masked else None
        for block in self.blocks:
            x = block(x, seen)
        return self.projection(self._pool(x, mask, places))  # type: ignore[no-any-return]

    def _places(self, ids: Tensor) -> Tensor | None:
        """The place (n,) of the token that is read, or None where all are."""
        if self.pooling == "mean":
            return None
        if self.pooling == "argmax":
            return ids.argmax(1)
        if self.pooling == "eos":
            # The first of them: CLIP pads with the same token. Without any, it is the first place, as in transformers.
            return ids.eq(self.eos_id or 0).int().argmax(1)
        return torch.full_like(ids[:, 0], 0 if self.pooling == "first" else ids.shape[1] - 1)

    def _pool(self, x: Tensor, mask: Tensor, places: Tensor | None) -> Tensor:
        if places is not None:
            return self.norm(x[torch.arange(len(x), device=x.device), places])  # type: ignore[no-any-return]
        weights = mask[..., None].to(x.dtype)
        # A text of no token at all has no mean: zeros, so that its embedding is finite.
        return (self.norm(x) * weights).sum(1) / weights.sum(1).clamp(min=1)  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention and an MLP, each on the layer norm of what it is added to."""

    def __init__(self, config: TextConfig):
        super().__init__()
        self.heads, self.causal, self.activation = config.heads, config.causal, config.activation
        self.norm1 = nn.LayerNorm(config.width, config.epsilon)
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)
        self.norm2 = nn.LayerNorm(config.width, config.epsilon)
        self.fc1 = nn.Linear(config.width, config.hidden)
        self.fc2 = nn.Linear(config.hidden, config.width)

    def forward(self, x: Tensor, seen: Tensor | None) -> Tensor:
        """Map x (n, L, W) to the same shape; `seen` (n, 1, 1, L) is True at keys that are no padding."""
        # (n, L, 3 W) to three of (n, heads, L, W / heads).
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=seen, is_causal=self.causal)
        x = x + self.proj(attended.transpose(1, 2).flatten(2))
        hidden = _ACTIVATIONS[self.activation](self.fc1(self.norm2(x)))
        return x + self.fc2(hidden)  # type: ignore[no-any-return]
