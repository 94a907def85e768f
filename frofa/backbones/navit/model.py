"""The forward pass of a vision transformer over several images in one sequence (NaViT).

Dehghani et al., Patch n' Pack: NaViT, a Vision Transformer for any Aspect Ratio and Resolution (2023), arXiv
2307.06304. Weights and positions are those of timm's `NaFlexVit`, which pads each image to one length instead, or of
its `VisionTransformer`, whose positions are interpolated to each image's grid.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from frofa.backbones.navit.attention import ATTENTIONS, BLOCKS, Segments, run_block, segments_of
from frofa.backbones.navit.pooling import POOLS, own_pooling, reduce
from frofa.backbones.navit.positions import Positions, PositionTables, is_naflex, prefix_tokens, project
from frofa.backbones.outputs import Request

Grid = tuple[int, int]


class Places(NamedTuple):
    """Where tokens lie in a sequence in which each image begins with class and register tokens: int64 positions."""

    patches: Tensor
    prefixes: Tensor


class PackedModel:
    """A vision transformer of timm's, in eval mode, over packed images.

    Parameters
    ----------
    module : nn.Module
        `NaFlexVit` or `VisionTransformer`.
    longest : int, default=None
        A bound on the patches of an image, one for all packs.

    Raises
    ------
    ValueError
        If the model is of another kind.
    """

    def __init__(self, module: nn.Module, longest: int | None = None):
        check_supported(module)
        self.module: Any = module
        self._tables = PositionTables(module)
        self._longest = longest
        self._compiled: Any = None

    def __call__(
        self, patches: Tensor, grids: Sequence[Grid], requests: Sequence[Request], *, compiled: bool = False
    ) -> list[Tensor]:
        """Run a pack.

        Parameters
        ----------
        patches : Tensor of shape (T, P * P * 3)
            Normalised, one image after another, each row by row; channels last within a patch.
        grids : sequence of (int, int)
            Of each image; on a GPU in float32, images of one length should follow each other.
        requests : sequence of Request
        compiled : bool
            Compile the blocks, once for all lengths.

        Returns
        -------
        list of Tensor
            For each request, tokens (T, C), or one vector an image (n, C).
        """
        if compiled and self._compiled is None:
            self._compiled = torch.compile(trunk, dynamic=True)
        module, sizes = self.module, [rows * columns for rows, columns in grids]
        prefix = prefix_tokens(module)
        n_prefix = 0 if prefix is None else len(prefix)
        found = [self._tables(grid) for grid in grids]
        x = project(module, patches)
        if found[0].added is not None:
            x = x + torch.cat([positions.added for positions in found if positions.added is not None])
        places = None if prefix is None else places_of(sizes, n_prefix, x.device)
        if prefix is not None and places is not None:
            x = with_prefix(x, prefix, places)
        bound = None if self._longest is None else self._longest + n_prefix
        of_all = segments_of([size + n_prefix for size in sizes], x.device, bound)
        of_patches = of_all if prefix is None else segments_of(sizes, x.device, bound)
        run = self._compiled if compiled else trunk
        layers = sorted({request.layer for request in requests if request.layer is not None})
        kept = [index in layers for index in range(layers[-1] + 1)]
        blocks = run(module.blocks, module.norm_pre(x), ropes_of(found, n_prefix), of_all, kept)
        return [
            self._output(request, blocks[layers.index(request.layer)], of_all, of_patches, places)  # type: ignore[arg-type]
            for request in requests
        ]

    def _output(
        self, request: Request, x: Tensor, of_all: Segments, of_patches: Segments, places: Places | None
    ) -> Tensor:
        x = self.module.norm(x) if request.norm else x
        if request.output == "cls":
            return x[of_all.offsets[:-1].long()]
        patches = x if places is None else x[places.patches]
        if request.output == "pooled":
            return own_pooling(self.module, x, of_all, patches, of_patches)
        return reduce(patches, of_patches, "mean") if request.output == "mean" else patches


def trunk(
    blocks: Sequence[nn.Module], x: Tensor, ropes: Tensor | None, segments: Segments, keep: Sequence[bool]
) -> list[Tensor]:
    """Tokens (T, C) after those of the first blocks that are to be kept.

    They are told by truth values, which a compiler takes as they are: of numbers it makes unknowns.
    """
    kept = []
    for index, wanted in enumerate(keep):
        rope = None if ropes is None else ropes[index if len(ropes) > 1 else 0]
        x = run_block(blocks[index], x, rope, segments)
        if wanted:
            kept.append(x)
    return kept


def ropes_of(positions: Sequence[Positions], n_prefix: int) -> Tensor | None:
    """Rotary positions of a pack (1 or depth, T, 1 or heads, 2 * D); they turn no class or register tokens."""
    parts = []
    for _, rope in positions:
        if rope is None:
            return None
        if n_prefix:
            still = rope.new_zeros(rope.shape[0], n_prefix, *rope.shape[2:])
            still[..., rope.shape[-1] // 2 :] = 1
            parts.append(still)
        parts.append(rope)
    return torch.cat(parts, 1)


def places_of(sizes: Sequence[int], n_prefix: int, device: torch.device) -> Places:
    """Places of images of these numbers of patches."""
    is_prefix = torch.cat([torch.arange(n_prefix + size) < n_prefix for size in sizes])
    return Places(*(which.nonzero()[:, 0].to(device, non_blocking=True) for which in (~is_prefix, is_prefix)))


def with_prefix(x: Tensor, prefix: Tensor, places: Places) -> Tensor:
    """Put class and register tokens (n_prefix, C) before each image's patches."""
    whole = x.new_empty(len(x) + len(places.prefixes), x.shape[1])
    whole[places.patches] = x
    whole[places.prefixes] = prefix.repeat(len(places.prefixes) // len(prefix), 1)
    return whole


def check_supported(module: Any) -> None:
    """Refuse what this forward pass does not compute.

    Raises
    ------
    ValueError
    """
    kind = type(module).__name__
    if kind not in ("NaFlexVit", "VisionTransformer") or not type(module).__module__.startswith("timm."):
        raise ValueError(
            f"max_tokens needs timm's NaFlexVit or VisionTransformer. Got {kind}: choose a naflexvit_* model, or a "
            "plain vit_* one."
        )
    odd = {type(block).__name__ for block in module.blocks} - {*BLOCKS}
    odd |= {type(block.attn).__name__ for block in module.blocks if hasattr(block, "attn")} - {*ATTENTIONS}
    if not is_naflex(module) and type(module.patch_embed).__name__ != "PatchEmbed":
        odd.add(type(module.patch_embed).__name__)
    if getattr(module, "attn_pool", None) is not None and type(module.attn_pool).__name__ != "AttentionPoolLatent":
        odd.add(type(module.attn_pool).__name__)
    if odd:
        raise ValueError(f"max_tokens does not know these parts of a {kind}: {', '.join(sorted(odd))}.")


def check_pooling(module: Any) -> None:
    """Refuse ``output="pooled"`` where a model has no pooling.

    Raises
    ------
    ValueError
    """
    if module.global_pool not in POOLS:
        raise ValueError(
            f"this model has no pooling of its own that max_tokens knows (global_pool={module.global_pool!r}): choose "
            "output='mean'."
        )
