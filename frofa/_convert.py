"""Checkpoints of other formats as folders that timm loads."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from frofa._files import create_directory
from frofa._huggingface import HF_PREFIX, Tower, load_tower, read_tower

GELU = {"tanh": "gelu_tanh", "exact": "gelu"}
_ROOTS = ("params/img/", "params/", "opt/target/", "")
"""Where big_vision's and vision_transformer's files keep a tower."""
_PREPROCESSING = ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std", "num_classes")


def convert(source: str, out: Path, *, architecture: str | None = None, gelu: str = "tanh") -> Tower:
    """Write a checkpoint as a folder for ``local-dir:``, whole or not at all.

    Parameters
    ----------
    source : str
        ``"hf-dir:PATH"``, or a big_vision ``.npz`` file.
    out : Path
        A folder that is not there yet.
    architecture : str, default=None
        The timm name of an ``.npz`` file's tower.
    gelu : {"tanh", "exact"}, default="tanh"
        Of an ``.npz`` file's tower: JAX's ``nn.gelu``, with which such files were trained, is the tanh form.

    Raises
    ------
    ValueError
        If the source is of neither kind, or the architecture is not that of the weights.
    OSError
        If a file is missing, or `out` is there.
    """
    if out.exists():
        raise FileExistsError(f"{out} is there already: choose another folder.")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"cannot write {out}: there is no directory {out.parent}.")
    if source.startswith(HF_PREFIX):
        if architecture is not None:
            raise ValueError(f"the architecture of {source} is in its config.json. Got {architecture!r} too.")
        folder = Path(source.removeprefix(HF_PREFIX)).expanduser()
        tower, module = read_tower(folder), load_tower(folder)
    elif source.endswith(".npz"):
        tower, module = _of_npz(Path(source).expanduser(), architecture, GELU[gelu])
    else:
        raise ValueError(f"expected 'hf-dir:PATH' or a big_vision .npz file. Got {source!r}.")
    if not _write(tower, module, out):
        raise FileExistsError(f"{out} was made by another process meanwhile, and is left as it is.")
    return tower


def _write(tower: Tower, module: nn.Module, out: Path) -> bool:
    from safetensors.torch import save

    config = {
        "architecture": tower.architecture,
        "num_classes": 0,
        "model_args": tower.model_args,
        "pretrained_cfg": tower.pretrained_cfg,
    }
    text = json.dumps(config, indent=2).encode()
    data = save({name: tensor.contiguous() for name, tensor in module.state_dict().items()})
    return create_directory(
        out,
        {"config.json": lambda file: file.write(text), "model.safetensors": lambda file: file.write(data)},
    )


def _of_npz(file: Path, architecture: str | None, activation: str) -> tuple[Tower, nn.Module]:
    """A big_vision tower, read by timm; what timm would fit or leave as it was is an error."""
    import timm

    if architecture is None:
        raise ValueError(f"{file.name} does not say which tower it holds: give the timm name of its architecture.")
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}.")
    if not timm.is_model(architecture):
        raise ValueError(f"{architecture!r} is no architecture of timm.")
    arguments = {"act_layer": activation}
    with torch.random.fork_rng(devices=[]):
        module: Any = timm.create_model(architecture, pretrained=False, num_classes=0, **arguments)
    if not hasattr(module, "blocks") or not hasattr(module, "load_pretrained"):
        raise ValueError(f"{architecture} is no vision transformer, which a big_vision file holds.")
    with np.load(file) as weights:
        _check_npz(weights, module, f"{file.name} for {architecture}")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(torch.nan)
        try:
            module.load_pretrained(str(file))
        except KeyError as error:
            raise ValueError(f"{file.name} has no weights for {architecture}: {error}") from error
    left = [name for name, parameter in module.named_parameters() if parameter.isnan().any()]
    if left:
        raise ValueError(f"{file.name} has no weights, or NaN, for these of {architecture}: {', '.join(left[:5])}.")
    kept = {key: value for key, value in module.pretrained_cfg.items() if key in _PREPROCESSING and value is not None}
    return Tower(architecture, arguments, kept | {"num_classes": 0}), module


def _check_npz(weights: Mapping[str, Any], module: Any, what: str) -> None:
    """Compare the sizes that timm does not: it cuts, resamples and regroups silently."""
    names = set(weights)
    root = next((root for root in _ROOTS if f"{root}embedding/kernel" in names), None)
    if root is None:
        raise ValueError(f"{what}: it has no 'embedding/kernel', and so is no big_vision vision transformer.")
    if weights[f"{root}embedding/kernel"].dtype.kind != "f":
        raise ValueError(f"{what}: the weights are bfloat16, which NumPy cannot read: take the float32 file.")
    blocks = [name for name in names if name.startswith(f"{root}Transformer/encoderblock")]
    stacked = f"{root}Transformer/encoderblock/LayerNorm_0/scale"
    depth = len(weights[stacked]) if stacked in names else len({name.split("encoderblock_")[1].split("/")[0] for name in blocks})
    query = next(weights[name] for name in sorted(blocks) if name.endswith("query/kernel"))
    positions = next(weights[name] for name in sorted(names) if name.startswith(root) and name.endswith("pos_embedding"))
    embedding = weights[f"{root}embedding/kernel"]
    own = module.state_dict()
    patch = own["patch_embed.proj.weight"] if "patch_embed.proj.weight" in own else None
    table = own["pos_embed"] if "pos_embed" in own else own["embeds.pos_embed"]
    pairs = {
        "blocks": (depth, len(module.blocks)),
        "channels": (query.shape[-3], module.embed_dim),
        "attention heads": (query.shape[-2], module.blocks[0].attn.num_heads),
        "positions": (positions.size // query.shape[-3], table.numel() // table.shape[-1]),
        "numbers in a patch": (embedding.size // embedding.shape[-1], patch[0].numel() if patch is not None else own["embeds.proj.weight"].shape[1]),
    }
    wrong = [f"{found} {name} where the architecture has {wanted}" for name, (found, wanted) in pairs.items() if found != wanted]
    if wrong:
        raise ValueError(f"{what}: {'; '.join(wrong)}.")
