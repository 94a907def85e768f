"""Vision transformers in the ``.npz`` files of big_vision and vision_transformer, read by timm, strictly."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from frofa.backbones.checkpoints.huggingface import Tower

_ROOTS = ("opt/target/", "params/", "params/img/", "")
"""Places in which a file may keep the tower, in timm's order."""
_PREPROCESSING = ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std")


def load_npz(file: Path, architecture: str | None, activation: str) -> tuple[Tower, nn.Module]:
    """Load a file into a model that timm calls `architecture`, with this activation.

    What timm would resample, cut or leave as it was is an error, and so is no architecture.
    """
    import timm

    if architecture is None:
        raise ValueError(f"{file.name} does not say which tower it holds: give the timm name of its architecture.")
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}.")
    if not timm.is_model(architecture):
        raise ValueError(f"{architecture!r} is no architecture of timm.")
    arguments: dict[str, Any] = {"act_layer": activation}
    # timm draws weights that the file then overwrites; the user's random numbers are not to depend on that.
    with torch.random.fork_rng(devices=[]):
        module: Any = timm.create_model(architecture, pretrained=False, num_classes=0, **arguments)
    if not hasattr(module, "blocks") or not hasattr(module, "load_pretrained"):
        raise ValueError(f"{architecture} is no vision transformer, which such a file holds.")
    # Sizes are compared first: timm would resample positions and drop blocks without a word.
    with np.load(file, allow_pickle=False) as weights:
        if wrong := _differences(_sizes_in_file(weights, file), _sizes_of_model(module)):
            raise ValueError(f"{file.name} does not fit {architecture}: {'; '.join(wrong)}.")
    _load(module, file, architecture)
    known = module.pretrained_cfg
    preprocessing = {name: known[name] for name in _PREPROCESSING if known.get(name) is not None}
    return Tower(architecture, arguments, {**preprocessing, "num_classes": 0}), module


def _load(module: Any, file: Path, architecture: str) -> None:
    """Load the weights; parameters that they leave as they were are an error."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(torch.nan)  # what keeps it was not in the file
        try:
            module.load_pretrained(str(file))
        except KeyError as error:
            raise ValueError(f"{file.name} has no weights for {architecture}: {error}.") from error
    left = [name for name, parameter in module.named_parameters() if parameter.isnan().any()]
    if left:
        some = ", ".join(left[:3])
        raise ValueError(f"{file.name} has no weights for {len(left)} parameters of {architecture}: {some}, ...")


def _sizes_in_file(weights: Mapping[str, npt.NDArray[Any]], file: Path) -> dict[str, int]:
    """Sizes of the tower in a file, to be compared with those of a model."""
    names = sorted(weights)
    root = next((root for root in _ROOTS if f"{root}embedding/kernel" in names), None)
    if root is None:
        raise ValueError(f"{file.name} has no 'embedding/kernel', and so is no vision transformer of big_vision.")
    embedding = weights[f"{root}embedding/kernel"]
    if embedding.dtype.kind != "f":
        raise ValueError(f"{file.name} holds {embedding.dtype}, bfloat16 perhaps: take the file of float32 weights.")
    # Blocks lie side by side, or stacked along the first axis of each array (a scan over layers).
    blocks = [name.removeprefix(f"{root}Transformer/") for name in names if name.startswith(f"{root}Transformer/enc")]
    layers = {name.split("/")[0] for name in blocks if name.startswith("encoderblock")}
    queries = [name for name in blocks if name.endswith("query/kernel")]
    positions = [name for name in names if name.startswith(root) and name.endswith("pos_embedding")]
    if not queries or not positions:
        raise ValueError(f"{file.name} has no encoder blocks or no position embeddings.")
    # Kernels of queries are (channels, heads, channels a head), with the blocks before them where these are stacked.
    query = weights[f"{root}Transformer/{queries[0]}"]
    return {
        "blocks": len(query) if query.ndim == 4 else len(layers),
        "channels": query.shape[-3],
        "attention heads": query.shape[-2],
        "positions": weights[positions[0]].size // query.shape[-3],
        "values a patch": embedding.size // embedding.shape[-1],
    }


def _sizes_of_model(module: Any) -> dict[str, int]:
    embeds = module.embeds if hasattr(module, "embeds") else module
    projection = embeds.proj if hasattr(module, "embeds") else module.patch_embed.proj
    return {
        "blocks": len(module.blocks),
        "channels": module.embed_dim,
        "attention heads": module.blocks[0].attn.num_heads,
        "positions": embeds.pos_embed.numel() // module.embed_dim,
        "values a patch": projection.weight[0].numel(),
    }


def _differences(found: Mapping[str, int], wanted: Mapping[str, int]) -> list[str]:
    return [f"{found[name]} {name} where it has {wanted[name]}" for name in wanted if found[name] != wanted[name]]
