"""Loading of backbones, once a process: a model with its weights, or an error that says which would work."""

import contextlib
from collections.abc import Sequence
from functools import lru_cache
from numbers import Integral
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from frofa.backbones.backbone import Backbone, is_convolutional
from frofa.backbones.checkpoints.config import check_model_config, check_preprocessing, per_channel, read_object
from frofa.backbones.checkpoints.hub import offline
from frofa.backbones.checkpoints.huggingface import HF_PREFIX, load_tower
from frofa.backbones.checkpoints.huggingface_weights import tensor_names
from frofa.backbones.checkpoints.names import FOLDERS, ask_hub, not_found, timm_name, unreachable
from frofa.backbones.checkpoints.open_clip import is_open_clip, load_image_tower
from frofa.backbones.layout import patch_size, read_layout
from frofa.backbones.precision import Sparsity, prune
from frofa.backbones.preprocessing import of_config
from frofa.backbones.projection import with_projection
from frofa.backbones.text.hub import HUB_PREFIX, fetch
from frofa.compute.devices import resolve_device
from frofa.compute.digests import architecture_digest, weights_digest
from frofa.exceptions import ModelNotFoundError
from frofa.utils.text import one_line

ImageSize: TypeAlias = "int | tuple[int, int] | None"
LOCAL_PREFIX = "local-dir:"


def load_backbone(model: str, image_size: ImageSize, device: str, sparsity: Sparsity = None) -> Backbone:
    """Load a backbone, or return the one this process has loaded already; parameters as in `FrozenFeatureExtractor`.

    Weights that are not to be had are a ModelNotFoundError; an image size or sparsity that the model cannot take, and a
    device that this machine does not have, a ValueError.
    """
    # Resolved first: "auto" and the device that it means, a side and the pair of it, are one entry of the cache.
    name = timm_name(model)
    return _load(model, name, _fingerprint(name), _height_width(image_size), str(resolve_device(device)), sparsity)


@lru_cache(maxsize=4)
def _load(
    model: str, name: str, fingerprint: tuple[int, ...], size: tuple[int, int] | None, device: str, sparsity: Sparsity
) -> Backbone:
    del fingerprint  # only part of the key: a folder whose files changed is loaded again
    module = create_module(model, name)
    if sparsity is not None:
        prune(model, module, sparsity)
    digest = weights_digest(module)  # before position embeddings are resized: the checkpoint's, at every image size
    if size is not None:
        _resize(model, module, size)
    config = _data_config(model, module, size)
    module = module.eval().requires_grad_(False)
    architecture = architecture_digest(module)
    if is_convolutional(module):  # about twice as fast on a CPU, and what tensor cores take
        module = module.to(memory_format=torch.channels_last)
    where = torch.device(device)
    module = module.to(where)
    layout = with_projection(read_layout(model, module, tuple(config["input_size"]), where), module, name)
    preprocessing = of_config(config)
    return Backbone(model, module, config, digest, architecture, where, preprocessing, sparsity=sparsity, layout=layout)


def _resize(model: str, module: Any, size: tuple[int, int]) -> None:
    """Prepare a model for images of another size than the checkpoint's own, where it has to be."""
    if not hasattr(module, "set_input_size"):
        return
    try:
        module.set_input_size(img_size=size)
    except Exception as error:  # torch's and timm's own, from deep inside
        raise ValueError(f"{model} cannot take images of size {size[0]}x{size[1]}: {one_line(error)}.") from error


def _data_config(model: str, module: nn.Module, size: tuple[int, int] | None) -> dict[str, Any]:
    """Say how images are prepared, in timm's terms; refuse what neither RGB nor grey images can give."""
    from timm.data import resolve_data_config  # whose import takes seconds, which an unknown name need not wait for

    own: dict[str, Any] = resolve_data_config({}, model=module)
    channels, *own_size = own["input_size"]
    _check_size(model, module, size, own_size)
    if channels not in (1, 3):
        raise ValueError(
            f"{model} takes images of {channels} channels: images are RGB, or grey for a model of 1 channel. Choose a "
            "model of 1 or 3 channels."
        )
    scaling = {name: per_channel(own[name], channels, f"{model}: {name}") for name in ("mean", "std")}
    return own | scaling | {"input_size": own["input_size"] if size is None else (channels, *size)}


