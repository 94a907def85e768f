"""Soft mixtures of experts: vision transformers with the layer of Puigcerver et al. (2024), as models of timm.

Importing this module registers ``soft_moe_vit_*`` with timm. Loading a backbone by frofa does so; who calls
`timm.create_model` or `timm.list_models` directly imports it first.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from timm.layers import get_act_layer
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from frofa.compute.experts import batched_linear, unit_norm

__all__ = ["ExpertLinear", "SoftMoE", "SoftMoEVisionTransformer"]  # timm adds the names that are registered


class ExpertLinear(nn.Module):
    """A linear layer for each expert.

    Parameters
    ----------
    num_experts : int
        Number of experts.
    in_features, out_features : int
        Channels of an expert's input and output.

    Attributes
    ----------
    weight : Parameter of shape (num_experts, out_features, in_features)
    bias : Parameter of shape (num_experts, out_features)
    """

    def __init__(self, num_experts: int, in_features: int, out_features: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_experts, out_features, in_features))
        self.bias = nn.Parameter(torch.empty(num_experts, out_features))
        self.init_weights()

    @torch.no_grad()
    def init_weights(self) -> None:
        """Draw each expert's weights as those of the reference's dense MLP."""
        bound = math.sqrt(6 / (self.weight.shape[1] + self.weight.shape[2]))
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.normal_(self.bias, std=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Map (num_experts, rows, in_features) to (num_experts, rows, out_features)."""
        return batched_linear(x, self.weight, self.bias)


