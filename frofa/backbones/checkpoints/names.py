"""Names of backbones: what they stand for, and which certainly cannot be had; found out without PyTorch and timm."""

import difflib
import os
import sys
from pathlib import Path

from frofa.backbones.checkpoints.embedded import PREFIX, embedded_models
from frofa.backbones.checkpoints.hub import Reachability, cached_models, may_be_cached
from frofa.backbones.checkpoints.timm_names import may_be_known, pretrained_names
from frofa.exceptions import ModelNotFoundError
from frofa.utils.files import expand_home
from frofa.utils.text import one_line

FOLDERS = ("local-dir:", "hf-dir:")
"""Beginnings of the names of folders of this machine."""
_MOST_CACHED = 5
"""Models of the hub's cache that a message names."""


def ask_hub(model: str, name: str) -> Reachability:
    """Ask whether the hub can be reached; wait for that only where timm is not imported yet and nothing is cached.

    An unknown name, and weights that are neither on this machine nor to be fetched, are a ModelNotFoundError.
    """
    if ":" not in name and not may_be_known(name):
        raise ModelNotFoundError(not_found(model, f"Unknown model ({name})"))
    # The question goes out in a thread, and is answered while timm is imported.
    hub = Reachability()
    if "timm" not in sys.modules and not may_be_cached(name):  # to import it takes as long as to find this out
        fault = hub.fault()
        if fault is not None:
            raise ModelNotFoundError(not_found(model, unreachable(fault)))
    return hub


def timm_name(model: str) -> str:
    """Return the name that timm takes, or ``"hf-dir:PATH"``; raise if there is no such embedded model or folder."""
    if not isinstance(model, str):
        raise TypeError(
            f"model must be a name, 'hf-hub:NAME', 'hf-dir:PATH' or 'local-dir:PATH'. Got {type(model).__name__}."
        )
    if model.startswith(PREFIX):
        for embedded in embedded_models():
            if embedded.name == model:
                return f"local-dir:{embedded.folder}"
        raise ModelNotFoundError(not_found(model, f"no embedded model is called {model!r}"))
    if model.startswith(FOLDERS):
        kind, _, path = model.partition(":")
        folder = Path(expand_home(path))
        files = ["config.json", *["open_clip_config.json"] * (kind == "local-dir")]
        if not any((folder / file).is_file() for file in files):
            raise ModelNotFoundError(not_found(model, f"{folder} has no {' and no '.join(files)}"))
        return f"{kind}:{folder}"
    if os.sep in model and Path(expand_home(model)).is_dir():
        raise ModelNotFoundError(f"the backbone {model!r} is a folder: write 'local-dir:{model}'.")
    return model


def unreachable(fault: str) -> str:
    """Give the reason where the hub cannot be asked."""
    return f"its weights are not on this machine, and the Hugging Face Hub cannot be reached: {one_line(fault)}"


def not_found(model: str, reason: object) -> str:
    """Compose the message for a backbone that is not to be had, by the name that the user gave: what would work."""
    lines = [f"the backbone {model!r} could not be loaded: {one_line(reason)}."]
    # Close names help where the name may be wrong, not where it is known and its weights are out of reach.
    bare = model.removeprefix("hf-hub:").removeprefix("timm/")
    if ":" not in model and ("." in bare or not may_be_known(bare)):
        embedded = model.startswith(PREFIX)
        names = [m.name for m in embedded_models()] if embedded else pretrained_names()
        close = [] if bare in names else difflib.get_close_matches(bare, names, n=3)
        lines += [f"Close {'embedded' if embedded else 'timm'} names: {', '.join(close)}."] if close else []
    if "/" in model and ":" not in model and not model.startswith(PREFIX):
        lines.append("Also, no installed package registers an encoder of this name ('frofa models' lists those).")
    lines.append(
        f"These work without a network: {', '.join(m.name for m in embedded_models())} (shipped with frofa), and "
        "'local-dir:PATH' for a folder with config.json and model.safetensors, as timm.models.save_for_hf writes it, "
        "or one of open_clip, and 'hf-dir:PATH' for a Hugging Face folder of SigLIP, SigLIP 2, CLIP or PaliGemma."
    )
    if cached := cached_models():
        more = f" and {len(cached) - _MOST_CACHED} more" if len(cached) > _MOST_CACHED else ""
        lines.append(f"In the cache of this machine: {', '.join(cached[:_MOST_CACHED])}{more}.")
    is_set = "is set" if os.environ.get("HF_HUB_OFFLINE") else "does not ask it"
    lines.append(
        "Names of timm ('vit_base_patch16_siglip_224.webli') and 'hf-hub:OWNER/NAME' need the Hugging Face hub once, "
        f"or its cache on this machine (HF_HUB_OFFLINE=1 {is_set})."
    )
    return " ".join(lines)
