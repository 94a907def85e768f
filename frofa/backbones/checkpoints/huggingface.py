"""Vision towers in Hugging Face folders (SigLIP, SigLIP 2, PaliGemma, CLIP), as timm models with the same weights.

The tower is computed by timm; `transformers` is not needed. The activation is the one that ``config.json`` names: for
all published towers of SigLIP the tanh form of GELU (as in big_vision, whose ``nn.gelu`` is JAX's). Most of timm's own
``vit_*_siglip_*`` names have the exact GELU, so that features of the same weights differ by about 1e-4 of the largest.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from frofa.backbones.checkpoints import huggingface_clip as clip
from frofa.backbones.checkpoints.config import check_preprocessing, read_object, shown
from frofa.backbones.checkpoints.huggingface_weights import projection_width, read_tower_weights, to_timm

HF_PREFIX = "hf-dir:"
_SIGLIP, _NAFLEX = ("siglip", "siglip_vision_model"), ("siglip2", "siglip2_vision_model")
KNOWN = (*_SIGLIP, *_NAFLEX, *clip.CLIP, "paligemma")
_ACTIVATIONS = {"gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh", "gelu": "gelu", "quick_gelu": "quick_gelu"}
_INTERPOLATIONS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers
_PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
_DEFAULTS: dict[str, Any] = {  # of transformers' SiglipVisionConfig: a config.json holds only what differs
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 16,
    "num_patches": 256,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
    "vision_use_head": True,
}
_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "patch_size")


class Tower(NamedTuple):
    """A vision tower in timm's terms: what its ``config.json`` says."""

    architecture: str
    model_args: dict[str, Any]
    pretrained_cfg: dict[str, Any]

    def create(self) -> nn.Module:
        """Create the model with random weights; the global random state is left alone."""
        import timm

        with torch.random.fork_rng(devices=[]):
            module: nn.Module = timm.create_model(
                self.architecture,
                pretrained=False,
                pretrained_cfg=dict(self.pretrained_cfg),
                num_classes=self.pretrained_cfg.get("num_classes", 0),
                **self.model_args,
            )
        return module


