"""The outputs of a backbone: what one pass is asked for, and how each is taken from what the model returns.

A model returns prefix tokens (class token, registers), then patch tokens. The class token is removed here:
`Layout.split` cuts the prefix off the last layer, timm's `forward_intermediates` that of inner ones, and of what was
cut off `select_output` returns the class token alone, for ``output="cls"``. Images of their own size have a pass of
their own, which removes it in `frofa.backbones.navit.model`.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy.typing as npt
import torch
from torch import Tensor, nn

from frofa.backbones.layout import Layout

Output: TypeAlias = Literal["tokens", "cls", "mean", "pooled", "projected"]
WITHOUT_TOKENS = ("pooled", "projected")
"""Outputs that are made by a model's own head, at its end."""
OUTPUTS: tuple[Output, ...] = get_args(Output)

Computed: TypeAlias = npt.NDArray[Any] | Tensor
"""Features on the host: an array, or a tensor of bfloat16, which NumPy does not have."""


class Request(NamedTuple):
    """One output of a forward pass.

    `layer` is the index of the block from 0, or None for models that are no transformers; with `norm`, the model's
    final normalisation is applied.
    """

    output: Output
    layer: int | None
    norm: bool


class PrefixAndPatches(NamedTuple):
    """Tokens of one layer: the prefix (n, P, C), of which the class token is the first, and the patches (n, N, C)."""

    prefix: Tensor
    patches: Tensor


def select_output(output: Output, tokens: PrefixAndPatches) -> Tensor:
    """Return patch tokens (n, N, C), their mean (n, C), or the class token (n, C)."""
    if output == "cls":
        return tokens.prefix[:, 0]
    return tokens.patches.mean(1) if output == "mean" else tokens.patches


def number_of_blocks(module: nn.Module) -> int | None:
    """Count transformer blocks; None where the model is not a transformer with one sequence of blocks."""
    if not hasattr(module, "num_prefix_tokens") or not hasattr(module, "blocks"):
        return None
    return len(module.blocks)  # type: ignore[arg-type]


def run_requests(module: nn.Module, layout: Layout, images: Tensor, requests: Sequence[Request]) -> list[Tensor]:
    """Run normalised images (n, channels, H, W) through a model once, and return the output of each request."""
    model: Any = module
    depth = number_of_blocks(module)

    def is_final(request: Request) -> bool:
        """Whether `forward_features` returns it: the normalised last layer."""
        return depth is None or (request.layer == depth - 1 and request.norm)

    final: Any = None
    inner: dict[tuple[int | None, bool], PrefixAndPatches] = {}
    # One pass serves both kinds: `forward_intermediates` also gives the end where that is asked for.
    of_blocks = [request for request in requests if not is_final(request)]
    if of_blocks:
        final, inner = run_blocks(module, layout, images, of_blocks, with_final=len(of_blocks) < len(requests))
    else:
        final = model.forward_features(images)
    features = []
    for request in requests:
        if request.output in WITHOUT_TOKENS:
            projected = request.output == "projected" and layout.is_projection_own
            features.append(model.forward_head(final, pre_logits=not projected))
        elif is_final(request):
            features.append(select_output(request.output, PrefixAndPatches(*layout.split(final))))
        else:
            features.append(select_output(request.output, inner[request.layer, request.norm]))
    return features


def run_blocks(
    module: nn.Module, layout: Layout, images: Tensor, requests: Sequence[Request], *, with_final: bool
) -> tuple[Any, dict[tuple[int | None, bool], PrefixAndPatches]]:
    """Run a transformer for outputs of inner blocks.

    Return what timm's `forward_features` returns, or None without `with_final`; and the tokens of inner blocks, by
    layer and whether the final normalisation was applied.
    """
    model: Any = module
    layers = sorted({request.layer for request in requests if request.layer is not None})
    # timm normalises all blocks of a pass, or none: where requests differ, those that want it are normalised below.
    normed = all(request.norm for request in requests)
    result = model.forward_intermediates(
        images,
        indices=layers,
        norm=normed,
        stop_early=not with_final,
        output_fmt="NLC",
        intermediates_only=not with_final,
        **({"return_prefix_tokens": True} if layout.n_prefix and layout.prefix_in_blocks else {}),
    )
    final, found = result if with_final else (None, result)
    inner: dict[tuple[int | None, bool], PrefixAndPatches] = {}
    for layer, block in zip(layers, found, strict=True):
        # Where no prefix was asked for, patches (n, N, C) come alone; an empty prefix (n, 0, C) goes with them.
        patches, prefix = block if isinstance(block, tuple) else (block, block[:, :0])
        inner[layer, normed] = PrefixAndPatches(prefix, patches)
        if not normed and any(request.layer == layer and request.norm for request in requests):
            # Together as in the model's own pass, (n, P + N, C), then apart again.
            whole = model.norm(torch.cat([prefix, patches], 1))
            inner[layer, True] = PrefixAndPatches(whole[:, : prefix.shape[1]], whole[:, prefix.shape[1] :])
    return final, inner