class SoftMoE(nn.Module):
    """A layer of experts that each see weighted means of an image's tokens: nothing is dropped, all is differentiable.

    Router weights come from tokens and slot parameters of unit norm; what is dispatched are the tokens as they are.
    Every expert is an MLP, and all experts are computed by one batched product.

    Parameters
    ----------
    dim : int
        Channels of a token.
    hidden_features : int
        Width of each expert's MLP.
    num_experts : int, default=128
        Number of experts.
    slots_per_expert : int, default=1
        Means of tokens that each expert sees.
    act_layer : callable, default=nn.GELU
        Makes the activation.
    drop : float, default=0.0
        Dropout in the experts.

    Attributes
    ----------
    mu : Parameter of shape (dim, num_experts, slots_per_expert)
    scale : Parameter of shape ()

    References
    ----------
    Puigcerver et al., "From Sparse to Soft Mixtures of Experts", ICLR 2024, section 2.1; google-research/vmoe,
    ``projects/soft_moe/router.py``.

    Examples
    --------
    >>> import torch
    >>> from frofa.soft_moe import SoftMoE
    >>> with torch.random.fork_rng():  # as all layers of torch, it draws its weights from the global generator
    ...     layer = SoftMoE(16, 32, num_experts=4)
    >>> layer(torch.zeros(2, 9, 16)).shape
    torch.Size([2, 9, 16])
    """

    def __init__(
        self,
        dim: int,
        hidden_features: int,
        num_experts: int = 128,
        slots_per_expert: int = 1,
        act_layer: Callable[[], nn.Module] = nn.GELU,
        drop: float = 0.0,
    ):
        super().__init__()
        self.num_experts, self.slots_per_expert = num_experts, slots_per_expert
        self.mu = nn.Parameter(torch.empty(dim, num_experts, slots_per_expert))
        self.scale = nn.Parameter(torch.empty(()))
        self.fc1 = ExpertLinear(num_experts, dim, hidden_features)
        self.act = act_layer()
        self.fc2 = ExpertLinear(num_experts, hidden_features, dim)
        self.drop = nn.Dropout(drop)
        self.init_weights()

    @torch.no_grad()
    def init_weights(self) -> None:
        """Draw the slot parameters, whose norm does not matter; the scale starts at 1."""
        nn.init.normal_(self.mu, std=len(self.mu) ** -0.5)
        nn.init.ones_(self.scale)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (n, N, dim) to (n, N, dim)."""
        # Router: cosines of tokens and slots, scaled, (n, N, experts * slots an expert).
        slots = (self.scale * unit_norm(self.mu, 0)).flatten(1)
        logits = unit_norm(x, -1) @ slots.to(x.dtype)
        # Dispatch: each slot sees a mean of the image's tokens, weighted by a softmax over them, (n, slots, dim).
        dispatched = logits.softmax(1).mT @ x
        # Experts first, (experts, n, slots an expert, dim), so that all MLPs are one batched product.
        per_expert = dispatched.unflatten(1, (self.num_experts, -1)).transpose(0, 1)
        seen = self.drop(self.act(self.fc1(per_expert.flatten(1, 2))))
        # Combine: each token gets a mean of the slots' outputs, weighted by a softmax over all slots.
        outputs = self.drop(self.fc2(seen)).view_as(per_expert).transpose(0, 1).flatten(1, 2)
        combined: Tensor = logits.softmax(2) @ outputs
        return combined


class SoftMoEVisionTransformer(VisionTransformer):
    """A vision transformer whose last blocks have a `SoftMoE` in place of the MLP.

    Parameters
    ----------
    num_experts, slots_per_expert : int
        As in `SoftMoE`.
    moe_blocks : int, default=None
        How many of the last blocks; None is half of them, rounded down.
    **kwargs
        Parameters of timm's `VisionTransformer`.
    """

    def __init__(
        self, *, num_experts: int = 128, slots_per_expert: int = 1, moe_blocks: int | None = None, **kwargs: Any
    ):
        depth: int = kwargs.get("depth", 12)
        moe_blocks = depth // 2 if moe_blocks is None else moe_blocks
        for name, value in {"num_experts": num_experts, "slots_per_expert": slots_per_expert}.items():
            if value < 1:
                raise ValueError(f"{name} must be 1 or more. Got {value}.")
        if not 0 <= moe_blocks <= depth:
            raise ValueError(f"moe_blocks must be 0 to {depth}, the blocks of the model. Got {moe_blocks}.")
        if kwargs.get("fix_init"):
            raise ValueError("fix_init scales the MLPs of dense blocks only: a model with experts has none. Got True.")
        super().__init__(**kwargs)
        act_layer = get_act_layer(kwargs.get("act_layer")) or nn.GELU
        # After timm has drawn all weights: the dense MLPs that are replaced here are thrown away.
        for block in list(self.blocks)[depth - moe_blocks :]:
            hidden = int(self.embed_dim * kwargs.get("mlp_ratio", 4.0))
            drop = kwargs.get("proj_drop_rate", 0.0)
            block.mlp = SoftMoE(self.embed_dim, hidden, num_experts, slots_per_expert, act_layer, drop)


def _cfg(**kwargs: Any) -> dict[str, Any]:
    """Preprocessing of the reference: pixels from -1 to 1."""
    half = (0.5, 0.5, 0.5)
    return {
        "url": "",
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": None,
        "crop_pct": 0.9,
        "interpolation": "bicubic",
        "fixed_input_size": True,
        "mean": half,
        "std": half,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
        **kwargs,
    }


default_cfgs = generate_default_cfgs(
    {
        "soft_moe_vit_tiny_patch16": _cfg(input_size=(3, 64, 64), num_classes=10),
        "soft_moe_vit_small_patch16": _cfg(),
        "soft_moe_vit_small_patch14": _cfg(),
        "soft_moe_vit_base_patch16": _cfg(),
        "soft_moe_vit_large_patch16": _cfg(),
        "soft_moe_vit_huge_patch14": _cfg(),
    }
)


def _create(variant: str, pretrained: bool, model_args: dict[str, Any]) -> SoftMoEVisionTransformer:
    """Build a model as timm does; without a checkpoint that the caller names there are no weights to load."""
    # timm hands a checkpoint on as a config object or dict; a string only names one of the tags, which have no weights.
    source = model_args.get("pretrained_cfg"), model_args.get("pretrained_cfg_overlay")
    if pretrained and not any(given and not isinstance(given, str) for given in source):
        raise RuntimeError(
            f"no weights of {variant} were ever published, nor of any other Soft MoE: name a checkpoint of your own as "
            "'local-dir:PATH' (timm.models.save_for_hf writes such a folder), or create the model with pretrained=False"
        )
    # Settings of the reference, which those of the caller override.
    reference = {
        "class_token": False,
        "global_pool": "avg",
        "fc_norm": False,
        "qk_norm": True,
        "act_layer": "gelu_tanh",
    }
    out_indices = model_args.pop("out_indices", 3)
    model: SoftMoEVisionTransformer = build_model_with_cfg(
        SoftMoEVisionTransformer,
        variant,
        pretrained,
        pretrained_filter_fn=checkpoint_filter_fn,
        feature_cfg={"out_indices": out_indices, "feature_cls": "getter"},
        **{**reference, **model_args},
    )
    return model


@register_model
def soft_moe_vit_tiny_patch16(pretrained: bool = False, **kwargs: Any) -> SoftMoEVisionTransformer:
    """Make a small Soft MoE for tests: 64 channels, 4 blocks, 8 experts in the last 2, images of 64 pixels."""
    shape = {"img_size": 64, "patch_size": 16, "embed_dim": 64, "depth": 4, "num_heads": 2, "num_experts": 8}
    return _create("soft_moe_vit_tiny_patch16", pretrained, {**shape, **kwargs})


@register_model
def soft_moe_vit_small_patch16(pretrained: bool = False, **kwargs: Any) -> SoftMoEVisionTransformer:
    """Soft MoE S/16: 128 experts in the last 6 of 12 blocks."""
    shape = {"patch_size": 16, "embed_dim": 384, "depth": 12, "num_heads": 6, "num_experts": 128}
    return _create("soft_moe_vit_small_patch16", pretrained, {**shape, **kwargs})


@register_model
def soft_moe_vit_small_patch14(pretrained: bool = False, **kwargs: Any) -> SoftMoEVisionTransformer:
    """Soft MoE S/14: 256 experts in the last 6 of 12 blocks."""
    shape = {"patch_size": 14, "embed_dim": 384, "depth": 12, "num_heads": 6, "num_experts": 256}
    return _create("soft_moe_vit_small_patch14", pretrained, {**shape, **kwargs})


@register_model
def soft_moe_vit_base_patch16(pretrained: bool = False, **kwargs: Any) -> SoftMoEVisionTransformer:
    """Soft MoE B/16: 128 experts in the last 6 of 12 blocks."""
    shape = {"patch_size": 16, "embed_dim": 768, "depth": 12, "num_heads": 12, "num_experts": 128}
    return _create("soft_moe_vit_base_patch16", pretrained, {**shape, **kwargs})


@register_model
def soft_moe_vit_large_patch16(pretrained: bool = False, **kwargs: Any) -> SoftMoEVisionTransformer:
    """Soft MoE L/16: 128 experts in the last 12 of 24 blocks."""
    shape = {"patch_size": 16, "embed_dim": 1024, "depth": 24, "num_heads": 16, "num_experts": 128}
    return _create("soft_moe_vit_large_patch16", pretrained, {**shape, **kwargs})


@register_model
def soft_moe_vit_huge_patch14(pretrained: bool = False, **kwargs: Any) -> SoftMoEVisionTransformer:
    """Soft MoE H/14: 256 experts in the last 16 of 32 blocks."""
    shape = {"patch_size": 14, "embed_dim": 1280, "depth": 32, "num_heads": 16, "num_experts": 256}
    return _create("soft_moe_vit_huge_patch14", pretrained, {**shape, **kwargs})
