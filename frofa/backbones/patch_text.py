"""Patches and words: what each patch adds to an image's score for a text, and patches in the space of words."""

from typing import Any

import torch
from torch import Tensor, nn

from frofa.backbones.backbone import Backbone
from frofa.backbones.navit.backbone import NativeBackbone
from frofa.backbones.outputs import Request, number_of_blocks, run_blocks
from frofa.backbones.pooling import CLASS_TOKEN, MEAN, MEAN_OF_ALL

AT_ONCE = 2**15
"""Tokens that go through the last layers at once."""


def patch_vectors(backbone: Backbone, images: Tensor) -> Tensor:
    """Compute vectors of patches that can be compared with texts.

    Of a model with an attention-pooling head (SigLIP), the head is given one patch at a time: attention to a single
    token is 1, so that this is the token through value, output projection, norm and MLP. Of a model whose vector is the
    class token (CLIP), the last block is given one patch at a time, in the same way, and what comes out is normalised
    and projected as the class token is: this is MaskCLIP. Where tokens are averaged, each is taken as the average.

    Parameters
    ----------
    backbone : Backbone
        Of a vision transformer with the output ``"projected"``.
    images : Tensor of shape (n, 3, H, W) or uint8 (n, H, W, 3)
        As `Backbone.extract` takes them.

    Returns
    -------
    Tensor of shape (n, N, D), float32
        On the backbone's device; patches row by row. Not normalised.

    Raises
    ------
    ValueError
        If the model has no space of words, or its patches cannot be brought there.

    References
    ----------
    Zhou, Loy and Dai, "Extract free dense labels from CLIP", ECCV 2022 (arXiv:2112.01071), section 3.2.
    """
    check_patches(backbone)
    module, layout = backbone.module, backbone.layout
    with torch.inference_mode():
        images = _ready(backbone, images)
        if backbone.pooling.kind == CLASS_TOKEN:
            last = module.blocks[-1]  # type: ignore[index]
            request = Request("tokens", _depth(backbone) - 2, False)
            _, found = run_blocks(module, layout, images, [request], with_final=False)
            tokens, layers = found[request.layer, False].patches, nn.Sequential(last, module.norm)  # type: ignore[arg-type]
        else:
            tokens, layers = layout.split(module.forward_features(images))[1], nn.Sequential()  # type: ignore[operator]
        n, n_patches, channels = tokens.shape
        # Each patch is a sequence of its own, (n N, 1, C).
        parts = tokens.reshape(-1, 1, channels).split(AT_ONCE)
        vectors = torch.cat([_pooled(module, layers(part), layout.is_projection_own) for part in parts])
        return vectors.reshape(n, n_patches, -1).float()


