"""The soft-MoE head: parameters, a folded forward pass and its gradients, of many heads at once.

A layer of a few experts (Puigcerver et al., ICLR 2024) with a residual follows a LayerNorm; its tokens are averaged,
and a linear layer classifies the mean. Only the mean is computed: it takes the outputs of the slots, of which there are
few, and no tensor of tokens for each head. The LayerNorm has neither gain nor bias: the experts' first layer has.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, sqrt

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from frofa.compute.experts import batched_linear, unit_norm
from frofa.estimators.models.map_head import LAYER_NORM_EPS, linear
from frofa.estimators.training.plan import TokenModel


def soft_moe_pool(params: Mapping[str, Tensor], tokens: Tensor, mask: Tensor | None = None) -> Tensor:
    """Average the outputs of the layer of experts over the tokens, for many heads at once, to (H, n, C).

    Dimensions are those of `TokenModel.logits`.
    """
    if tokens.ndim == 3:
        tokens, mask = tokens.unsqueeze(0), None if mask is None else mask.unsqueeze(0)
    normed = F.layer_norm(tokens, tokens.shape[3:], eps=LAYER_NORM_EPS)
    logits = _route(params, normed)  # (S, n, N, H / S, K), for K slots
    shown = None if mask is None else mask[..., None, None]
    # Slots are weighted means of tokens: (S, n, H / S * K, C), then (H, n, K, C).
    dispatch = _dispatch(logits, shown)
    slots = dispatch.flatten(3).mT @ normed
    outputs = _experts(params, slots.unflatten(2, logits.shape[3:]).transpose(1, 2).flatten(0, 1))
    # Tokens are weighted means of outputs, a softmax over the slots; their mean takes the mean weights: (H, n, 1, K).
    combine = _mean_over(logits.softmax(4), shown).transpose(1, 2).flatten(0, 1).unsqueeze(2)
    # All heads of a stream have the same residual, the mean of its tokens: (S, n, C), then (H, n, C).
    residual = _mean_over(tokens, None if mask is None else mask[..., None])
    pooled: Tensor = residual.repeat_interleave(len(outputs) // len(tokens), 0) + (combine @ outputs).squeeze(2)
    return pooled


def soft_moe_attention(params: Mapping[str, Tensor], tokens: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute what slots weigh tokens by, (H, n, K, N): of sum 1 over the tokens, zero where masked."""
    if tokens.ndim == 3:
        tokens, mask = tokens.unsqueeze(0), None if mask is None else mask.unsqueeze(0)
    logits = _route(params, F.layer_norm(tokens, tokens.shape[3:], eps=LAYER_NORM_EPS))
    dispatch = _dispatch(logits, None if mask is None else mask[..., None, None])
    return dispatch.permute(0, 3, 1, 4, 2).flatten(0, 1)


def _dispatch(logits: Tensor, shown: Tensor | None) -> Tensor:
    """Compute the weights of tokens in slots, a softmax of logits (S, n, N, H / S, K) over the tokens."""
    return (logits if shown is None else logits.masked_fill(~shown, -inf)).softmax(2)


def _route(params: Mapping[str, Tensor], normed: Tensor) -> Tensor:
    """Compute logits (S, n, N, H / S, K) of normalised tokens (S, n, N, C) for the K slots of each head."""
    # Cosines of tokens and slot parameters (C, K), times the scale: one product for all heads of a stream.
    slots = (params["scale"][..., None] * unit_norm(params["mu"].flatten(2), 1)).unflatten(0, (len(normed), -1))
    each = slots.transpose(1, 2)  # (S, C, H / S, K)
    logits: Tensor = unit_norm(normed, 3).flatten(1, 2) @ each.flatten(2)
    return logits.view(*normed.shape[:3], *each.shape[2:])


def _experts(params: Mapping[str, Tensor], slots: Tensor) -> Tensor:
    """Turn slots (H, n, K, C) into outputs (H, n, K, C), each by the MLP of its expert."""
    experts = params["fc1.weight"].shape[1]
    # Experts become an axis, (H, experts, n, slots of one, C), and with the heads one batch of linear layers.
    per_expert = slots.unflatten(2, (experts, -1)).transpose(1, 2)
    rows = per_expert.flatten(0, 1).flatten(1, 2)
    first, second = (
        (params[f"{name}.weight"].flatten(0, 1), params[f"{name}.bias"].flatten(0, 1)) for name in ("fc1", "fc2")
    )
    outputs = batched_linear(F.gelu(batched_linear(rows, *first)), *second)
    return outputs.view(per_expert.shape).transpose(1, 2).flatten(2, 3)


def _mean_over(values: Tensor, shown: Tensor | None) -> Tensor:
    """Average values (S, n, N, ...) over the tokens, or over those that are shown: (S, n, ...)."""
    if shown is None:
        return values.mean(2)
    mean: Tensor = values.masked_fill(~shown, 0).sum(2) / shown.sum(2)
    return mean


@dataclass(frozen=True)
class SoftMoEModel(TokenModel):
    """Soft-MoE heads of one shape.

    `mlp_ratio` is the width of each expert's MLP in units of the channels, `router_scale` the initial factor of the
    cosines of tokens and slot parameters.
    """

    num_experts: int
    slots_per_expert: int
    mlp_ratio: float
    router_scale: float = 1.0

    def initial(self, channels: int, n_classes: int, generator: Generator) -> dict[str, Tensor]:
        """Draw fresh parameters, float32 on the generator's device.

        Xavier-uniform kernels, slot parameters of about unit norm, zero biases, a zero classifier.
        """
        device, experts, hidden = generator.device, self.num_experts, max(1, int(channels * self.mlp_ratio))

        def kernels(rows: int, columns: int) -> Tensor:
            draw = torch.rand((experts, rows, columns), generator=generator, device=device)
            return (2 * draw - 1) * sqrt(6 / (rows + columns))

        def zeros(*size: int) -> Tensor:
            return torch.zeros(size, device=device)

        # Draws are in this order for good: seeds of saved results depend on it.
        slots = channels, experts, self.slots_per_expert
        return {
            "mu": torch.randn(slots, generator=generator, device=device) * channels**-0.5,
            "scale": zeros(1) + self.router_scale,
            "fc1.weight": kernels(hidden, channels),
            "fc1.bias": zeros(experts, hidden),
            "fc2.weight": kernels(channels, hidden),
            "fc2.bias": zeros(experts, channels),
            "head.weight": zeros(n_classes, channels),
            "head.bias": zeros(n_classes),
        }

    def logits(self, params: Mapping[str, Tensor], tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute class logits (H, n, n_classes) of tokens (S, n, N, C) or (n, N, C), as in `soft_moe_pool`."""
        return linear(soft_moe_pool(params, tokens, mask), params, "head")

    def attention(self, params: Mapping[str, Tensor], tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the weights (H, n, K, N) of tokens in slots, as in `soft_moe_attention`."""
        return soft_moe_attention(params, tokens, mask)

    def head_bytes(self, image: Tensor, n_batch: int) -> int:
        """Estimate the bytes of a head in training: weights, velocity, gradients and what autograd keeps."""
        n_tokens, channels = image.shape
        hidden, slots = int(channels * self.mlp_ratio), self.num_experts * self.slots_per_expert
        parameters = self.num_experts * 2 * channels * hidden + slots * channels + 20 * channels
        activations = n_tokens * (4 * channels + 6 * slots) + slots * (6 * channels + 4 * hidden)
        return 4 * (6 * parameters + n_batch * activations)
