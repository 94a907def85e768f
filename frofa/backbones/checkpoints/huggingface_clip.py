"""Vision towers of CLIP in Hugging Face folders: what they have otherwise than SigLIP's, in timm's terms."""

import math
from collections.abc import Mapping
from typing import Any

from frofa.backbones.checkpoints.config import shown

CLIP = ("clip", "clip_vision_model")
DEFAULTS: Mapping[str, Any] = {  # of transformers' CLIPVisionConfig: a config.json holds only what differs
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "vision_use_head": False,
}
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
ARCHITECTURE = "vit_base_patch16_clip_224"
"""A timm name that takes the sizes as arguments; it has the class token, and the norm before the blocks."""


def vision_config(config: Mapping[str, Any]) -> Any:
    """Return what a ``config.json`` says of the vision tower; older ones say it twice, and the second counts."""
    if config.get("model_type") == "clip_vision_model":
        return config
    return config.get("vision_config_dict") or config.get("vision_config") or {}


def geometry(processor: Mapping[str, Any], side: int) -> dict[str, Any]:
    """Read how images are resized and cropped to a square of `side` pixels, as fields of a `pretrained_cfg`.

    A ValueError says what timm's transform cannot do.
    """
    size, crop = processor.get("size", {"shortest_edge": side}), processor.get("crop_size", side)
    square = {"height": side, "width": side}
    # Sizes are objects, or one number: of the shorter side, and of a square.
    is_shortest = isinstance(size, int) or (isinstance(size, dict) and set(size) == {"shortest_edge"})
    if not is_shortest and size == square:
        return {"crop_pct": 1.0, "crop_mode": "squash"}
    crops = processor.get("do_center_crop", True) and crop in (side, square, {"shortest_edge": side})
    if not is_shortest or not crops:
        raise ValueError(
            f"the preprocessor must resize the shorter side and crop to the tower's {side} pixels, or resize to a "
            f"square of these. Got size={shown(size)}, crop_size={shown(crop)}"
        )
    shortest = size if isinstance(size, int) else size["shortest_edge"]
    if not isinstance(shortest, int) or not side <= shortest <= 2 * side:
        raise ValueError(f"the preprocessor's size must be {side} to {2 * side} pixels. Got {shown(shortest)}")
    # timm rounds side / crop_pct down, which may lose a pixel.
    shares = (side / shortest, side / (shortest + 0.5))
    return {"crop_pct": next(s for s in shares if math.floor(side / s) == shortest), "crop_mode": "center"}
