"""Heads that `token_heads.py` compares, and their training: all of a setting at once, in plain PyTorch."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from frofa.estimators.models.map_head import LAYER_NORM_EPS, init_map_head, map_logits

Params = dict[str, Tensor]
WARM_UP, MOMENTUM, CLIP = 0.1, 0.9, 1.0
"""Share of the steps with a rising learning rate, and the other numbers of SGD, as in `MAPClassifier`."""


@dataclass(frozen=True)
class Head:
    """A head to try: its kind and start, what it sees, and how it is trained.

    `kind` is "map", "ep" (efficient probing), or "block" (the backbone's last block again, on the tokens before it);
    `start` "random", or the backbone's own weights: "pool" (its attention pool), "query" (its class token's query).
    `token` adds the class or pooled vector as a token. `base` is what logits are added to: None, the probe's logits of
    the samples it was fitted to ("fitted"), or those with the sample left out ("left out"). Several members, which
    differ in their seeds, are averaged.
    """

    name: str
    kind: str = "map"
    start: str = "random"
    n_queries: int = 32
    n_views: int = 6
    level: float = 0.0
    token: bool = False
    base: str | None = None
    lr: float = 0.03
    n_steps: int = 300
    weight_decay: float = 0.02
    towards_start: bool = False
    n_members: int = 1


def initial(head: Head, channels: int, n_classes: int, generator: Generator, own: Mapping[str, Params]) -> Params:
    """Starting values of one head; the classifier is zero, so that a head with a base starts as the base.

    `own` are the backbone's own weights, by `Head.start`.
    """
    device = generator.device
    if head.kind == "ep":
        value = (2 * torch.rand((channels, channels), generator=generator, device=device) - 1) * math.sqrt(3 / channels)
        return {
            "queries": 0.02 * torch.randn((head.n_queries, channels), generator=generator, device=device),
            "value.weight": value,
            "head.weight": torch.zeros(n_classes, channels, device=device),
            "head.bias": torch.zeros(n_classes, device=device),
        }
    fresh = init_map_head(channels, n_classes, 4.0, generator)
    if head.kind == "block":
        classifier = {name: value for name, value in fresh.items() if name.startswith("head.")}
        return {**own["block"], **classifier}
    return {**fresh, **(own[head.start] if head.start != "random" else {})}


def logits(head: Head, params: Mapping[str, Tensor], tokens: Tensor, num_heads: int) -> Tensor:
    """Class logits (H, n, n_classes) of tokens (S, n, N, C), where S is H, or 1 for tokens that all heads share."""
    if head.kind == "ep":
        return _efficient(params, tokens)
    if head.kind == "block":
        return _last_block(params, tokens, num_heads)
    return map_logits(params, tokens, num_heads=num_heads)


def _classify(params: Mapping[str, Tensor], features: Tensor) -> Tensor:
    return torch.baddbmm(params["head.bias"].unsqueeze(1), features, params["head.weight"].mT)


def _efficient(params: Mapping[str, Tensor], tokens: Tensor) -> Tensor:
    """Efficient probing: y = concat_q softmax(q_q x / sqrt(C)) (V x)_q, with the value map behind the sum."""
    queries, value = params["queries"], params["value.weight"]
    # Raw tokens are the keys: weights (H, n, Q, N), and weighted sums of tokens (H, n, Q, C).
    weights = (queries.unsqueeze(1) @ tokens.mT * queries.shape[2] ** -0.5).softmax(3)
    gathered = weights @ tokens
    # Each query's own part of the value map, (H, Q, C / Q, C).
    parts = value.unflatten(1, (queries.shape[1], -1))
    return _classify(params, torch.einsum("hnqc,hqdc->hnqd", gathered, parts).flatten(2))


def _norm(params: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    gain, bias = params[f"{name}.weight"], params[f"{name}.bias"]
    shape = (len(gain), *[1] * (x.ndim - 2), -1)
    return F.layer_norm(x, x.shape[-1:], eps=LAYER_NORM_EPS) * gain.view(shape) + bias.view(shape)


def _linear(params: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return torch.baddbmm(params[f"{name}.bias"].unsqueeze(1), x, params[f"{name}.weight"].mT)


def _last_block(params: Mapping[str, Tensor], tokens: Tensor, num_heads: int) -> Tensor:
    """The class token of the last block, from the tokens before it (S, n, 1 + N, C), then normalised and classified."""
    normed = _norm(params, "norm1", tokens)
    own = tokens[:, :, 0].expand(len(params["head.bias"]), -1, -1)
    query_map, key_map, value_map = params["qkv.weight"].chunk(3, 1)
    query_bias, _, value_bias = params["qkv.bias"].chunk(3, 1)
    # Queries of the class token (H, n, heads, C / heads), folded with the key map; the key bias cancels.
    query = torch.baddbmm(query_bias.unsqueeze(1), normed[:, :, 0], query_map.mT).unflatten(2, (num_heads, -1))
    folded = torch.einsum("hnad,hadc->hnac", query, key_map.unflatten(1, (num_heads, -1))) * query.shape[3] ** -0.5
    gathered = (folded @ normed.mT).softmax(3) @ normed
    values = torch.einsum("hnac,hadc->hnad", gathered, value_map.unflatten(1, (num_heads, -1))).flatten(2)
    x = own + params["ls1"].unsqueeze(1) * _linear(params, "proj", values + value_bias.unsqueeze(1))
    hidden = F.gelu(_linear(params, "fc1", _norm(params, "norm2", x)))
    x = x + params["ls2"].unsqueeze(1) * _linear(params, "fc2", hidden)
    return _classify(params, _norm(params, "norm", x))


def brightness(tokens: Tensor, low: Tensor, high: Tensor, level: float, n_prefix: int) -> Tensor:
    """Brightness c2: a shift an image and channel, in units of the channel's range, to which it is clipped."""
    # Drawn from PyTorch's own generator, which a recorded step needs. Bounds are (S, n, 1, C).
    shift = (2 * torch.rand_like(low) - 1) * level * (high - low)
    patches = torch.minimum(torch.maximum(tokens[:, :, n_prefix:] + shift, low), high)
    return patches if not n_prefix else torch.cat([tokens[:, :, :n_prefix], patches], 2)


