"""Attention within each image of a packed sequence, and the blocks of timm's vision transformers over it."""

from collections.abc import Sequence
from functools import cache
from itertools import accumulate, groupby
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS = ("Block", "EvaBlock")
ATTENTIONS = ("Attention", "AttentionRope", "EvaAttention")


class Segments(NamedTuple):
    """The rows of each image in a packed sequence.

    Image i has the rows from ``offsets[i]`` to ``offsets[i + 1]``; offsets are int32 (n + 1,), on the device of the
    tokens. Where there is no kernel for segments, images of one length that follow each other are one call. `longest`
    is the number of tokens of the longest image, or more. `kernel` is PyTorch's attention within segments, on a GPU
    whose PyTorch has it: looked up here, as compiled passes may not call functions that remember what they returned.
    """

    lengths: tuple[int, ...]
    offsets: Tensor
    longest: int
    kernel: Any = None


def segments_of(lengths: Sequence[int], device: torch.device, longest: int | None = None) -> Segments:
    """Make segments of these lengths; `longest` bounds all packs, so that a compiled pass need not relearn it."""
    offsets = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
    kernel = _segment_kernel() if device.type == "cuda" else None
    return Segments(tuple(lengths), offsets.to(device, non_blocking=True), longest or max(lengths), kernel)


def attend(queries: Tensor, keys: Tensor, values: Tensor, of_queries: Segments, of_keys: Segments) -> Tensor:
    """Attention of each image's queries to its own keys, softmax(q k^T / sqrt(D)) v; all (T, heads, D)."""
    if of_queries.kernel is not None and queries.dtype in (torch.float16, torch.bfloat16):
        found: Tensor = of_queries.kernel(
            queries, keys, values, of_queries.offsets, of_keys.offsets, of_queries.longest, of_keys.longest
        )
        return found
    if len(of_queries.lengths) == 1:
        return _of_one_length(queries, keys, values, 1)
    # One call for each run of images of equal lengths: n images as a batch (n, heads, length, D).
    outputs, q, k = [], 0, 0
    for (n_queries, n_keys), group in groupby(zip(of_queries.lengths, of_keys.lengths, strict=True)):
        n = len(list(group))
        to_q, to_k = q + n * n_queries, k + n * n_keys
        outputs.append(_of_one_length(queries[q:to_q], keys[k:to_k], values[k:to_k], n))
        q, k = to_q, to_k
    return torch.cat(outputs)


@cache
def _segment_kernel() -> Any:
    """PyTorch's attention within segments, where it has it; importing it takes as long as PyTorch itself."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:  # before torch 2.10
        return None
    return varlen_attn


def run_block(block: Any, x: Tensor, rope: Tensor | None, segments: Segments) -> Tensor:
    """Run one block of timm's, in eval mode, over tokens (T, C)."""
    # Residual blocks of one form; EVA scales the branches by vectors that may be None, others by modules.
    if type(block).__name__ == "EvaBlock":
        x = x + _scaled(self_attention(block.attn, block.norm1(x), rope, segments), block.gamma_1)
        return x + _scaled(block.mlp(block.norm2(x)), block.gamma_2)
    x = x + block.ls1(self_attention(block.attn, block.norm1(x), rope, segments))
    return x + block.ls2(block.mlp(block.norm2(x)))  # type: ignore[no-any-return]


def self_attention(attention: Any, x: Tensor, rope: Tensor | None, segments: Segments) -> Tensor:
    """Compute timm's `Attention`, `AttentionRope` or `EvaAttention` within each image, over tokens (T, C).

    `rope` (T, 1 or heads, 2 * D) has sines, then cosines; zeros and ones for tokens without a position.
    """
    # (T, heads, D) each; keys and values may have fewer heads, each for a group of queries.
    queries, keys, values = _project(attention, x)
    queries, keys = attention.q_norm(queries), attention.k_norm(keys)
    if rope is not None:
        half = getattr(attention, "rotate_half", False)
        queries, keys = rotate(queries, rope, half=half), rotate(keys, rope, half=half)
    groups = getattr(attention, "num_kv_groups", 1)
    if groups > 1:
        keys, values = keys.repeat_interleave(groups, 1), values.repeat_interleave(groups, 1)
    # Under autocast, norms and rotations of queries and keys come out in float32. Then heads side by side: (T, C).
    found = attend(queries.to(values.dtype), keys.to(values.dtype), values, segments, segments).flatten(1)
    found = getattr(attention, "norm", nn.Identity())(found)
    if getattr(attention, "gate", None) is not None:
        found = found * attention.gate(x).sigmoid()
    return attention.proj(found)  # type: ignore[no-any-return]


def rotate(x: Tensor, rope: Tensor, *, half: bool) -> Tensor:
    """Turn pairs of channels of x (T, heads, D): neighbours or, with `half`, one of each half."""
    sines, cosines = rope.chunk(2, -1)
    if half:
        first, second = x.chunk(2, -1)
        turned = torch.cat([-second, first], -1)
    else:
        turned = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
    return x * cosines + turned * sines


def _of_one_length(queries: Tensor, keys: Tensor, values: Tensor, n: int) -> Tensor:
    """Attention of n images of equal lengths: (n * length, heads, D) to the same."""
    parts = (part.unflatten(0, (n, -1)).transpose(1, 2) for part in (queries, keys, values))
    return F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(0, 1)


def _project(attention: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, each (T, heads, D)."""
    heads = attention.num_heads
    if attention.qkv is not None:
        # EVA keeps its biases apart, as its keys have none of their own: a buffer of zeros.
        bias = attention.qkv.bias
        if getattr(attention, "q_bias", None) is not None:
            bias = torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
        found = F.linear(x, attention.qkv.weight, bias).unflatten(-1, (3, heads, -1))
        return found[:, 0], found[:, 1], found[:, 2]
    of_keys = getattr(attention, "num_kv_heads", heads)
    return (
        attention.q_proj(x).unflatten(-1, (heads, -1)),
        attention.k_proj(x).unflatten(-1, (of_keys, -1)),
        attention.v_proj(x).unflatten(-1, (of_keys, -1)),
    )


def _scaled(x: Tensor, scale: Tensor | None) -> Tensor:
    return x if scale is None else scale * x
