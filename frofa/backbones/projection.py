"""The vector of an image in the space of words: what image-text models are trained to compare with texts."""

from pathlib import Path
from typing import Any

from torch import nn

from frofa.backbones.layout import Layout
from frofa.backbones.pretraining import pretraining

_TEXT_TOWERS = ("text.json", "open_clip_config.json")
"""Files that say that a folder has a text tower too."""


def with_projection(layout: Layout, module: nn.Module, name: str = "") -> Layout:
    """Add to a layout whether a model has ``"projected"``, how wide it is, and where it comes from.

    CLIP's models, and Perception Encoder's, have a projection as their last layer. SigLIP has none: its pooled vector
    is compared with texts as it is. Which a model is tells its `pretrained_cfg`; but of a folder (`name` is
    ``"local-dir:PATH"``) with a text tower, the image tower has such a vector whatever it is called.
    """
    fault = layout.lacking.get("pooled") if _has_texts_beside(name) else _fault(layout, module)
    if fault is not None:
        return layout._replace(lacking={**layout.lacking, "projected": fault})
    last = _n_outputs(module)
    width = last or layout.widths["pooled"]
    return layout._replace(widths={**layout.widths, "projected": width}, is_projection_own=last > 0)


def _fault(layout: Layout, module: nn.Module) -> str | None:
    """Say why there is no such vector; None where there is."""
    family = pretraining(module)
    if family is None or not family.has_texts:
        loss = "" if family is None else f" (its loss: {family.loss})"
        return f"it was not trained together with a text tower, as far as its name says{loss}"
    if "pooled" in layout.lacking:
        return layout.lacking["pooled"]
    if family.is_projected and not _n_outputs(module):
        return "its last layer, which projects into the space of texts, was left out (num_classes is 0)"
    if not family.is_projected and _n_outputs(module):
        return f"it has a last layer of {_n_outputs(module)} outputs, which was trained for something else"
    return None


def _has_texts_beside(name: str) -> bool:
    prefix, _, path = name.partition(":")
    return prefix == "local-dir" and any((Path(path) / file).is_file() for file in _TEXT_TOWERS)


def _n_outputs(module: Any) -> int:
    """Outputs of a model's own last layer; 0 without one."""
    return int(getattr(module, "num_classes", 0) or 0)