def patch_contributions(backbone: Backbone, images: Tensor, texts: Tensor) -> Tensor:
    """Compute what each patch adds to the cosine of an image and a text.

    The vector of an image is made of the values of its patches, weighed by the last attention: that of the pooling head
    (SigLIP), or of the class token in the last block (CLIP). Each patch's value times the gradient of the cosine with
    respect to it is its part of the score, negative where it speaks against the text. Where tokens are averaged, each
    token takes the place of its value.

    Parameters
    ----------
    backbone : Backbone
        As of `patch_vectors`.
    images : Tensor of shape (n, 3, H, W) or uint8 (n, H, W, 3)
    texts : Tensor of shape (m, D), or (n, m, D)
        The same texts for all images, or each image's own.

    Returns
    -------
    Tensor of shape (n, m, N), float32
        On the backbone's device; patches row by row.

    Raises
    ------
    ValueError
        If the model has no space of words, or its last attention is not one of timm's.

    References
    ----------
    Zhao et al., "Gradient-based visual explanation for transformer-based CLIP", ICML 2024: the same, with looser
    weights in the place of attention.
    """
    check_patches(backbone)
    module: Any = backbone.module
    layer, parts = _values_of(backbone)
    leaves: list[Tensor] = []

    def cut(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        leaves.append(output.detach().requires_grad_())
        return leaves[-1]

    handle = layer.register_forward_hook(cut)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            features = module.forward_features(_ready(backbone, images).clone())
            vectors = module.forward_head(features, pre_logits=not backbone.layout.is_projection_own)
            cosines = nn.functional.normalize(vectors.float(), dim=1)[:, None]
            cosines = (cosines * nn.functional.normalize(texts.clone().to(vectors.device), dim=-1)).sum(2)
            return torch.stack(
                [_part(cosines[:, i].sum(), leaves, parts, backbone) for i in range(cosines.shape[1])], 1
            )
    finally:
        handle.remove()


def check_patches(backbone: Backbone) -> None:
    """Raise a ValueError if the patches of a model cannot be brought into the space of words."""
    layout = backbone.layout
    if "projected" not in layout.widths:
        why = layout.lacking.get("projected", "it was not trained with texts")
        raise ValueError(f"{backbone.name} has no space of words: {why}.")
    if isinstance(backbone, NativeBackbone):
        raise ValueError("patches are compared with words for images of one size. Got max_tokens.")
    depth = number_of_blocks(backbone.module)
    kind = backbone.pooling.kind
    with_head = getattr(backbone.module, "attn_pool", None) is not None
    averaged = kind in (MEAN, MEAN_OF_ALL) and not layout.n_prefix
    if not depth or "tokens" not in layout.widths or not (with_head or averaged or (kind == CLASS_TOKEN and depth > 1)):
        raise ValueError(
            f"patches of {backbone.name}, a {type(backbone.module).__name__}, cannot be compared with words: its "
            f"vector is {kind}. Expected a vision transformer with an attention-pooling head, a class token, or an "
            "average of patches."
        )


def _depth(backbone: Backbone) -> int:
    return number_of_blocks(backbone.module) or 0


def _pooled(module: Any, tokens: Tensor, is_projected: bool) -> Tensor:
    """Give sequences of one patch (m, 1, C) to the model's own pooling and projection, (m, D)."""
    n_prefix = int(getattr(module, "num_prefix_tokens", 0))
    has_head, takes_prefix = (getattr(module, name, None) for name in ("attn_pool", "pool_include_prefix"))
    if has_head is not None and n_prefix and not takes_prefix:
        # The head cuts off what stands before the patches.
        tokens = torch.cat([tokens.new_zeros(len(tokens), n_prefix, tokens.shape[2]), tokens], 1)
    pooled: Tensor = module.forward_head(tokens, pre_logits=not is_projected)
    return pooled


def _ready(backbone: Backbone, images: Tensor) -> Tensor:
    images = images.to(backbone.device)
    return backbone.preprocessing.normalise(images) if images.dtype == torch.uint8 else images


def _values_of(backbone: Backbone) -> tuple[nn.Module, int]:
    """Find the layer that makes the values of the last attention, and in how many equal parts they are the last one."""
    module: Any = backbone.module
    if getattr(module, "attn_pool", None) is not None:
        layer, parts = getattr(module.attn_pool, "kv", None), 2
    elif backbone.pooling.kind == CLASS_TOKEN:
        attention = getattr(module.blocks[-1], "attn", None)
        alone = getattr(attention, "v_proj", None)
        layer, parts = (alone, 1) if alone is not None else (getattr(attention, "qkv", None), 3)
    else:
        layer, parts = module.norm, 1
    if not isinstance(layer, nn.Module):
        raise ValueError(_without_values(backbone))
    return layer, parts


def _part(score: Tensor, leaves: list[Tensor], parts: int, backbone: Backbone) -> Tensor:
    """Multiply values by the gradient of a score, summed over images, with respect to them, (n, N)."""
    if not leaves:  # the attention computes with the layer's weights, and not through it
        raise ValueError(_without_values(backbone))
    [gradient] = torch.autograd.grad(score, leaves[-1], retain_graph=True)
    channels = gradient.shape[2] // parts
    both = (gradient * leaves[-1])[:, :, -channels:].sum(2).detach()
    rows, columns = backbone.layout.grid or (1, both.shape[1])
    return both[:, -rows * columns :].float()  # class and register tokens come before the patches


def _without_values(backbone: Backbone) -> str:
    return (
        f"what patches of {backbone.name}, a {type(backbone.module).__name__}, add to its vector cannot be read from "
        "its last attention. Compare patches by themselves: method='patches'."
    )
