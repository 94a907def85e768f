"""Folders as open_clip writes them: configuration, weights, and the image tower as a timm model."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from frofa.backbones.checkpoints.config import INTERPOLATIONS, check_preprocessing, read_object, shown
from frofa.backbones.checkpoints.huggingface_weights import tensor_names

CONFIG = "open_clip_config.json"
MODEL = f"{CONFIG}: model_cfg"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
LEGACY = ("input_resolution", "context_length", "vocab_size")
"""Numbers that OpenAI's own files hold beside the weights."""
_PLAIN_VIT = "vit_base_patch16_clip_224"
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_RESIZING = {"shortest": "center", "squash": "squash", "longest": "border"}  # open_clip's resize_mode, timm's crop_mode
_UNKNOWN: Mapping[str, Any] = {  # settings of image towers that timm's converter does not know, with what means none
    "attentional_pool": False,
    "no_ln_pre": False,
    "final_ln_after_pool": False,
    "pos_embed_type": "learnable",
    "pool_type": "tok",
    "ls_init_value": None,
    "act_kwargs": None,
    "norm_kwargs": None,
    "block_type": None,
    "qk_norm": False,
    "scaled_cosine_attn": False,
    "scale_heads": False,
    "scale_attn_inner": False,
    "scale_attn": False,
    "scale_fc": False,
}


def is_open_clip(folder: Path) -> bool:
    """Whether a folder is to be read as open_clip's: a ``config.json`` of timm's beside its own comes first."""
    if not (folder / CONFIG).is_file():
        return False
    config = folder / "config.json"
    return not config.is_file() or "architecture" not in read_object(config)


def read_model(folder: Path) -> dict[str, Any]:
    """Read the `model_cfg` of a folder."""
    model = read_object(folder / CONFIG).get("model_cfg")
    if not isinstance(model, dict):
        raise ValueError(f"{MODEL} must be an object. Got {shown(model)}")
    return model


def open_clip_files(folder: Path) -> dict[str, Path]:
    """The file of each tensor; an OSError says which are looked for, a ValueError that one is damaged."""
    file = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise FileNotFoundError(f"{folder} has no {' and no '.join(WEIGHTS)} (weights as .bin and .pt are not read)")
    return dict.fromkeys(tensor_names(file), file)


def load_image_tower(folder: Path) -> nn.Module:
    """Load the image tower of a folder as a timm model, in float32; its classifier is the projection, if it has one.

    An OSError or ValueError says which file is missing or damaged, or what of the tower timm does not know.
    """
    model, preprocessing = read_model(folder), read_preprocessing(folder)
    tensors = _image_tensors(folder)
    module = _create(model, preprocessing)
    from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

    if not isinstance(module, VisionTransformer):
        raise ValueError(f"only vision transformers are read from folders of open_clip. Got {type(module).__name__}")
    # timm's own names; what does not fit is named by the strict loading.
    module.load_state_dict(checkpoint_filter_fn(tensors, module), strict=True)
    return module


def read_preprocessing(folder: Path) -> dict[str, Any]:
    """Read the `preprocess_cfg` of a folder as timm's `pretrained_cfg`; what is absent is as OpenAI's CLIP has it."""
    given = read_object(folder / CONFIG).get("preprocess_cfg") or {}
    where = f"{CONFIG}: preprocess_cfg"
    if not isinstance(given, dict):
        raise ValueError(f"{where} must be an object. Got {shown(given)}")
    mode, interpolation = given.get("resize_mode", "shortest"), given.get("interpolation", "bicubic")
    if mode not in _RESIZING:
        raise ValueError(f"{where}: resize_mode must be one of {', '.join(_RESIZING)}. Got {shown(mode)}")
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"{where}: interpolation must be one of {', '.join(INTERPOLATIONS)}. Got {interpolation!r}")
    mean, std = given.get("mean") or _MEAN, given.get("std") or _STD
    check_preprocessing({"mean": mean, "std": std}, where)
    return {
        "mean": list(mean),
        "std": list(std),
        "interpolation": interpolation,
        "crop_pct": 1.0,
        "crop_mode": _RESIZING[mode],
    }


