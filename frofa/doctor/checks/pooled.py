"""A check of what the pooled vector is, and whether the pre-training loss was applied to it."""

import contextlib
from typing import Any

import torch
from sklearn.base import clone
from torch import Tensor

from frofa.backbones.backbone import Backbone
from frofa.backbones.layout import probing_images
from frofa.backbones.navit.backbone import NativeBackbone
from frofa.backbones.pretraining import pretraining
from frofa.doctor.finding import Outcome, note, ok
from frofa.doctor.subject import FLOAT32_TOLERANCE, Subject

_OUTPUTS = {"the class token": "cls", "the average of the patch tokens": "mean"}
"""The output that is the same vector, by the kind of pooled vector."""


def check_pooled(subject: Subject) -> Outcome:
    """Say which vector ``pooled`` is, and whether the pre-training loss was applied to it."""
    backbone = subject.backbone
    if isinstance(backbone, NativeBackbone):  # the same model, at its own image size
        backbone = clone(subject.extractor).set_params(max_tokens=None, output="pooled", layer=None)._backbone()
    kind, then = pooled_vector(backbone)
    is_what = f"pooled is {kind}{then}"
    family = pretraining(backbone.module)
    if family is None:
        return ok(f"{is_what}; which vector the pre-training loss was applied to is not known")
    if family.vector is None:
        return note(f"{is_what}; the pre-training loss was not applied to it ({family.loss})")
    if family.vector in ("pooled", _OUTPUTS.get(kind)):
        return ok(f"{is_what}; the pre-training loss was applied to it ({family.loss})")
    return note(
        f"{is_what}; the pre-training loss was applied to output={family.vector!r} instead ({family.loss}): try that"
    )


def pooled_vector(backbone: Backbone) -> tuple[str, str]:
    """Tell the kind of the pooled vector, and whether it is normalised, by comparison with what it could be."""
    module: Any = backbone.module
    # timm keeps the pool in the model, or in its head, as `attn_pool` or as a module of any name.
    pool = getattr(module, "global_pool", None) or getattr(getattr(module, "head", None), "global_pool", None)
    if getattr(module, "attn_pool", None) is not None or "AttentionPool" in type(pool).__name__:
        return "that of an attention-pooling head", ""
    # Try each vector that the pooled one could be, as it is and through each norm that the model has behind its pool.
    images = probing_images(*backbone.data_config["input_size"]).to(backbone.device)
    with torch.inference_mode():
        features = module.forward_features(images)
        pooled = module.forward_head(features, pre_logits=True)
        for kind, vector in _candidates(backbone, features).items():
            for norm, then in ((torch.nn.Identity(), ""), *_norms(module)):
                if _is_same(_normalised(norm, vector), pooled):
                    return kind, then
    return "made by the model's own head", ""


def _candidates(backbone: Backbone, features: Any) -> dict[str, Tensor]:
    if "tokens" not in backbone.layout.widths:
        return {}
    prefix, tokens = backbone.layout.split(features)
    found = {"the class token": prefix[:, 0]} if backbone.has_cls_token else {}
    return found | {
        "the average of the patch tokens": tokens.mean(1),
        "the average of all tokens": torch.cat([prefix, tokens], 1).mean(1),
        "the maximum of the patch tokens": tokens.amax(1),
        "the average of the class and distillation tokens": prefix[:, :2].mean(1) if prefix.shape[1] else tokens[:, 0],
    }


def _norms(module: Any) -> list[tuple[Any, str]]:
    head = getattr(module, "head", None)
    found = (getattr(module, "fc_norm", None), getattr(head, "norm", None), getattr(module, "head_norm", None))
    return [(norm, ", normalised") for norm in found if norm is not None]


def _normalised(norm: Any, vector: Tensor) -> Tensor | None:
    for shaped in (vector, vector[:, :, None, None], vector[:, None, None]):  # norms of vectors, and of grids
        with contextlib.suppress(Exception):
            return torch.as_tensor(norm(shaped)).flatten(1)
    return None


def _is_same(found: Tensor | None, expected: Tensor) -> bool:
    if found is None or found.shape != expected.shape:
        return False
    return torch.allclose(found, expected, FLOAT32_TOLERANCE, FLOAT32_TOLERANCE)
