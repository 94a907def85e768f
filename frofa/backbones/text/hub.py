"""Text towers of the Hugging Face hub: fetched once, or taken from its cache on this machine."""

import contextlib
from functools import lru_cache
from pathlib import Path

from frofa.backbones.checkpoints.config import read_object
from frofa.backbones.checkpoints.hub import Reachability, offline
from frofa.backbones.checkpoints.names import unreachable
from frofa.exceptions import ModelNotFoundError
from frofa.utils.text import one_line

HUB_PREFIX = "hf-hub:"
_SMALL = ["*.json", "*.txt", "*.model"]
MODEL_TYPES = ("siglip", "siglip2", "clip")
"""Models of transformers whose text towers are known."""
WEIGHTS = {
    "text.json": ("text.safetensors",),
    "open_clip_config.json": ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"),
    "config.json": ("model.safetensors", "model-*.safetensors"),
}
"""Weights by the file that says what they are, in the order in which towers are looked for."""


def fetch(model: str, repository: str, *, cached: bool = False) -> tuple[Path, str]:
    """Return the folder of the hub's cache with a repository's text tower, and the key of `WEIGHTS` that it has.

    What is not there is fetched, unless only what is `cached` is wanted. `repository` is ``OWNER/NAME``, with
    ``@REVISION`` behind it if not the newest. A ModelNotFoundError names `model` and says what would work.
    """
    from huggingface_hub import constants

    return _fetch(model, repository, cached, str(constants.HF_HUB_CACHE))


@lru_cache(maxsize=16)
def _fetch(model: str, repository: str, cached: bool, cache: str) -> tuple[Path, str]:
    """Fetch once a process, since the hub is asked each time; failures are tried again."""
    del cache  # only part of the key
    name, _, revision = repository.partition("@")
    # Without an answer, the client takes what is in its cache alone: it would try each file several times.
    fault = "it was not asked" if cached else Reachability().fault()
    try:
        with contextlib.nullcontext() if fault is None else offline():
            folder = _snapshot(name, revision, _SMALL)
            for config in _configs(folder):
                # The small files again: a snapshot of another commit may have come in between.
                folder = _snapshot(name, revision, [*_SMALL, *WEIGHTS[config]])
                if _has_weights(folder, config):
                    return folder, config
    except Exception as error:  # the hub's client raises a dozen types
        reason = f"{type(error).__name__}: {error}" if fault is None else unreachable(fault)
        raise ModelNotFoundError(_not_found(model, name, reason)) from error
    reason = "it holds no text tower in safetensors" if fault is None else unreachable(fault)
    raise ModelNotFoundError(_not_found(model, name, reason))


def cached_towers() -> set[str]:
    """Repositories ``OWNER/NAME`` of the hub's cache that hold a text tower."""
    from huggingface_hub import constants

    found = set()
    for folder in Path(constants.HF_HUB_CACHE).glob("models--*--*/snapshots/*"):
        if any(_has_weights(folder, config) for config in _configs(folder)):
            found.add(folder.parents[1].name.removeprefix("models--").replace("--", "/", 1))
    return found


def _snapshot(name: str, revision: str, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, revision=revision or None, allow_patterns=patterns))


def _has_weights(folder: Path, config: str) -> bool:
    return any(True for pattern in WEIGHTS[config] for _ in folder.glob(pattern))


def _configs(folder: Path) -> list[str]:
    """List the keys of `WEIGHTS` that a folder has; timm's ``config.json`` is of an image tower alone."""
    there = [config for config in WEIGHTS if (folder / config).is_file()]
    if "config.json" in there and read_object(folder / "config.json").get("model_type") not in MODEL_TYPES:
        there.remove("config.json")
    return there


def _not_found(model: str, repository: str, reason: str) -> str:
    return (
        f"the text tower of {model!r} could not be loaded: {one_line(reason)}. It is {repository!r} of the Hugging "
        "Face hub, which is needed once, or its cache on this machine. 'hf-dir:PATH' and 'local-dir:PATH' work without "
        "a network."
    )
