"""Gradients of the loss of many MAP heads, written out: autograd keeps and moves several times the memory.

Dimensions are those of `map_pool`: H heads of several attention heads each, S streams of n images with N tokens of C
channels. Heads come stream by stream; the tokens of a stream are read once for all of its heads.
"""

import torch
from torch import Tensor

from frofa.estimators.models.map_head import (
    Projected,
    attend,
    fold,
    linear,
    per_head,
    project,
    projections,
)
from frofa.estimators.training.gradient import Gradient
from frofa.estimators.training.parameters import Heads, Params
from frofa.estimators.training.plan import StepBatch


def map_gradients(num_heads: int, heads: Heads, step: StepBatch, out: Gradient) -> None:
    """Write the gradients of the mean cross-entropy of each MAP head, of so many attention heads."""
    n_streams, tokens = len(step.tokens), step.tokens
    query, folded = fold(heads.params, num_heads)
    attention = attend(folded.view(n_streams, -1, tokens.shape[3]), tokens, step.mask)
    gathered = per_head(attention @ tokens, num_heads)
    targets = step.targets.repeat_interleave(len(folded) // n_streams, 0)
    upstream = _after_attention(heads.params, gathered, targets, out)
    upstream = upstream.unflatten(0, (n_streams, -1)).permute(0, 3, 1, 2, 4).flatten(2, 3)
    product = upstream @ tokens.mT  # (S, n, H / S * num_heads, N)
    scores = product.sub_((product * attention).sum(3, keepdim=True)).mul_(attention)
    of_folded = scores.transpose(1, 2).flatten(2) @ tokens.flatten(1, 2)
    _of_query(heads.params, query, of_folded.view_as(folded), out)


def _after_attention(params: Params, gathered: Tensor, targets: Tensor, out: Gradient) -> Tensor:
    """Write the gradients of all that follows the attention; return that of `gathered`, (H, num_heads, n, C)."""
    num_heads, n, channels = gathered.shape[1:]
    seen = project(params, gathered)
    few_classes = 2 * targets.shape[2] * (channels + n) < n * channels
    residual, upstream = (_classify_folded if few_classes else _classify)(params, seen, targets, out)
    upstream = torch.ops.aten.gelu_backward(upstream, seen.hidden)
    upstream = _linear_back(params, "mlp.fc1", seen.normed, upstream, out)
    torch.sum(upstream * seen.normalised, 1, out=out.params["norm.weight"])
    torch.sum(upstream, 1, out=out.params["norm.bias"])
    upstream = upstream.mul_(params["norm.weight"].unsqueeze(1))
    inputs = seen.pooled, (channels,), seen.mean, seen.rstd, None, None, (True, False, False)
    upstream = residual + torch.ops.aten.native_layer_norm_backward(upstream, *inputs)[0]
    upstream = _linear_back(params, "proj", seen.values, upstream, out)
    key_bias, value_bias = out.params["kv.bias"].unflatten(1, (2, channels)).unbind(1)
    key_bias.zero_()  # it cancels in the softmax
    torch.sum(upstream, 1, out=value_bias)
    upstream = upstream.unflatten(2, (num_heads, -1)).transpose(1, 2)  # (H, num_heads, n, head_dim)
    out.of_kernels("kv.weight", upstream, gathered, lambda kv: projections(kv, num_heads)[1])
    of_gathered: Tensor = upstream @ projections(params["kv.weight"], num_heads)[1]
    return of_gathered


def _classify(params: Params, seen: Projected, targets: Tensor, out: Gradient) -> tuple[Tensor, Tensor]:
    """Write the gradients of the classifier and the MLP's second layer; return those of features and their inputs."""
    features = seen.pooled + linear(seen.activated, params, "mlp.fc2")
    upstream = _of_logits(linear(features, params, "head"), targets)
    of_features = _linear_back(params, "head", features, upstream, out)
    return of_features, _linear_back(params, "mlp.fc2", seen.activated, of_features, out)


def _classify_folded(params: Params, seen: Projected, targets: Tensor, out: Gradient) -> tuple[Tensor, Tensor]:
    """The same where there are few classes: the second layer folds into the classifier, which is of lower rank.

    Its products then cost n_classes / n of what they do otherwise, and the numbers are the same.
    """
    weight, second = params["head.weight"], params["mlp.fc2.weight"]
    folded = torch.bmm(weight, second)  # (H, n_classes, hidden)
    shifted = seen.pooled + params["mlp.fc2.bias"].unsqueeze(1)
    logits = linear(shifted, params, "head").add_(torch.bmm(seen.activated, folded.mT))
    upstream = _of_logits(logits, targets)
    of_folded = torch.bmm(upstream.mT, seen.activated)
    torch.sum(upstream, 1, out=out.params["head.bias"])
    torch.bmm(upstream.mT, shifted, out=out.params["head.weight"]).add_(torch.bmm(of_folded, second.mT))
    out.of_kernels("mlp.fc2.weight", weight, of_folded)
    of_features = torch.bmm(upstream, weight)
    torch.sum(of_features, 1, out=out.params["mlp.fc2.bias"])
    return of_features, torch.bmm(upstream, folded)


def _of_logits(logits: Tensor, targets: Tensor) -> Tensor:
    """The gradient of the mean cross-entropy."""
    return (logits.softmax(2).mul_(targets.sum(2, keepdim=True)).sub_(targets)).div_(targets.shape[1])


def _linear_back(params: Params, name: str, x: Tensor, upstream: Tensor, out: Gradient) -> Tensor:
    """Write the gradients of a linear layer of inputs x (H, n, inputs), and return that of x."""
    torch.sum(upstream, 1, out=out.params[f"{name}.bias"])
    out.of_kernels(f"{name}.weight", upstream, x)
    return torch.bmm(upstream, params[f"{name}.weight"])


def _of_query(params: Params, query: Tensor, of_folded: Tensor, out: Gradient) -> None:
    """Write the gradients of keys, query projection and latent from that of the folded queries (H, num_heads, C)."""
    num_heads, head_dim = query.shape[1:]
    of_product = (of_folded * head_dim**-0.5).unsqueeze(2)
    out.of_kernels("kv.weight", query.unsqueeze(2), of_product, lambda kv: projections(kv, num_heads)[0])
    of_query = (projections(params["kv.weight"], num_heads)[0] @ of_product.mT).view(
        len(query), 1, num_heads * head_dim
    )
    out.params["q.bias"].copy_(of_query.squeeze(1))
    out.of_kernels("q.weight", of_query, params["latent"].flatten(1, 2))
    torch.bmm(of_query, params["q.weight"], out=out.params["latent"].flatten(1, 2))
