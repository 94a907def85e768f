"""Text towers in folders of open_clip: CLIP, SigLIP and those of the same transformer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frofa.backbones.checkpoints.config import shown
from frofa.backbones.checkpoints.open_clip import LEGACY, MODEL, open_clip_files, read_model
from frofa.backbones.text.config import TextConfig, checked, object_in
from frofa.backbones.text.parts import Parts
from frofa.backbones.text.weights import Layout, load_weights, read_tensors, scalar, scale_of
from frofa.tokenizing.loading import load_tokenizer

_LAYOUT = Layout(
    whole={
        "token_embedding.weight": "token_embedding.weight",
        "positional_embedding": "position_embedding",
        "ln_final.weight": "norm.weight",
        "ln_final.bias": "norm.bias",
    },
    blocks="transformer.resblocks.{}.",
    block={
        "ln_1": "norm1",
        "attn.out_proj": "proj",
        "ln_2": "norm2",
        "mlp.c_fc": "fc1",
        "mlp.c_proj": "fc2",
    },
    qkv=("attn.in_proj_",),
)
_OUTSIDE = ("logit_scale", "logit_bias")
_UNKNOWN: Mapping[str, Any] = {  # settings of towers that are computed otherwise, with the values that change nothing
    "hf_model_name": None,
    "embed_cls": False,
    "ls_init_value": None,
    "final_ln_after_pool": False,
    "block_type": None,
    "qk_norm": False,
    "scaled_cosine_attn": False,
    "scale_heads": False,
    "scale_attn_inner": False,
    "scale_attn": False,
    "scale_fc": False,
}
_POOLINGS = ("first", "last", "argmax", "eos")


def load_folder(folder: Path) -> Parts:
    """Load the text tower of a folder, in float32, and its tokenizer.

    An OSError or ValueError says which file is missing, what of the tower is not known, or where weights and
    ``open_clip_config.json`` do not agree.
    """
    config = read_config(read_model(folder))
    files = open_clip_files(folder)
    # CLIP has its text tower's tensors beside the rest, CustomTextCLIP below a name.
    below = "text." if any(name.startswith("text.") for name in files) else ""
    ours = {name: file for name, file in files.items() if below or not name.startswith(("visual.", *LEGACY))}
    tensors = read_tensors(ours, below, _OUTSIDE)
    scale, bias = (tensors.pop(name, None) for name in _OUTSIDE)
    tensors.pop("attn_mask", None)
    head = {}
    if config.projection is not None:
        head = {"text_projection.weight": "projection.weight", "text_projection.bias": "projection.bias"}
        if not config.projection_bias:
            del head["text_projection.bias"]
        if "text_projection" in tensors:  # a matrix (W, D), where a linear layer has (D, W)
            tensors["text_projection.weight"] = tensors.pop("text_projection").T.contiguous()
    module = load_weights(config, tensors, _LAYOUT._replace(whole={**_LAYOUT.whole, **head}))
    tokenizer = load_tokenizer(folder, "open_clip", config.context)
    return Parts(config, module, tokenizer, scale_of(scale), scalar(bias, "logit_bias"))


def read_config(model: Mapping[str, Any]) -> TextConfig:
    """Read the `model_cfg` of an ``open_clip_config.json``; defaults are those of open_clip's `CLIPTextCfg`."""
    where = f"{MODEL}'s text_cfg"
    text = object_in(model, "text_cfg", MODEL)
    for name, plain in _UNKNOWN.items():
        if text.get(name, plain) not in (plain, None):
            raise ValueError(f"{where}: a tower with {name}={shown(text[name])} is not supported")
    pooling, projection = text.get("pool_type", "argmax"), text.get("proj_type", "linear")
    if pooling not in _POOLINGS:
        raise ValueError(f"{where}: pool_type must be one of {', '.join(_POOLINGS)}. Got {shown(pooling)}")
    if projection not in ("linear", "none"):
        raise ValueError(f"{where}: proj_type must be 'linear' or 'none'. Got {shown(projection)}")
    width, ratio = text.get("width", 512), text.get("mlp_ratio", 4.0)
    config = TextConfig(
        vocabulary=text.get("vocab_size", 49408),
        context=text.get("context_length", 77),
        width=width,
        depth=text.get("layers", 12),
        heads=text.get("heads", 8),
        hidden=int(width * ratio) if isinstance(width, int) and isinstance(ratio, (int, float)) else ratio,
        activation=_activation(model, text, where),
        epsilon=object_in(text, "norm_kwargs", where).get("eps", 1e-5),
        causal=not _flag(text, "no_causal_mask", where),
        pooling=pooling,
        eos_id=text.get("eos_id", 2) if pooling == "eos" else None,
        projection=model.get("embed_dim") if projection == "linear" else None,
        projection_bias=_flag(text, "proj_bias", where),
    )
    return checked(config, where)


def _activation(model: Mapping[str, Any], text: Mapping[str, Any], where: str) -> str:
    """The activation: GELU, in its tanh form where ``act_kwargs`` says so, or OpenAI's."""
    settings = object_in(text, "act_kwargs", where)
    if _flag(model, "quick_gelu", MODEL):
        return "quick_gelu"
    if settings and settings not in ({"approximate": "tanh"}, {"approximate": "none"}):
        raise ValueError(f"{where}: act_kwargs must be {{'approximate': 'tanh'}} or none. Got {shown(settings)}")
    return "gelu_tanh" if settings.get("approximate") == "tanh" else "gelu"


def _flag(settings: Mapping[str, Any], name: str, where: str) -> bool:
    """Read a setting that is true or false, and false where it is absent."""
    value = settings.get(name) or False  # null, too
    if not isinstance(value, bool):
        raise ValueError(f"{where}: {name} must be true or false. Got {shown(value)}")
    return value
