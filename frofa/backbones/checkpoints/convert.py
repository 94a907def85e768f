"""Checkpoints of other formats as folders that timm loads."""

import json
from pathlib import Path
from typing import Literal

from torch import nn

from frofa.backbones.checkpoints.big_vision import load_npz
from frofa.backbones.checkpoints.huggingface import HF_PREFIX, Tower, load_tower, read_tower
from frofa.utils.files import create_directory, expand_home

GELU = {"tanh": "gelu_tanh", "exact": "gelu"}


def convert(
    source: str, out: Path, *, architecture: str | None = None, gelu: Literal["tanh", "exact"] = "tanh"
) -> Tower:
    """Write a checkpoint as a folder for ``local-dir:``, whole or not at all.

    `source` is ``"hf-dir:PATH"``, or a big_vision ``.npz`` file: that needs the timm name of its tower's
    `architecture`, and JAX's ``nn.gelu``, with which such files were trained, is the tanh form. `out` must not be there
    yet: that, and a missing file, are an OSError; a source of neither kind, and weights of another architecture, a
    ValueError.
    """
    if out.exists():
        raise FileExistsError(f"{out} is there already: choose another folder.")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"cannot write {out}: there is no directory {out.parent}.")
    if source.startswith(HF_PREFIX):
        if architecture is not None:
            raise ValueError(f"the architecture of {source} is in its config.json. Got {architecture!r} too.")
        folder = Path(expand_home(source.removeprefix(HF_PREFIX)))
        tower, module = read_tower(folder), load_tower(folder)
    elif source.endswith(".npz"):
        tower, module = load_npz(Path(expand_home(source)), architecture, GELU[gelu])
    else:
        raise ValueError(f"expected 'hf-dir:PATH' or a big_vision .npz file. Got {source!r}.")
    # The folder gets its name when it is whole, unless another process was faster.
    if not _write(tower, module, out):
        raise FileExistsError(f"{out} was made by another process meanwhile, and is left as it is.")
    return tower


def _write(tower: Tower, module: nn.Module, out: Path) -> bool:
    from safetensors.torch import save

    config = {
        "architecture": tower.architecture,
        "num_classes": tower.pretrained_cfg.get("num_classes", 0),
        "model_args": tower.model_args,
        "pretrained_cfg": tower.pretrained_cfg,
    }
    text = json.dumps(config, indent=2).encode()
    data = save({name: tensor.contiguous() for name, tensor in module.state_dict().items()})
    return create_directory(
        out,
        {"config.json": lambda file: file.write(text), "model.safetensors": lambda file: file.write(data)},
    )
