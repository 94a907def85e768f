"""The vector of a backbone that its pre-training loss was applied to."""

import re
from typing import Any, Literal, NamedTuple, TypeAlias

from torch import nn

Vector: TypeAlias = Literal["cls", "pooled", "mean"]


class Family(NamedTuple):
    """Checkpoints that were pre-trained in one way.

    `pattern` is searched for in timm's ``ARCHITECTURE.TAG``. The loss was applied to `vector`, None where that is no
    output of the model; `loss` says in a message what was done. With `has_texts`, it compared that vector with those of
    texts, and with `is_projected`, what the model's own last layer makes of it.
    """

    pattern: str
    vector: Vector | None
    loss: str
    has_texts: bool = False
    is_projected: bool = False


_FAMILIES = (  # the first that matches
    Family(r"ijepa|\.mae$|\.fcmae$|\.mim_\w*\d+[km]$(?<!_in1k)|^aimv2", None, "reconstruction of single patches"),
    Family(r"\.(\w+_)?in(1|12|21|22)k(_\d+)?$", "pooled", "classification of labelled images"),
    Family(r"_siglip_gap_|\.pali", None, "an image-text loss or a language model behind parts that are not there"),
    Family(r"siglip_tiny_tin200$", "pooled", "labels, or captions, of Tiny ImageNet", has_texts=True),
    Family(r"_tiny_tin200$", "pooled", "labels, or captions, of Tiny ImageNet"),
    Family(r"siglip", "pooled", "the image-text loss of SigLIP", has_texts=True),
    Family(r"^vit_pe_core_", "pooled", "the image-text loss of Perception Encoder", True, True),
    Family(r"^vit_\w+_dinov[23]|^(vit|xcit)_\w+\.(fb_)?dino$", "cls", "the DINO loss"),
    Family(r"^(vit|eva|eva02)_\w+_clip_", "cls", "the image-text loss of CLIP", True, True),
    Family(r"^resnet\w+_clip\.|^convnext\w+\.clip_", "pooled", "the image-text loss of CLIP", True, True),
)


def pretraining(module: nn.Module) -> Family | None:
    """Find out how a model was pre-trained; None where it is not known."""
    config: dict[str, Any] = getattr(module, "pretrained_cfg", None) or {}
    name = f"{config.get('architecture') or ''}.{config.get('tag') or ''}"
    # Fine-tuning tags stand before the families that were fine-tuned: the last loss is what shaped the vector.
    for family in _FAMILIES:
        if re.search(family.pattern, name):
            return family
    # An unknown family with a classifier: that was trained on what `forward_head` gives it.
    if config.get("num_classes"):
        return Family("", "pooled", f"a last layer of {config['num_classes']} outputs, which reads it")
    return None


def pretraining_vector(module: nn.Module) -> Vector | None:
    """Name the output that a timm model's pre-training loss was applied to; None where that is none or not known.

    The family is found by the architecture and tag in its `pretrained_cfg`.

    Notes
    -----
    Sources: SigLIP applies its loss to the attention-pooling head (Zhai et al., 2023, arXiv 2303.15343; big_vision
    ``models/vit.py``), and so do Perception Encoder's core models (Bolya et al., 2025, arXiv 2504.13181). DINO, DINOv2
    and DINOv3 apply it to the class token, and a second one to masked patches (arXiv 2104.14294, 2304.07193,
    2508.10104), though timm pools DINOv3 by the average. CLIP projects the class token of its ViTs, the attention pool
    of its ResNets (Radford et al., 2021, arXiv 2103.00020), and in OpenCLIP the normalised average of ConvNeXts. MAE,
    FCMAE, BEiT and EVA before fine-tuning, I-JEPA and AIMv2 predict patches (arXiv 2111.06377, 2301.00808, 2211.07636,
    2301.08243, 2411.14402). The last layers of timm's models, classifiers or projections, read what `forward_head`
    gives before them.

    Examples
    --------
    >>> from frofa.backbones.pretraining import pretraining_vector
    >>> from frofa.backbones.loading import load_backbone
    >>> pretraining_vector(load_backbone("frofa/vit_tiny_tin200", None, "cpu").module)
    'pooled'
    """
    family = pretraining(module)
    return None if family is None else family.vector
