"""Weights of vision towers in Hugging Face folders, under timm's names."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

_MARK = "embeddings.patch_embedding.weight"
"""A tensor that every tower has, and the rest of a vision-language model has not."""
_INDEX, _SINGLE = "model.safetensors.index.json", "model.safetensors"
_WHOLE = {"embeddings.patch_embedding": "patch_embed.proj", "post_layernorm": "norm"}
_BLOCK = {
    "layer_norm1": "norm1",
    "self_attn.out_proj": "attn.proj",
    "layer_norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_HEAD = {"attention.out_proj": "proj", "layernorm": "norm", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}


def read_tower_weights(folder: Path) -> dict[str, Tensor]:
    """Read the tower's tensors in float32, by their names within it; no others are read.

    The names before the tower's own (``vision_model.``, ``vision_tower.``, ``model.vision_tower.vision_model.``, ...)
    depend on the model and on the version of transformers that wrote it, and are found out.
    """
    from safetensors import safe_open

    files = _files(folder)
    prefix = _prefix(files, folder)
    tensors = {}
    # File by file, each opened once; a tensor that the index places in another file is not taken from this one.
    for file in dict.fromkeys(files.values()):
        with safe_open(file, "pt") as content:
            for name in content.keys():  # noqa: SIM118 (it is no mapping)
                if name.startswith(prefix) and files.get(name) == file:
                    tensors[name.removeprefix(prefix)] = content.get_tensor(name).to(torch.float32)
    return tensors


def to_timm(tensors: Mapping[str, Tensor], depth: int, *, pooled: bool) -> dict[str, Tensor]:
    """Rename the tensors of a tower of so many blocks for timm's `VisionTransformer`.

    Those with linearly embedded patches are for its `NaFlexVit`. A head is left out unless `pooled`. Missing tensors,
    and others than these, are a ValueError.
    """
    left = {name: tensor for name, tensor in tensors.items() if name != "embeddings.position_ids"}
    if not pooled:
        left = {name: tensor for name, tensor in left.items() if not name.startswith("head.")}
    try:
        named = dict(_renamed(left, depth, pooled=pooled))
    except KeyError as error:
        raise ValueError(f"the weights lack {error.args[0]!r}, which config.json asks for") from error
    if left:
        raise ValueError(f"the weights hold what config.json does not know: {', '.join(sorted(left)[:5])}")
    return named


def _renamed(left: dict[str, Tensor], depth: int, *, pooled: bool) -> Iterator[tuple[str, Tensor]]:
    """Take the tensors out of `left`, one by one."""
    positions = left.pop("embeddings.position_embedding.weight")
    linear = left[_MARK].ndim == 2
    if linear:  # NaFlex: positions lie on their grid
        grid = round(len(positions) ** 0.5)
        yield "embeds.pos_embed", positions.reshape(1, grid, grid, -1)
    else:
        yield "pos_embed", positions.unsqueeze(0)
    for old, new in _WHOLE.items():
        yield from _pair(left, old, new.replace("patch_embed.", "embeds.") if linear else new)
    for i in range(depth):
        for old, new in _BLOCK.items():
            yield from _pair(left, f"encoder.layers.{i}.{old}", f"blocks.{i}.{new}")
        for kind in ("weight", "bias"):
            # timm has one projection for queries, keys and values: (3 * C, C) and (3 * C,).
            parts = [left.pop(f"encoder.layers.{i}.self_attn.{part}_proj.{kind}") for part in "qkv"]
            yield f"blocks.{i}.attn.qkv.{kind}", torch.cat(parts)
    if pooled:
        yield "attn_pool.latent", left.pop("head.probe")
        for kind in ("weight", "bias"):
            # The head's query is the learned probe's: timm projects it apart from keys and values.
            query, key, value = left.pop(f"head.attention.in_proj_{kind}").chunk(3)
            yield f"attn_pool.q.{kind}", query.contiguous()
            yield f"attn_pool.kv.{kind}", torch.cat([key, value])
        for old, new in _HEAD.items():
            yield from _pair(left, f"head.{old}", f"attn_pool.{new}")


def _pair(left: dict[str, Tensor], old: str, new: str) -> Iterator[tuple[str, Tensor]]:
    for kind in ("weight", "bias"):
        yield f"{new}.{kind}", left.pop(f"{old}.{kind}")


def _files(folder: Path) -> dict[str, Path]:
    """The file that holds each tensor."""
    from safetensors import safe_open

    if (folder / _INDEX).is_file():
        index = json.loads((folder / _INDEX).read_text("utf-8"))["weight_map"]
        missing = sorted({file for file in index.values() if not (folder / file).is_file()})
        if missing:
            raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}, which {_INDEX} names")
        return {name: folder / file for name, file in index.items()}
    if not (folder / _SINGLE).is_file():
        raise FileNotFoundError(f"{folder} has no {_SINGLE} and no {_INDEX} (weights as .bin files are not read)")
    with safe_open(folder / _SINGLE, "pt") as content:
        return dict.fromkeys(content.keys(), folder / _SINGLE)


def _prefix(files: Mapping[str, Path], folder: Path) -> str:
    found = [name.removesuffix(_MARK) for name in files if name == _MARK or name.endswith(f".{_MARK}")]
    if len(found) != 1:
        raise ValueError(f"expected the weights of one vision tower in {folder}. Got {len(found)} named '*{_MARK}'")
    return found[0]
