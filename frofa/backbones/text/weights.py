"""Weights of text towers in the layouts that they come in, renamed for our transformer."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from frofa.backbones.text.config import TextConfig
from frofa.backbones.text.transformer import TextTransformer


class Layout(NamedTuple):
    """Names of a tower's tensors, within a prefix.

    `whole` are those outside of blocks, `block` those in one, by our names; `qkv` are the projections of queries, keys
    and values, or the one name of all three, to which ``weight`` and ``bias`` are added.
    """

    whole: Mapping[str, str]
    blocks: str
    block: Mapping[str, str]
    qkv: tuple[str, ...]


def load_weights(config: TextConfig, tensors: Mapping[str, Tensor], layout: Layout) -> TextTransformer:
    """Build a tower, in eval mode, of tensors by the names of a layout.

    A ValueError names tensors that are missing, of another shape than `config` says, or not known to it.
    """
    left = dict(tensors)
    try:
        named = dict(_renamed(left, layout, config.depth))
    except KeyError as error:
        raise ValueError(f"the text tower's weights lack {error.args[0]!r}") from error
    if left:
        raise ValueError(f"the text tower's weights hold what its configuration lacks: {', '.join(sorted(left)[:5])}")
    # Without memory of its own: a configuration that does not fit is found out before anything is filled.
    with torch.device("meta"):
        module = TextTransformer(config)
    expected = module.state_dict()
    if lacking := sorted(expected.keys() - named.keys()):
        raise ValueError(f"the text tower's weights lack {', '.join(lacking[:5])}")
    if unknown := sorted(named.keys() - expected.keys()):
        raise ValueError(f"the text tower's configuration has no {', '.join(unknown[:5])}, its weights do")
    wrong = [
        f"{name} {tuple(named[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if named[name].shape != tensor.shape
    ]
    if wrong:
        raise ValueError(f"the text tower's weights are of other shapes than its configuration: {'; '.join(wrong[:3])}")
    module.load_state_dict(named, assign=True)
    return module.eval().requires_grad_(False)


def read_tensors(files: Mapping[str, Path], prefix: str, others: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Read the tensors below a prefix in float32, by their names behind it, and those of `others` that are there."""
    from safetensors import safe_open

    found = {}
    # File by file, each opened once; a tensor that the index places in another file is not taken from this one.
    for file in dict.fromkeys(files.values()):
        with safe_open(file, "pt") as content:
            for name in content.keys():  # noqa: SIM118 (it is no mapping)
                if files.get(name) == file and (name in others or name.startswith(prefix)):
                    key = name if name in others else name.removeprefix(prefix)
                    found[key] = content.get_tensor(name).to(torch.float32)
    return found


def scalar(tensor: Tensor | None, name: str) -> float:
    """The number in a tensor of one; 0.0 without a tensor. A ValueError if it holds more, or none that is finite."""
    if tensor is None:
        return 0.0
    if tensor.numel() != 1 or not math.isfinite(tensor.item()):
        raise ValueError(f"{name} must be one finite number. Got a tensor of shape {tuple(tensor.shape)}")
    return float(tensor.item())


def scale_of(tensor: Tensor | None) -> float:
    """Return what multiplies a cosine: the exponential of the parameter that was trained."""
    if tensor is None:
        raise ValueError("the weights lack 'logit_scale'")
    scale = math.exp(min(scalar(tensor, "logit_scale"), 100.0))
    if not 0 < scale < 1e6:
        raise ValueError(f"the exponential of logit_scale must be between 0 and 1e6. Got {scale:.3g}")
    return scale


def _renamed(left: dict[str, Tensor], layout: Layout, depth: int) -> Iterator[tuple[str, Tensor]]:
    """Take the tensors out of `left`, one by one."""
    for old, new in layout.whole.items():
        yield new, left.pop(old)
    for i in range(depth):
        before = layout.blocks.format(i)
        for old, new in layout.block.items():
            for kind in ("weight", "bias"):
                yield f"blocks.{i}.{new}.{kind}", left.pop(f"{before}{old}.{kind}")
        for kind in ("weight", "bias"):
            # One projection for queries, keys and values: (3 W, W) and (3 W,).
            parts = [left.pop(f"{before}{name}{kind}") for name in layout.qkv]
            yield f"blocks.{i}.qkv.{kind}", torch.cat(parts)
