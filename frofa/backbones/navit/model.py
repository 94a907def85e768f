"""The forward pass of a vision transformer over several images in one sequence (NaViT).

Dehghani et al., Patch n' Pack: NaViT, a Vision Transformer for any Aspect Ratio and Resolution (2023), arXiv
2307.06304. Weights and positions are those of timm's `NaFlexVit`, which pads each image to one length instead, or of
its `VisionTransformer`, whose positions are interpolated to each image's grid.
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from frofa.backbones.navit.attention import ATTENTIONS, BLOCKS, Segments, run_block, segments_of
from frofa.backbones.navit.pooling import POOLS, own_pooling, reduce
from frofa.backbones.navit.positions import Positions, is_naflex, positions_of, prefix_tokens, project
from frofa.backbones.outputs import WITHOUT_TOKENS, Request

KEPT_GRIDS = 64
"""Grids whose positions are kept: photographs under one budget have some tens of them (``benchmarks/navit.py``)."""


class TokenIndex(NamedTuple):
    """Rows of a sequence in which each image begins with class and register tokens.

    Patch tokens lie in the rows `patches`, int64 (T,), the others in `prefixes`, int64 (n * n_prefix,).
    """

    patches: Tensor
    prefixes: Tensor


class PackedModel:
    """A vision transformer of timm's, in eval mode, over packed images.

    It is a `NaFlexVit` or `VisionTransformer`; another module is a ValueError. `longest` bounds the patches of an
    image, one for all packs.
    """

    def __init__(self, module: nn.Module, longest: int | None = None):
        check_supported(module)
        self.module: Any = module
        self._positions = lru_cache(maxsize=KEPT_GRIDS)(partial(positions_of, module))
        self._longest = longest
        self._compiled: Any = None

    def __call__(
        self, patches: Tensor, grids: Sequence[tuple[int, int]], requests: Sequence[Request], *, compiled: bool = False
    ) -> list[Tensor]:
        """Run a pack of images.

        Patches (T, P * P * 3) are normalised, one image after another, each row by row, channels last within a patch.
        `grids` has rows and columns of each image; on a GPU in float32, images of one length should follow each other.
        For each request comes back tokens (T, C), or one vector an image (n, C). `compiled` compiles the blocks, once
        for all lengths.
        """
        if compiled and self._compiled is None:
            self._compiled = torch.compile(trunk, dynamic=True)
        module, sizes = self.module, [rows * columns for rows, columns in grids]
        prefix = prefix_tokens(module)
        n_prefix = 0 if prefix is None else len(prefix)
        positions = [self._positions(grid) for grid in grids]
        # Patch tokens (T, C), then with class and register tokens before those of each image (T + n * n_prefix, C).
        x = embed(module, patches, positions)
        index = None if prefix is None else index_of(sizes, n_prefix, x.device)
        if prefix is not None and index is not None:
            x = with_prefix(x, prefix, index)
        # One bound for all packs: the kernel's launch, and what is compiled, do not depend on the images at hand.
        bound = None if self._longest is None else self._longest + n_prefix
        of_all = segments_of([size + n_prefix for size in sizes], x.device, bound)
        of_patches = of_all if prefix is None else segments_of(sizes, x.device, bound)
        # The blocks, up to the last that is asked for.
        run = self._compiled if compiled else trunk
        layers = sorted({request.layer for request in requests if request.layer is not None})
        kept = [layer in layers for layer in range(layers[-1] + 1)]
        blocks = run(module.blocks, module.norm_pre(x), ropes_of(positions, n_prefix), of_all, kept)
        by_layer: dict[int | None, Tensor] = dict(zip(layers, blocks, strict=True))
        return [self._output(request, by_layer[request.layer], of_all, of_patches, index) for request in requests]

    def _output(
        self, request: Request, x: Tensor, of_all: Segments, of_patches: Segments, index: TokenIndex | None
    ) -> Tensor:
        """Take one output from all tokens of a layer; class and register tokens are removed here."""
        x = self.module.norm(x) if request.norm else x
        if request.output == "cls":
            return x[of_all.offsets[:-1].long()]  # the first token of each image
        # Means and pooling are over patches (T, C), unless the model's own pooling takes the prefix in.
        patches = x if index is None else x[index.patches]
        if request.output in WITHOUT_TOKENS:
            pooled = own_pooling(self.module, x, of_all, patches, of_patches)
            # Of SigLIP, which has no projection, the last layer is the identity.
            return self.module.head(pooled) if request.output == "projected" else pooled
        return reduce(patches, of_patches, "mean") if request.output == "mean" else patches


def embed(module: Any, patches: Tensor, positions: Sequence[Positions]) -> Tensor:
    """Make tokens (T, C) of patches, each with the position that it has in its image."""
    x = project(module, patches)
    added = [of_grid.added for of_grid in positions if of_grid.added is not None]
    return x + torch.cat(added) if added else x


def trunk(
    blocks: Sequence[nn.Module], x: Tensor, ropes: Tensor | None, segments: Segments, keep: Sequence[bool]
) -> list[Tensor]:
    """Run the first blocks over tokens (T, C), and return the tokens after each of those that are to be kept.

    `keep` has a truth value for each block, which a compiler takes as it is: numbers it would make unknowns.
    """
    kept = []
    for index, wanted in enumerate(keep):
        rope = None if ropes is None else ropes[index if len(ropes) > 1 else 0]
        x = run_block(blocks[index], x, rope, segments)
        if wanted:
            kept.append(x)
    return kept


def ropes_of(positions: Sequence[Positions], n_prefix: int) -> Tensor | None:
    """Rotary positions of a pack (1 or depth, T, 1 or heads, 2 * D); None for models without."""
    parts = []
    for _, rope in positions:
        if rope is None:
            return None
        if n_prefix:  # sines 0 and cosines 1, which turn nothing
            still = rope.new_zeros(rope.shape[0], n_prefix, *rope.shape[2:])
            still[..., rope.shape[-1] // 2 :] = 1
            parts.append(still)
        parts.append(rope)
    return torch.cat(parts, 1)


def index_of(sizes: Sequence[int], n_prefix: int, device: torch.device) -> TokenIndex:
    """Say where the tokens of images with these numbers of patches lie."""
    is_prefix = torch.cat([torch.arange(n_prefix + size) < n_prefix for size in sizes])
    return TokenIndex(*(which.nonzero()[:, 0].to(device, non_blocking=True) for which in (~is_prefix, is_prefix)))


def with_prefix(x: Tensor, prefix: Tensor, index: TokenIndex) -> Tensor:
    """Put class and register tokens (n_prefix, C) before each image's patches, of all (T, C)."""
    whole = x.new_empty(len(x) + len(index.prefixes), x.shape[1])
    whole[index.patches] = x
    whole[index.prefixes] = prefix.repeat(len(index.prefixes) // len(prefix), 1)
    return whole


def check_supported(module: Any) -> None:
    """Raise a ValueError for a model that this forward pass does not compute."""
    kind = type(module).__name__
    if kind not in ("NaFlexVit", "VisionTransformer") or not type(module).__module__.startswith("timm."):
        raise ValueError(
            f"max_tokens needs timm's NaFlexVit or VisionTransformer. Got {kind}: choose a naflexvit_* model, or a "
            "plain vit_* one."
        )
    # By the names of classes: a subclass or a new kind of block may compute something else.
    odd = {type(block).__name__ for block in module.blocks} - {*BLOCKS}
    odd |= {type(block.attn).__name__ for block in module.blocks if hasattr(block, "attn")} - {*ATTENTIONS}
    if not is_naflex(module) and type(module.patch_embed).__name__ != "PatchEmbed":
        odd.add(type(module.patch_embed).__name__)
    if getattr(module, "attn_pool", None) is not None and type(module.attn_pool).__name__ != "AttentionPoolLatent":
        odd.add(type(module.attn_pool).__name__)
    if odd:
        raise ValueError(f"max_tokens does not know these parts of a {kind}: {', '.join(sorted(odd))}.")


def check_pooling(module: Any) -> None:
    """Raise a ValueError where a model has no pooling for ``output="pooled"``."""
    if module.global_pool not in POOLS:
        raise ValueError(
            f"this model has no pooling of its own that max_tokens knows (global_pool={module.global_pool!r}): choose "
            "output='mean'."
        )
