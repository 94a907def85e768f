"""The kind of vector that a model's own pooling gives: the class token, an average, or something else."""

import contextlib
from typing import Any, NamedTuple

import torch
from torch import Tensor

from frofa.backbones.layout import Layout, has_cls_token

CLASS_TOKEN, MEAN, MEAN_OF_ALL = "the class token", "the average of the patch tokens", "the average of all tokens"
_TOLERANCE = 1e-4
"""Largest difference between two ways to compute the same vector in float32."""


class Pooling(NamedTuple):
    """A kind of pooled vector, in words, and whether it goes through a norm of the model's afterwards."""

    kind: str
    is_normed: bool = False

    @property
    def is_mean(self) -> bool:
        """True of an average of the tokens, up to a norm: next to that, ``"mean"`` would say the same again."""
        return self.kind in (MEAN, MEAN_OF_ALL)

    def __str__(self) -> str:
        return self.kind + ", normalised" * self.is_normed


def read_pooling(module: Any, layout: Layout, images: Tensor) -> Pooling:
    """Tell the kind of the pooled vector, by comparison with what it could be for images (n, channels, H, W)."""
    # timm keeps the pool in the model, or in its head, as `attn_pool` or as a module of any name.
    pool = getattr(module, "global_pool", None) or getattr(getattr(module, "head", None), "global_pool", None)
    if getattr(module, "attn_pool", None) is not None or "AttentionPool" in type(pool).__name__:
        return Pooling("that of an attention-pooling head")
    # Try each vector that the pooled one could be, as it is and through each norm that the model has behind its pool.
    with torch.inference_mode():
        features = module.forward_features(images)
        pooled = module.forward_head(features, pre_logits=True)
        for kind, vector in _candidates(module, layout, features).items():
            for norm in (torch.nn.Identity(), *_norms(module)):
                if _is_same(_normalised(norm, vector), pooled):
                    return Pooling(kind, not isinstance(norm, torch.nn.Identity))
    return Pooling("made by the model's own head")


def _candidates(module: Any, layout: Layout, features: Any) -> dict[str, Tensor]:
    if "tokens" not in layout.widths:
        return {}
    prefix, tokens = layout.split(features)
    found = {CLASS_TOKEN: prefix[:, 0]} if layout.n_prefix and has_cls_token(module) else {}
    return found | {
        MEAN: tokens.mean(1),
        MEAN_OF_ALL: torch.cat([prefix, tokens], 1).mean(1),
        "the maximum of the patch tokens": tokens.amax(1),
        "the average of the class and distillation tokens": prefix[:, :2].mean(1) if prefix.shape[1] else tokens[:, 0],
    }


def _norms(module: Any) -> list[Any]:
    head = getattr(module, "head", None)
    found = (getattr(module, "fc_norm", None), getattr(head, "norm", None), getattr(module, "head_norm", None))
    return [norm for norm in found if norm is not None]


def _normalised(norm: Any, vector: Tensor) -> Tensor | None:
    for shaped in (vector, vector[:, :, None, None], vector[:, None, None]):  # norms of vectors, and of grids
        with contextlib.suppress(Exception):
            return torch.as_tensor(norm(shaped)).flatten(1)
    return None


def _is_same(found: Tensor | None, expected: Tensor) -> bool:
    if found is None or found.shape != expected.shape:
        return False
    return torch.allclose(found, expected, _TOLERANCE, _TOLERANCE)
