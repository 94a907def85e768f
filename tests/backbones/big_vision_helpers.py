"""SigLIP towers in big_vision's own file format, written from transformers' weights."""

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Arrays: TypeAlias = "dict[str, npt.NDArray[np.float32]]"
ATTENTION, MLP = "MultiHeadDotProductAttention_0", "MlpBlock_0"


def write_npz(tower: Any, file: Path, root: str = "params/img/", *, stacked: bool = True) -> None:
    """Write a tower as big_vision's ``models/vit.py`` names it, its blocks stacked (scan) or one by one."""
    theirs = {name: tensor.detach().numpy() for name, tensor in tower.state_dict().items()}
    heads = tower.config.num_attention_heads
    arrays: Arrays = {
        "embedding/kernel": theirs["embeddings.patch_embedding.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": theirs["embeddings.patch_embedding.bias"],
        "pos_embedding": theirs["embeddings.position_embedding.weight"][None],
        **_norm(theirs, "post_layernorm", "Transformer/encoder_norm"),
        **_head(theirs, heads),
    }
    blocks = [_block(theirs, f"encoder.layers.{i}.", heads) for i in range(tower.config.num_hidden_layers)]
    if stacked:
        arrays |= {f"Transformer/encoderblock/{k}": np.stack([block[k] for block in blocks]) for k in blocks[0]}
    else:
        arrays |= {f"Transformer/encoderblock_{i}/{k}": block[k] for i, block in enumerate(blocks) for k in block}
    np.savez(file, allow_pickle=False, **{root + name: array for name, array in arrays.items()})


def _block(theirs: Arrays, place: str, heads: int) -> Arrays:
    kernels = [theirs[f"{place}self_attn.{part}_proj.weight"] for part in "qkv"]
    biases = [theirs[f"{place}self_attn.{part}_proj.bias"] for part in "qkv"]
    return {
        **_norm(theirs, f"{place}layer_norm1", "LayerNorm_0"),
        **_norm(theirs, f"{place}layer_norm2", "LayerNorm_1"),
        **_attention(kernels, biases, heads),
        **_out(theirs, f"{place}self_attn.out_proj", heads),
        **_mlp(theirs, place),
    }


def _head(theirs: Arrays, heads: int) -> Arrays:
    kernels = np.split(theirs["head.attention.in_proj_weight"], 3)
    biases = np.split(theirs["head.attention.in_proj_bias"], 3)
    parts = {
        "probe": theirs["head.probe"],
        **_norm(theirs, "head.layernorm", "LayerNorm_0"),
        **_attention(kernels, biases, heads),
        **_out(theirs, "head.attention.out_proj", heads),
        **_mlp(theirs, "head."),
    }
    return {f"MAPHead_0/{name}": array for name, array in parts.items()}


def _norm(theirs: Arrays, old: str, new: str) -> Arrays:
    return {f"{new}/scale": theirs[f"{old}.weight"], f"{new}/bias": theirs[f"{old}.bias"]}


def _attention(kernels: list[Any], biases: list[Any], heads: int) -> Arrays:
    arrays = {}
    for name, kernel, bias in zip(("query", "key", "value"), kernels, biases, strict=True):
        arrays[f"{ATTENTION}/{name}/kernel"] = kernel.T.reshape(len(kernel), heads, -1)
        arrays[f"{ATTENTION}/{name}/bias"] = bias.reshape(heads, -1)
    return arrays


def _out(theirs: Arrays, old: str, heads: int) -> Arrays:
    kernel = theirs[f"{old}.weight"].T
    return {
        f"{ATTENTION}/out/kernel": kernel.reshape(heads, -1, kernel.shape[1]),
        f"{ATTENTION}/out/bias": theirs[f"{old}.bias"],
    }


def _mlp(theirs: Arrays, place: str) -> Arrays:
    arrays = {}
    for i in range(2):
        arrays[f"{MLP}/Dense_{i}/kernel"] = theirs[f"{place}mlp.fc{i + 1}.weight"].T
        arrays[f"{MLP}/Dense_{i}/bias"] = theirs[f"{place}mlp.fc{i + 1}.bias"]
    return arrays
