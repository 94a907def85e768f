"""Finding of text towers: the folder of a model's, and its format, without PyTorch."""

from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from frofa.backbones.checkpoints.config import read_object, shown
from frofa.backbones.checkpoints.names import FOLDERS, timm_name
from frofa.backbones.text.hub import HUB_PREFIX, MODEL_TYPES, fetch
from frofa.backbones.text.pairs import repository_of
from frofa.exceptions import ModelNotFoundError
from frofa.utils.files import expand_home
from frofa.utils.text import one_line

Kind: TypeAlias = Literal["text.json", "open_clip", "hf"]
_KINDS: dict[str, Kind] = {"text.json": "text.json", "open_clip_config.json": "open_clip", "config.json": "hf"}
_IN_GENERAL = (
    "Text towers are found in 'hf-dir:PATH' of SigLIP, SigLIP 2 and CLIP, in 'local-dir:PATH' with "
    "open_clip_config.json or text.json, at 'hf-hub:OWNER/NAME', and beside timm's image towers of SigLIP, SigLIP 2 "
    "and CLIP ('vit_base_patch16_siglip_224.webli')."
)


class Found(NamedTuple):
    """A folder of this machine, and the format of the text tower in it."""

    folder: Path
    kind: Kind


def find_tower(model: str, *, cached: bool = False) -> Found:
    """Find the text tower of a model; what is not on this machine is fetched, unless only `cached` ones are wanted.

    A ModelNotFoundError says that it has none, or why it is not to be had.
    """
    if not isinstance(model, str):
        raise TypeError(
            f"model must be a name, 'hf-hub:NAME', 'hf-dir:PATH' or 'local-dir:PATH'. Got {type(model).__name__}."
        )
    if model.startswith(HUB_PREFIX):
        return _at_hub(model, model.removeprefix(HUB_PREFIX), cached=cached)
    # A folder with a text tower need not have an image tower.
    name = model if model.startswith(FOLDERS) else timm_name(model)
    if name.startswith(FOLDERS):
        prefix, _, path = name.partition(":")
        return _in_folder(model, Path(expand_home(path)), hugging_face=prefix == "hf-dir")
    repository = repository_of(name)
    if repository is None:
        raise ModelNotFoundError(f"the backbone {model!r} has no text tower that frofa knows of. {_IN_GENERAL}")
    return _at_hub(model, repository, cached=cached)


def _at_hub(model: str, repository: str, *, cached: bool) -> Found:
    folder, config = fetch(model, repository, cached=cached)
    return Found(folder, _KINDS[config])


def _in_folder(model: str, folder: Path, *, hugging_face: bool) -> Found:
    """The format in a folder: that of transformers, or one of the others."""
    if not folder.is_dir():
        raise ModelNotFoundError(_failed(model, f"{folder} is no folder"))
    kind = _model_type(model, folder / "config.json")
    if hugging_face:
        if kind not in MODEL_TYPES:
            known = f"it has model_type {shown(kind)}, with text towers are {', '.join(MODEL_TYPES)}"
            raise ModelNotFoundError(f"the backbone {model!r} has no text tower that frofa knows of: {known}.")
        return Found(folder, "hf")
    for config in ("text.json", "open_clip_config.json"):
        if (folder / config).is_file():
            return Found(folder, _KINDS[config])
    if kind in MODEL_TYPES:
        raise ModelNotFoundError(_failed(model, f"{folder} is a Hugging Face folder: write 'hf-dir:{folder}'"))
    raise ModelNotFoundError(f"the backbone {model!r} has no text tower. {_IN_GENERAL}")


def _model_type(model: str, file: Path) -> object:
    """Read what transformers calls a model; None of those that are timm's."""
    if not file.is_file():
        if model.startswith("hf-dir:"):
            raise ModelNotFoundError(_failed(model, f"{file.parent} has no config.json"))
        return None
    try:
        return read_object(file).get("model_type")
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(_failed(model, one_line(error))) from error


def _failed(model: str, reason: str) -> str:
    return f"the text tower of {model!r} could not be loaded: {reason}."