@dataclass(frozen=True)
class Batches:
    """What training takes: all tokens (m, N, C) with bounds (m, C), and of each step and head the rows of its batch.

    Rows are (steps, H, n); targets (steps, H, n) are class numbers, and the base (steps, H, n, n_classes) is what
    logits are added to.
    """

    tokens: Tensor
    low: Tensor
    high: Tensor
    rows: Tensor
    targets: Tensor
    base: Tensor | None
    n_prefix: int


def train(head: Head, params: Params, batches: Batches, num_heads: int) -> Params:
    """Train all heads, the leading dimension of parameters, by SGD; a GPU's steps are recorded and replayed."""
    values = {name: value.clone() for name, value in params.items()}
    start = {name: value.clone() for name, value in params.items()}
    velocity = {name: torch.zeros_like(value) for name, value in params.items()}
    rows, targets = batches.rows[0].clone(), batches.targets[0].clone()
    base = None if batches.base is None else batches.base[0].clone()
    rate = torch.zeros((), device=rows.device)

    def step() -> None:
        tokens = batches.tokens[rows]
        if head.level:
            low, high = batches.low[rows].unsqueeze(2), batches.high[rows].unsqueeze(2)
            tokens = brightness(tokens, low, high, head.level, batches.n_prefix)
        leaves = {name: value.detach().requires_grad_() for name, value in values.items()}
        scores = logits(head, leaves, tokens, num_heads)
        scores = scores if base is None else scores + base
        # Heads do not meet: the gradient of the sum of their losses.
        loss = F.cross_entropy(scores.flatten(0, 1), targets.flatten(), reduction="sum") / rows.shape[1]
        gradients = dict(zip(values, torch.autograd.grad(loss, list(leaves.values())), strict=True))
        with torch.no_grad():
            norms = sum(g.flatten(1).square().sum(1) for g in gradients.values())
            scale = (CLIP / (torch.as_tensor(norms).sqrt() + 1e-6)).clamp(max=1)
            for name, value in values.items():
                velocity[name].mul_(MOMENTUM).add_(gradients[name] * scale.view(-1, *[1] * (value.ndim - 1)))
                if head.towards_start:
                    velocity[name].add_(value - start[name], alpha=head.weight_decay)
                elif name.endswith(".weight") and value.ndim > 2:
                    velocity[name].add_(value, alpha=head.weight_decay)
                value.sub_(rate * velocity[name])

    run = _recorded(step, (values, velocity, start)) if rows.is_cuda else step
    for i in range(head.n_steps):
        rows.copy_(batches.rows[i])
        targets.copy_(batches.targets[i])
        if base is not None and batches.base is not None:
            base.copy_(batches.base[i])
        warm_up = min(1.0, (i + 1) / (int(WARM_UP * head.n_steps) + 1))
        rate.fill_(head.lr * warm_up * 0.5 * (1 + math.cos(math.pi * i / head.n_steps)))
        run()
    return values


def _recorded(step: Callable[[], None], state: tuple[Any, ...]) -> Callable[[], None]:
    """Record a step as a CUDA graph; what the steps before the recording changed in the state is undone."""
    kept = [{name: value.clone() for name, value in part.items()} for part in state]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    for part, before in zip(state, kept, strict=True):
        for name, value in part.items():
            value.copy_(before[name])
    return graph.replay
