"""Loading of text towers, once a process: a tower with its tokenizer, or an error that says which would work."""

from functools import lru_cache
from pathlib import Path

import torch

from frofa.backbones.loading import check_finite
from frofa.backbones.text import byte_text, huggingface, open_clip
from frofa.backbones.text.finding import Found, find_tower
from frofa.backbones.text.parts import Parts
from frofa.backbones.text.tower import TextTower
from frofa.compute.devices import resolve_device
from frofa.compute.digests import architecture_digest, weights_digest
from frofa.exceptions import ModelNotFoundError
from frofa.utils.text import one_line

_LOADERS = {"text.json": byte_text.load_folder, "open_clip": open_clip.load_folder, "hf": huggingface.load_folder}


def load_text_tower(model: str, device: str = "auto") -> TextTower:
    """Load the text tower of a model, or return the one this process has loaded already.

    Parameters
    ----------
    model : str
        A name as `FrozenFeatureExtractor` takes it: ``"hf-dir:PATH"`` of SigLIP, SigLIP 2 or CLIP, ``"local-dir:PATH"``
        with ``open_clip_config.json`` or ``text.json``, ``"hf-hub:OWNER/NAME"`` of either, or a timm name of an image
        tower that was published with a text tower, such as ``"vit_base_patch16_siglip_224.webli"``.
    device : str, default="auto"
        The GPU where there is one, or a device of torch's.

    Raises
    ------
    ModelNotFoundError
        If the model has no text tower, or its files are not to be had, damaged, or say what cannot be.
    ImportError
        If its tokenizer needs an extra that is not installed.
    ValueError
        If this machine does not have the device.
    """
    where = str(resolve_device(device))
    found = find_tower(model)
    return _load(model, found, _fingerprint(found.folder), where)


@lru_cache(maxsize=4)
def _load(model: str, found: Found, fingerprint: tuple[tuple[str, int, int], ...], device: str) -> TextTower:
    del fingerprint  # only part of the key: a folder whose files changed is loaded again
    try:
        parts: Parts = _LOADERS[found.kind](found.folder)
        check_finite(parts.module, f"the text tower of {found.folder}")
    except (ModelNotFoundError, ImportError):
        raise
    except Exception as error:  # safetensors and tokenizers raise types of their own
        raise ModelNotFoundError(f"the text tower of {model!r} could not be loaded: {one_line(error)}.") from error
    config = parts.config
    digest, architecture = weights_digest(parts.module), architecture_digest(parts.module)
    return TextTower(
        name=model,
        module=parts.module.to(torch.device(device)),
        tokenizer=parts.tokenizer,
        width=config.width if config.projection is None else config.projection,
        context=config.context,
        logit_scale=parts.logit_scale,
        logit_bias=parts.logit_bias,
        templates=parts.templates,
        weights_digest=digest,
        architecture=architecture,
        device=torch.device(device),
    )


def _fingerprint(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Names, times and sizes of the files of a folder."""
    files = [(file.name, file.stat()) for file in sorted(folder.iterdir())]
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in files)
