"""Gradients of the loss of many MAP heads, written out: autograd keeps and moves several times the memory.

Dimensions are those of `map_pool`: H heads of several attention heads each, S streams of n images with N tokens of C
channels. Heads come stream by stream; the tokens of a stream are read once for all of its heads.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from frofa.estimators._flat import Heads, Params
from frofa.estimators._map_head import attend, fold, linear, map_logits, per_head, project, projections
from frofa.estimators._training import Step


@dataclass(frozen=True)
class MapModel:
    """What `train` trains: MAP heads of so many attention heads each."""

    num_heads: int

    def logits(self, params: Mapping[str, Tensor], tokens: Tensor) -> Tensor:
        """Class logits (H, n, n_classes) of tokens (n, N, C)."""
        return map_logits(params, tokens, num_heads=self.num_heads)

    def gradients(self, heads: Heads, step: Step, out: Heads) -> None:
        """Write the gradients of each head's mean cross-entropy."""
        if len(step.blocks) == 1:
            self._of_streams(heads, step, out)
            return
        first_head = first_stream = 0
        for n_streams, heads_each in step.blocks:
            block = slice(first_head, first_head := first_head + n_streams * heads_each)
            streams = slice(first_stream, first_stream := first_stream + n_streams)
            self._of_streams(heads[block], step.select(streams), out[block])

    def _of_streams(self, heads: Heads, step: Step, out: Heads) -> None:
        """The same for streams that have as many heads each."""
        n_streams, tokens = len(step.tokens), step.tokens
        query, folded = fold(heads.params, self.num_heads)
        attention = attend(folded.view(n_streams, -1, tokens.shape[3]), tokens, step.mask)
        gathered = per_head(attention @ tokens, self.num_heads).split(heads.part_size)
        targets = step.targets.repeat_interleave(len(folded) // n_streams, 0).split(heads.part_size)
        parts = zip(heads.parts, gathered, targets, out.parts, strict=True)
        upstream = torch.cat([_after_attention(*part) for part in parts])
        upstream = upstream.unflatten(0, (n_streams, -1)).permute(0, 3, 1, 2, 4).flatten(2, 3)
        product = upstream @ tokens.mT  # (S, n, H / S * num_heads, N)
        scores = product.sub_((product * attention).sum(3, keepdim=True)).mul_(attention)
        of_folded = scores.transpose(1, 2).flatten(2) @ tokens.flatten(1, 2)
        _of_query(heads.params, query, of_folded.view_as(folded), out.params)


def _after_attention(params: Params, gathered: Tensor, targets: Tensor, out: Params) -> Tensor:
    """Write the gradients of all that follows the attention; return that of `gathered`, (H, num_heads, n, C)."""
    num_heads, n, channels = gathered.shape[1:]
    seen = project(params, gathered)
    logits = linear(seen.features, params, "head")
    upstream = (logits.softmax(2) * targets.sum(2, keepdim=True) - targets) / n
    residual = _linear_back(params, "head", seen.features, upstream, out)
    upstream = _linear_back(params, "mlp.fc2", seen.activated, residual, out)
    upstream = torch.ops.aten.gelu_backward(upstream, seen.hidden)
    upstream = _linear_back(params, "mlp.fc1", seen.normed, upstream, out)
    torch.sum(upstream * seen.normalised, 1, out=out["norm.weight"])
    torch.sum(upstream, 1, out=out["norm.bias"])
    upstream = torch.ops.aten.native_layer_norm_backward(
        upstream * params["norm.weight"].unsqueeze(1),
        seen.pooled,
        (channels,),
        seen.mean,
        seen.rstd,
        None,
        None,
        (True, False, False),
    )[0]
    upstream = _linear_back(params, "proj", seen.values, residual + upstream, out)
    key_bias, value_bias = out["kv.bias"].unflatten(1, (2, channels)).unbind(1)
    key_bias.zero_()  # it cancels in the softmax
    torch.sum(upstream, 1, out=value_bias)
    upstream = upstream.unflatten(2, (num_heads, -1)).transpose(1, 2)  # (H, num_heads, n, head_dim)
    projections(out["kv.weight"], num_heads)[1].copy_(upstream.mT @ gathered)
    of_gathered: Tensor = upstream @ projections(params["kv.weight"], num_heads)[1]
    return of_gathered


def _linear_back(params: Params, name: str, x: Tensor, upstream: Tensor, out: Params) -> Tensor:
    """Write the gradients of a linear layer of inputs x (H, n, inputs), and return that of x."""
    weight, into = params[f"{name}.weight"], out[f"{name}.weight"]
    torch.sum(upstream, 1, out=out[f"{name}.bias"])
    if len(weight) == 1:
        torch.mm(upstream[0].mT, x[0], out=into[0])
        return (upstream[0] @ weight[0]).unsqueeze(0)
    torch.bmm(upstream.mT, x, out=into)
    return upstream @ weight


def _of_query(params: Params, query: Tensor, of_folded: Tensor, out: Params) -> None:
    """Write the gradients of keys, query projection and latent from that of the folded queries (H, num_heads, C)."""
    num_heads, head_dim = query.shape[1:]
    of_product = of_folded * head_dim**-0.5
    torch.mul(query.unsqueeze(3), of_product.unsqueeze(2), out=projections(out["kv.weight"], num_heads)[0])
    of_query = (projections(params["kv.weight"], num_heads)[0] @ of_product.unsqueeze(3)).flatten(1)  # (H, C)
    out["q.bias"].copy_(of_query)
    torch.mul(of_query.unsqueeze(2), params["latent"].flatten(1, 2), out=out["q.weight"])
    torch.bmm(of_query.unsqueeze(1), params["q.weight"], out=out["latent"].flatten(1, 2))