def _check_size(model: str, module: nn.Module, size: tuple[int, int] | None, own: Sequence[int]) -> None:
    """Raise a ValueError if an image size that is not the checkpoint's own would cut patches through."""
    patch = patch_size(module)
    # The checkpoint's own size may be cut: that is how the model was trained.
    if size is None or patch is None or size == tuple(own):
        return
    if any(side % step for side, step in zip(size, patch, strict=True)):
        fitting = [max(side // step, 1) * step for side, step in zip(size, patch, strict=True)]
        raise ValueError(
            f"{model} has patches of {patch[0]}x{patch[1]} pixels: image_size must be a multiple, such as "
            f"{fitting[0]}x{fitting[1]}. Got {size[0]}x{size[1]}."
        )


def _height_width(image_size: ImageSize) -> tuple[int, int] | None:
    """Check an image size, and return height and width."""
    if image_size is None:
        return None
    pair = (image_size, image_size) if isinstance(image_size, Integral) else tuple(image_size)  # type: ignore[arg-type]
    if len(pair) != 2 or not all(isinstance(side, Integral) and side >= 1 for side in pair):
        raise ValueError(f"image_size must be a positive int, a pair of them, (height, width), or None. Got {pair!r}.")
    return int(pair[0]), int(pair[1])


def _fingerprint(name: str) -> tuple[int, ...]:
    """Times and sizes of the files of a folder."""
    if not name.startswith(FOLDERS):
        return ()
    files = sorted(Path(name.partition(":")[2]).iterdir())
    return tuple(number for file in files for number in (file.stat().st_mtime_ns, file.stat().st_size))


def create_module(model: str, name: str) -> nn.Module:
    """Create a model and load its weights; the global random state is left alone.

    `model` is the name that the user gave, for errors; `name` what timm takes, or ``"hf-dir:PATH"``.
    A ModelNotFoundError says that the weights are not to be had, or that files are damaged or say what cannot be.
    """
    try:
        if not name.startswith((LOCAL_PREFIX, HF_PREFIX)):
            module = _from_hub(model, name)
            check_preprocessing(getattr(module, "pretrained_cfg", None) or {}, "its pretrained_cfg")
            check_finite(module, "its weights")
            return module
        folder = Path(name.partition(":")[2])
        module = load_tower(folder) if name.startswith(HF_PREFIX) else _from_folder(folder)
        check_finite(module, f"the weights of {folder}")
    except ModelNotFoundError:
        raise
    except Exception as error:  # timm and safetensors raise a dozen types
        raise ModelNotFoundError(f"the backbone {model!r} could not be loaded: {one_line(error)}.") from error
    return module


def check_finite(module: nn.Module, where: str) -> None:
    """Raise a ValueError if a parameter or buffer holds NaN or infinite values."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(f"{where}: {name} holds NaN or infinite values")


def _from_folder(folder: Path) -> nn.Module:
    """Load a model in timm's folder format, or an image tower in that of open_clip."""
    if is_open_clip(folder):
        return load_image_tower(folder)
    config, weights = folder / "config.json", folder / "model.safetensors"
    check_model_config(read_object(config), str(config))
    # Opened first by itself, so that the error of a file that was cut off names the file.
    if weights.is_file():
        tensor_names(weights)
    try:
        return _create(f"{LOCAL_PREFIX}{folder}")
    except Exception as error:
        at_weights = "state_dict" in str(error)
        raise ValueError(f"{weights if at_weights else config}: {one_line(error)}") from error


def _create(name: str) -> nn.Module:
    import timm

    import frofa.backbones.soft_moe  # noqa: F401 (registers its models)

    with torch.random.fork_rng(devices=[]):  # timm draws initial weights before it loads the pretrained ones
        module: nn.Module = timm.create_model(name, pretrained=True)
    return module


def _from_hub(model: str, name: str) -> nn.Module:
    hub = ask_hub(model, name)
    import timm  # noqa: F401 (while the hub answers)

    # Without an answer, the client takes what is in its cache alone: it would try each file several times.
    fault = hub.fault()
    try:
        with contextlib.nullcontext() if fault is None else offline():
            return _create(name)
    except Exception as error:  # timm, the hub's client and safetensors raise a dozen types
        if (folder := _other_format(model, name)) is not None:
            kind, _, path = folder.partition(":")
            return load_tower(Path(path)) if f"{kind}:" == HF_PREFIX else load_image_tower(Path(path))
        reason = error if fault is None or not _is_of_cache(error) else unreachable(fault)
        raise ModelNotFoundError(not_found(model, reason)) from error


def _other_format(model: str, name: str) -> str | None:
    """The folder, ``"hf-dir:PATH"`` or ``"local-dir:PATH"``, of a repository that timm does not read; None if none."""
    if not name.startswith(HUB_PREFIX):
        return None
    try:
        folder, config = fetch(model, name.removeprefix(HUB_PREFIX))
    except ModelNotFoundError:
        return None
    return None if config == "text.json" else f"{HF_PREFIX if config == 'config.json' else LOCAL_PREFIX}{folder}"


def _is_of_cache(error: Exception) -> bool:
    """Tell whether the hub's client, offline, did not find something in its cache."""
    from huggingface_hub import errors

    return isinstance(error, (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled))
