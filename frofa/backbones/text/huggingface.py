"""Text towers in Hugging Face folders of SigLIP, SigLIP 2 and CLIP."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from frofa.backbones.checkpoints.config import read_object, shown
from frofa.backbones.checkpoints.huggingface_weights import tensor_files
from frofa.backbones.text.config import TextConfig, activation_of, checked, object_in
from frofa.backbones.text.hub import MODEL_TYPES
from frofa.backbones.text.parts import Parts
from frofa.backbones.text.weights import Layout, load_weights, read_tensors, scalar, scale_of
from frofa.tokenizing.loading import load_tokenizer

_SIGLIP: dict[str, Any] = {  # of transformers' SiglipTextConfig: a config.json holds only what differs
    "vocab_size": 32000,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 64,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
    "projection_size": None,
}
_CLIP: dict[str, Any] = {  # of transformers' CLIPTextConfig
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "eos_token_id": 49407,
}
_CLIP_PROJECTION = 512
_FORMER_EOS = 2
"""The end-of-text token that configurations of CLIP named before transformers 4.31, wrongly: towers with it take the
largest id, as they always did."""
_MARK = "embeddings.token_embedding.weight"
"""A tensor that every text tower has, and no image tower."""
_LAYOUT = Layout(
    whole={
        "embeddings.token_embedding.weight": "token_embedding.weight",
        "embeddings.position_embedding.weight": "position_embedding",
        "final_layer_norm.weight": "norm.weight",
        "final_layer_norm.bias": "norm.bias",
    },
    blocks="encoder.layers.{}.",
    block={
        "layer_norm1": "norm1",
        "self_attn.out_proj": "proj",
        "layer_norm2": "norm2",
        "mlp.fc1": "fc1",
        "mlp.fc2": "fc2",
    },
    qkv=tuple(f"self_attn.{part}_proj." for part in "qkv"),
)
_OUTSIDE = ("logit_scale", "logit_bias", "text_projection.weight")


def load_folder(folder: Path) -> Parts:
    """Load the text tower of a folder, in float32, and its tokenizer.

    An OSError or ValueError says which file is missing, what is no text tower of these kinds, or where weights and
    ``config.json`` do not agree.
    """
    config = read_object(folder / "config.json")
    text = read_config(config, folder)
    files = tensor_files(folder)
    tensors = read_tensors(files, prefix_of(files, _MARK, folder), _OUTSIDE)
    scale, bias = (tensors.pop(name, None) for name in _OUTSIDE[:2])
    tensors.pop("embeddings.position_ids", None)  # which older files hold
    head = {"text_projection.weight": "projection.weight"}
    if config["model_type"] != "clip":
        head = {f"head.{kind}": f"projection.{kind}" for kind in ("weight", "bias")}
    module = load_weights(text, tensors, _LAYOUT._replace(whole={**_LAYOUT.whole, **head}))
    tokenizer = load_tokenizer(folder, config["model_type"], text.context)
    return Parts(text, module, tokenizer, scale_of(scale), scalar(bias, "logit_bias"))


def read_config(config: Mapping[str, Any], folder: Path) -> TextConfig:
    """Read a folder's ``config.json``."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in MODEL_TYPES:
        raise ValueError(
            f"config.json has model_type {shown(kind)}, which has no text tower that frofa knows: known are "
            f"{', '.join(MODEL_TYPES)}"
        )
    text = _text_settings(config, kind)
    where = "config.json's text_config"
    clip = kind == "clip"
    eos = text["eos_token_id"] if clip else None
    former = clip and eos == _FORMER_EOS
    return checked(
        TextConfig(
            vocabulary=text["vocab_size"],
            context=text["max_position_embeddings"],
            width=text["hidden_size"],
            depth=text["num_hidden_layers"],
            heads=text["num_attention_heads"],
            hidden=text["intermediate_size"],
            activation=activation_of(text["hidden_act"], where),
            epsilon=text["layer_norm_eps"],
            causal=clip,
            masked=not clip and _sees_no_padding(folder),
            pooling=("argmax" if former else "eos") if clip else "last",
            eos_id=None if former else eos,
            projection=config.get("projection_dim", _CLIP_PROJECTION)
            if clip
            else text["projection_size"] or text["hidden_size"],
            projection_bias=not clip,
        ),
        where,
    )


def prefix_of(files: Iterable[str], mark: str, folder: Path) -> str:
    """Find what stands before the tower's own names, which depends on the version of transformers that wrote them."""
    found = [name.removesuffix(mark) for name in files if name == mark or name.endswith(f".{mark}")]
    if len(found) != 1:
        raise ValueError(f"expected the weights of one text tower in {folder}. Got {len(found)} named '*{mark}'")
    return found[0]


def _text_settings(config: Mapping[str, Any], kind: str) -> dict[str, Any]:
    given = object_in(config, "text_config", "config.json")
    if kind != "clip":
        return _SIGLIP | given
    # Older files have a second object, which transformers completes with defaults and then prefers as a whole.
    second = object_in(config, "text_config_dict", "config.json")
    return _CLIP | given | (_CLIP | second if second else {})


def _sees_no_padding(folder: Path) -> bool:
    """Whether transformers' processor of this folder tells SigLIP's tower which tokens are padding.

    SigLIP was trained without, and its published folders say so in ``model_input_names``; of a folder that says
    nothing, transformers' tokenizers pass the mask on.
    """
    file = folder / "tokenizer_config.json"
    if not file.is_file():
        return False
    names = read_object(file).get("model_input_names", ["input_ids", "attention_mask"])
    if not isinstance(names, list):
        raise ValueError(f"{file}: model_input_names must be a list. Got {shown(names)}")
    return "attention_mask" in names
