"""Text towers over bytes: ``text.json`` and ``text.safetensors`` beside an image tower in timm's format."""

import math
from pathlib import Path
from typing import Any

from frofa.backbones.checkpoints.config import read_object, shown
from frofa.backbones.checkpoints.huggingface_weights import tensor_names
from frofa.backbones.text.config import TextConfig, checked
from frofa.backbones.text.parts import Parts
from frofa.backbones.text.weights import Layout, load_weights, read_tensors
from frofa.tokenizing.utf8 import ByteTokenizer

CONFIG, WEIGHTS = "text.json", "text.safetensors"
_LAYOUT = Layout(  # of torch.nn.TransformerEncoder
    whole={
        "tok.weight": "token_embedding.weight",
        "pos": "position_embedding",
        "norm.weight": "norm.weight",
        "norm.bias": "norm.bias",
        "proj.weight": "projection.weight",
        "proj.bias": "projection.bias",
    },
    blocks="enc.layers.{}.",
    block={
        "norm1": "norm1",
        "self_attn.out_proj": "proj",
        "norm2": "norm2",
        "linear1": "fc1",
        "linear2": "fc2",
    },
    qkv=("self_attn.in_proj_",),
)
_TRAINED_SCALE = ("t", "b")  # text.json has both as numbers
_BYTES = 256


def load_folder(folder: Path) -> Parts:
    """Load the text tower of a folder; an OSError or ValueError names the file that is missing, or what is wrong."""
    content, file = read_object(folder / CONFIG), folder / WEIGHTS
    config = read_config(content, folder / CONFIG)
    if not file.is_file():
        raise FileNotFoundError(f"{folder} has {CONFIG} but no {WEIGHTS}")
    tensors = read_tensors(dict.fromkeys(tensor_names(file), file), "")
    for name in _TRAINED_SCALE:
        tensors.pop(name, None)
    if "proj.weight" in tensors:  # of as many channels as the images have
        config = config._replace(projection=len(tensors["proj.weight"]))
    module = load_weights(config, tensors, _LAYOUT)
    scale, bias = (_number(content, name, folder / CONFIG) for name in ("logit_scale", "logit_bias"))
    if scale <= 0:
        raise ValueError(f"{folder / CONFIG}: logit_scale must be above 0. Got {scale}")
    tokenizer = ByteTokenizer(config.context, content["pad_id"])
    return Parts(config, module, tokenizer, scale, bias, _templates(content, folder / CONFIG))


def read_config(content: dict[str, Any], where: Path) -> TextConfig:
    """Read the sizes in a ``text.json``."""
    if content.get("architecture") != "byte_text":
        raise ValueError(f"{where}: architecture must be 'byte_text'. Got {shown(content.get('architecture'))}")
    sizes: dict[str, Any] = dict.fromkeys(("vocabulary", "context", "width", "layers", "heads")) | content
    width, ratio = sizes["width"], sizes.get("mlp_ratio", 4)
    hidden = int(width * ratio) if isinstance(width, int) and isinstance(ratio, (int, float)) else ratio
    config = checked(
        TextConfig(
            vocabulary=sizes["vocabulary"],
            context=sizes["context"],
            width=width,
            depth=sizes["layers"],
            heads=sizes["heads"],
            hidden=hidden,
            pooling="mean",  # over the bytes: attention sees the padding, too
            projection=width,
            projection_bias=True,
        ),
        str(where),
    )
    pad_id = content.get("pad_id")
    if isinstance(pad_id, bool) or not isinstance(pad_id, int) or not _BYTES <= pad_id < config.vocabulary:
        raise ValueError(
            f"{where}: pad_id must be an int that is no byte, from {_BYTES} to {config.vocabulary - 1}. Got "
            f"{shown(pad_id)}"
        )
    return config


def _number(content: dict[str, Any], name: str, where: Path) -> float:
    value = content.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{where}: {name} must be a finite number. Got {shown(value)}")
    return float(value)


def _templates(content: dict[str, Any], where: Path) -> tuple[str, ...] | None:
    templates = content.get("templates")
    if templates is None:
        return None
    if not isinstance(templates, list) or not all(isinstance(t, str) and t.count("{}") == 1 for t in templates):
        raise ValueError(f"{where}: templates must be a list of sentences with one '{{}}' each. Got {shown(templates)}")
    return tuple(templates) or None