def _create(model: Mapping[str, Any], preprocessing: dict[str, Any]) -> nn.Module:
    vision, channels = model.get("vision_cfg"), model.get("embed_dim")
    if not isinstance(vision, dict) or not isinstance(channels, int) or isinstance(channels, bool) or channels < 1:
        raise ValueError(f"{MODEL} must have an int embed_dim and a vision_cfg. Got {shown(dict(model))}")
    side = vision.get("image_size", 224)
    if not isinstance(side, int) or side < 1:
        raise ValueError(f"{MODEL}: image_size must be an int above 0. Got {shown(side)}")
    name, arguments = _of_timm(vision, channels) if vision.get("timm_model_name") else _plain(model, vision, channels)
    import timm

    if not timm.is_model(name):
        raise ValueError(f"{MODEL}: timm_model_name must be a model of timm's. Got {shown(name)}")
    config = preprocessing | {"input_size": [3, side, side], "num_classes": arguments["num_classes"]}
    with torch.random.fork_rng(devices=[]):
        module: nn.Module = timm.create_model(name, pretrained=False, pretrained_cfg=config, img_size=side, **arguments)
    return module


def _of_timm(vision: Mapping[str, Any], channels: int) -> tuple[str, dict[str, Any]]:
    """The name and arguments of a tower that is timm's already."""
    projection, pooling = vision.get("timm_proj", "linear"), vision.get("timm_pool", "avg")
    if projection not in ("none", "", None) or pooling not in ("map", "token", "avg", ""):
        raise ValueError(f"{MODEL}: timm_pool={pooling!r} with timm_proj={projection!r} is not supported")
    pool = {"global_pool": pooling} if pooling else {}
    return str(vision["timm_model_name"]), {"num_classes": 0 if projection == "none" else channels, **pool}


def _plain(model: Mapping[str, Any], vision: Mapping[str, Any], channels: int) -> tuple[str, dict[str, Any]]:
    """The name and arguments of timm's model of CLIP's own vision transformer."""
    if isinstance(vision.get("layers"), list):
        raise ValueError(f"{MODEL}: CLIP's ResNets are read under timm's names alone, such as 'resnet50_clip.openai'")
    for name, plain in _UNKNOWN.items():
        if vision.get(name, plain) not in (plain, None):
            raise ValueError(f"{MODEL}: an image tower with {name}={shown(vision[name])} is not supported")
    sizes = {"layers": 12, "width": 768, "patch_size": 16, "head_width": 64} | dict(vision)
    for name in ("layers", "width", "patch_size", "head_width"):
        if not isinstance(sizes[name], int) or not 1 <= sizes[name] <= 2**16:
            raise ValueError(f"{MODEL}: {name} of vision_cfg must be an int above 0. Got {shown(sizes[name])}")
    width, head = sizes["width"], sizes["head_width"]
    if width % head:
        raise ValueError(f"{MODEL}: head_width {head} does not divide the width {width}")
    return _PLAIN_VIT, {
        "patch_size": sizes["patch_size"],
        "embed_dim": width,
        "depth": sizes["layers"],
        "num_heads": width // head,
        "mlp_ratio": sizes.get("mlp_ratio", 4.0),
        "num_classes": channels,
        "norm_layer": partial(nn.LayerNorm, eps=1e-5),
        "act_layer": "quick_gelu" if model.get("quick_gelu") else "gelu",
    }


def _image_tensors(folder: Path) -> dict[str, Tensor]:
    from safetensors import safe_open

    files = open_clip_files(folder)
    with safe_open(next(iter(files.values())), "pt") as content:
        return {name: content.get_tensor(name).to(torch.float32) for name in files if name.startswith("visual.")}
