"""A backbone's module with its weights, or an error that says which would work."""

import contextlib
from pathlib import Path

import torch
from torch import nn

from frofa.backbones.checkpoints.config import check_model_config, check_preprocessing, read_object
from frofa.backbones.checkpoints.hub import offline
from frofa.backbones.checkpoints.huggingface import HF_PREFIX, load_tower
from frofa.backbones.checkpoints.names import ask_hub, not_found, unreachable
from frofa.exceptions import ModelNotFoundError
from frofa.utils.text import one_line

LOCAL_PREFIX = "local-dir:"


def create_module(model: str, name: str) -> nn.Module:
    """Create a model and load its weights; the global random state is left alone.

    Parameters
    ----------
    model : str
        As the user gave it.
    name : str
        As timm takes it, or ``"hf-dir:PATH"``.

    Raises
    ------
    ModelNotFoundError
        If the weights are not to be had, or the model's files are damaged or say what cannot be.
    """
    try:
        if not name.startswith((LOCAL_PREFIX, HF_PREFIX)):
            module = _from_hub(model, name)
            check_preprocessing(getattr(module, "pretrained_cfg", None) or {}, "its pretrained_cfg")
            _check_finite(module, "its weights")
            return module
        folder = Path(name.partition(":")[2])
        module = load_tower(folder) if name.startswith(HF_PREFIX) else _from_folder(folder)
        _check_finite(module, f"the weights of {folder}")
    except ModelNotFoundError:
        raise
    except Exception as error:  # timm and safetensors raise a dozen types
        raise ModelNotFoundError(f"the backbone {model!r} could not be loaded: {one_line(error)}.") from error
    return module


def _check_finite(module: nn.Module, where: str) -> None:
    """Raise a ValueError if a parameter or buffer holds NaN or infinite values."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(f"{where}: {name} holds NaN or infinite values")


def _from_folder(folder: Path) -> nn.Module:
    """A model in timm's folder format."""
    from safetensors import safe_open

    config, weights = folder / "config.json", folder / "model.safetensors"
    check_model_config(read_object(config), str(config))
    if weights.is_file():
        try:
            with safe_open(weights, "pt"):
                pass
        except Exception as error:  # SafetensorError is of Rust
            raise ValueError(f"{weights} is no whole file of safetensors: {one_line(error)}") from error
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

    fault = hub.fault()
    try:
        with contextlib.nullcontext() if fault is None else offline():
            return _create(name)
    except Exception as error:  # timm, the hub's client and safetensors raise a dozen types
        reason = error if fault is None or not _is_of_cache(error) else unreachable(fault)
        raise ModelNotFoundError(not_found(model, reason)) from error


def _is_of_cache(error: Exception) -> bool:
    """Whether it is what the hub's client raises offline for what is not in its cache."""
    from huggingface_hub import errors

    return isinstance(error, (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled))