def load_tower(folder: Path) -> nn.Module:
    """Load the vision tower of a folder, in float32.

    An OSError or ValueError says which file is missing, what timm's tower cannot do, or where weights and
    ``config.json`` do not agree.
    """
    tower = read_tower(folder)
    pooled = tower.model_args["global_pool"] == "map"
    module = tower.create()
    weights = to_timm(read_tower_weights(folder), tower.model_args["depth"], pooled=pooled)
    # Shapes are compared here, since PyTorch's own message lists every parameter that differs.
    expected = module.state_dict()
    wrong = [
        f"{name} {tuple(weights[name].shape)} where config.json has {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    if wrong:
        raise ValueError(f"weights of other shapes than config.json says: {'; '.join(wrong[:3])}")
    module.load_state_dict(weights, strict=True)
    return module


def read_tower(folder: Path) -> Tower:
    """Read the ``config.json`` and the preprocessor's file of a folder, in timm's terms."""
    config = read_object(folder / "config.json")
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in KNOWN:
        raise ValueError(f"config.json has model_type {kind!r}; known are {', '.join(KNOWN)}")
    given = config if kind.endswith("_vision_model") else config.get("vision_config") or {}
    given = clip.vision_config(config) if kind in clip.CLIP else given
    if not isinstance(given, dict):
        raise ValueError(f"config.json: vision_config must be an object. Got {shown(given)}")
    if kind in clip.CLIP:
        return _read_clip(folder, {**clip.DEFAULTS, **given})
    vision = _DEFAULTS | given
    if kind == "paligemma":
        if vision.get("model_type") != "siglip_vision_model":
            raise ValueError(f"expected a SigLIP vision tower. Got {vision.get('model_type')!r} in vision_config")
        vision["vision_use_head"] = False  # the language model reads the tokens, whatever the file holds
    # NaFlex towers have a grid of positions and no image size of their own; others, the size that they were trained at.
    naflex = kind in _NAFLEX
    side = _image_size(vision, naflex=naflex)
    arguments = _common_arguments(vision)
    if naflex:
        grid = side // vision["patch_size"]
        arguments["pos_embed_grid_size"] = [grid, grid]
    else:
        arguments |= {"img_size": side, "class_token": False, "fc_norm": False}
    return Tower(_architecture(arguments, naflex=naflex), arguments, _preprocessing(folder, side, naflex=naflex))


def _read_clip(folder: Path, vision: Mapping[str, Any]) -> Tower:
    """CLIP's tower, with its projection into the space of texts as a last layer where the weights hold one."""
    side = _image_size(vision, naflex=False)
    arguments = _common_arguments(vision, eps=1e-5) | {"img_size": side, "global_pool": "token"}
    preprocessing = _preprocessing(folder, side, of_clip=True) | {"num_classes": projection_width(folder) or 0}
    return Tower(clip.ARCHITECTURE, arguments, preprocessing)


def _architecture(arguments: Mapping[str, Any], *, naflex: bool) -> str:
    """A timm name that takes the sizes as arguments."""
    if naflex:
        return "naflexvit_base_patch16_siglip"
    # Weights of timm's names with "siglip" are loaded strictly only where they have the pooling head.
    return "vit_base_patch16_siglip_224" if arguments["global_pool"] == "map" else "vit_base_patch16_224"


def _common_arguments(vision: Mapping[str, Any], eps: float = 1e-6) -> dict[str, Any]:
    """Arguments of timm's model, of either kind; refuse what it cannot do."""
    for name in _SIZES:
        if not isinstance(vision[name], int) or vision[name] < 1:
            raise ValueError(f"config.json: {name} must be a positive int. Got {shown(vision[name])}")
    if not isinstance(vision["hidden_act"], str) or vision["hidden_act"] not in _ACTIVATIONS:
        raise ValueError(f"hidden_act must be one of {', '.join(_ACTIVATIONS)}. Got {vision['hidden_act']!r}")
    for name, expected in (("layer_norm_eps", eps), ("num_channels", 3)):
        if vision[name] != expected:
            raise ValueError(f"{name} must be {expected}. Got {vision[name]}")
    width, hidden = vision["hidden_size"], vision["intermediate_size"]
    return {
        "patch_size": vision["patch_size"],
        "embed_dim": width,
        "depth": vision["num_hidden_layers"],
        "num_heads": vision["num_attention_heads"],
        # timm rounds width * ratio down, which may lose one.
        "mlp_ratio": next(ratio for ratio in (hidden / width, (hidden + 0.5) / width) if int(width * ratio) == hidden),
        "act_layer": _ACTIVATIONS[vision["hidden_act"]],
        "global_pool": "map" if vision["vision_use_head"] else "avg",
    }


def _image_size(vision: Mapping[str, Any], *, naflex: bool) -> int:
    """Side of the image in pixels; of NaFlex towers, that which has as many patches as they have positions."""
    for name in ("patch_size", "num_patches" if naflex else "image_size"):
        if not isinstance(vision[name], int) or vision[name] < 1:
            raise ValueError(f"{name} must be an int above 0, of square images and patches. Got {shown(vision[name])}")
    if not naflex:
        return int(vision["image_size"])
    grid = round(vision["num_patches"] ** 0.5)
    if grid**2 != vision["num_patches"]:
        raise ValueError(f"num_patches must be a square number. Got {vision['num_patches']}")
    return int(grid * vision["patch_size"])


def _preprocessing(folder: Path, side: int, *, naflex: bool = False, of_clip: bool = False) -> dict[str, Any]:
    """Read the image processor's file as timm's `pretrained_cfg`.

    Images are resized to a square without regard to their aspect ratio, as SigLIP was evaluated. The NaFlex processor,
    which keeps the aspect ratio, has no image size: at a fixed size, its towers take the square of as many patches as
    they have positions. CLIP's images keep their aspect ratio, and are cropped.
    """
    processor = _read_processor(folder)
    # What timm's transform cannot do is refused: features would be wrong without a sign of it.
    size = {"height": side, "width": side}
    if not naflex and not of_clip and processor.get("size", size) != size:
        raise ValueError(f"the preprocessor resizes to {processor['size']}; the tower's image_size is {side}")
    cropping = clip.geometry(processor, side) if of_clip else {"crop_pct": 1.0, "crop_mode": "squash"}
    for name in ("do_pad",) if of_clip else ("do_center_crop", "do_pad"):
        if processor.get(name):
            raise ValueError(f"the preprocessor's {name} is no part of the model's preprocessing, and not supported")
    for name in ("do_resize", "do_rescale", "do_normalize"):
        if processor.get(name) is False:
            raise ValueError(f"the preprocessor has {name} switched off, which is not supported")
    factor = processor.get("rescale_factor", 1 / 255)
    if not isinstance(factor, float) or not abs(factor * 255 - 1) <= 1e-6:
        raise ValueError(f"the preprocessor's rescale_factor must be 1/255. Got {shown(factor)}")
    resample = processor.get("resample", 2 if naflex else 3)
    if not isinstance(resample, int) or resample not in _INTERPOLATIONS:
        raise ValueError(f"the preprocessor's resample must be one of {list(_INTERPOLATIONS)}. Got {resample!r}")
    normalisation = {"mean": processor.get("image_mean"), "std": processor.get("image_std")}
    check_preprocessing(normalisation, "the preprocessor's file", {"mean": "image_mean", "std": "image_std"})
    return {
        "input_size": [3, side, side],
        "interpolation": _INTERPOLATIONS[resample],
        "mean": list(normalisation["mean"] or (clip.MEAN if of_clip else [0.5] * 3)),
        "std": list(normalisation["std"] or (clip.STD if of_clip else [0.5] * 3)),
        **cropping,
        "num_classes": 0,
    }


def _read_processor(folder: Path) -> dict[str, Any]:
    for name in _PREPROCESSORS:
        # A processor_config.json may say nothing of images.
        if (folder / name).is_file():
            content = read_object(folder / name)
            content = content.get("image_processor", content) if name == "processor_config.json" else content
            if name == "preprocessor_config.json" or content.get("image_processor_type"):
                return content
    raise FileNotFoundError(f"{folder} has no {' and no '.join(_PREPROCESSORS)}, which say how images are prepared")
