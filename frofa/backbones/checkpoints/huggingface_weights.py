"""Weights of vision towers in Hugging Face folders, under timm's names."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from frofa.backbones.checkpoints.config import read_object

_MARK = "embeddings.patch_embedding.weight"
"""A tensor that every tower has, and the rest of a vision-language model has not."""
_CLASS, _PROJECTION = "embeddings.class_embedding", "visual_projection.weight"
"""Tensors of CLIP alone: its class token, and the projection into the space of texts, which is not the tower's."""
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

    files = tensor_files(folder)
    prefix = _prefix(files, folder)
    tensors = {}
    # File by file, each opened once; a tensor that the index places in another file is not taken from this one.
    for file in dict.fromkeys(files.values()):
        with safe_open(file, "pt") as content:
            for name in content.keys():  # noqa: SIM118 (it is no mapping)
                if (name.startswith(prefix) or name.endswith(_PROJECTION)) and files.get(name) == file:
                    name_within = _PROJECTION if name.endswith(_PROJECTION) else name.removeprefix(prefix)
                    tensors[name_within] = content.get_tensor(name).to(torch.float32)
    return tensors


def projection_width(folder: Path) -> int | None:
    """Channels of CLIP's space of texts, by the shape of the projection into it; None without one."""
    from safetensors import safe_open

    files = tensor_files(folder)
    name = next((name for name in files if name.endswith(_PROJECTION)), None)
    if name is None:
        return None
    with safe_open(files[name], "pt") as content:
        shape = content.get_slice(name).get_shape()
    if len(shape) != 2:
        raise ValueError(f"{name} must have two dimensions. Got {tuple(shape)}")
    return int(shape[0])


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
    linear, of_clip = left[_MARK].ndim == 2, _CLASS in left
    if linear:  # NaFlex: positions lie on their grid
        grid = round(len(positions) ** 0.5)
        yield "embeds.pos_embed", positions.reshape(1, grid, grid, -1)
    else:
        yield "pos_embed", positions.unsqueeze(0)
    if of_clip:
        yield from _of_clip(left)
    for old, new in _WHOLE.items():
        if of_clip and f"{old}.weight" == _MARK:
            continue
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


def _of_clip(left: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Take out what CLIP's tower has otherwise: a class token, a norm before the blocks, and a projection behind."""
    yield "cls_token", left.pop(_CLASS).reshape(1, 1, -1)
    yield "patch_embed.proj.weight", left.pop(_MARK)  # without a bias
    yield from _pair(left, "pre_layrnorm", "norm_pre")
    if (projection := left.pop(_PROJECTION, None)) is not None:
        yield "head.weight", projection
        yield "head.bias", torch.zeros(len(projection))  # timm's last layers have one


def _pair(left: dict[str, Tensor], old: str, new: str) -> Iterator[tuple[str, Tensor]]:
    for kind in ("weight", "bias"):
        yield f"{new}.{kind}", left.pop(f"{old}.{kind}")


def tensor_files(folder: Path) -> dict[str, Path]:
    """The file that holds each tensor; an OSError or ValueError names the file that is missing or damaged."""
    if (folder / _INDEX).is_file():
        index = read_object(folder / _INDEX).get("weight_map")
        if not isinstance(index, dict) or not all(isinstance(file, str) for file in index.values()):
            raise ValueError(f"{folder / _INDEX} has no weight_map from tensors to files")
        missing = sorted({file for file in index.values() if not (folder / file).is_file()})
        if missing:
            raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}, which {_INDEX} names")
        for file in sorted(set(index.values())):
            tensor_names(folder / file)
        return {name: folder / file for name, file in index.items()}
    if not (folder / _SINGLE).is_file():
        raise FileNotFoundError(f"{folder} has no {_SINGLE} and no {_INDEX} (weights as .bin files are not read)")
    return dict.fromkeys(tensor_names(folder / _SINGLE), folder / _SINGLE)


def tensor_names(file: Path) -> list[str]:
    """List the tensors of a file of safetensors; a ValueError says that it is none, or cut off."""
    from safetensors import safe_open

    try:
        with safe_open(file, "pt") as content:
            return list(content.keys())
    except Exception as error:  # SafetensorError is of Rust
        raise ValueError(f"{file} is no whole file of safetensors: {error}") from error


def _prefix(files: Mapping[str, Path], folder: Path) -> str:
    found = [name.removesuffix(_MARK) for name in files if name == _MARK or name.endswith(f".{_MARK}")]
    if len(found) != 1:
        raise ValueError(f"expected the weights of one vision tower in {folder}. Got {len(found)} named '*{_MARK}'")
    return found[0]
