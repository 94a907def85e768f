"""The weights of a pretrained backbone that a MAP head can start from."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from frofa.backbones.loading import load_backbone
from frofa.estimators.models.map_model import HeadWeights

_NAMES = {
    "latent",
    *(f"{part}.{kind}" for part in ("q", "kv", "proj", "norm", "mlp.fc1", "mlp.fc2") for kind in ("weight", "bias")),
}


class PretrainedHead(BaseEstimator):
    """A backbone's own weights as a MAP head, for ``MAPClassifier(init=...)``.

    SigLIP towers have an attention-pooling head (not the ``gap`` ones), which is taken as it is. A plain ViT with a
    class token has none; attention and MLP of its last block are taken instead, though tokens have been through it
    already. Both are a better start than fresh weights, best with brightness c2 and 1000 steps on the tokens of several
    views (``docs/results/token_heads.md``). The head reads the tokens of the last layer, ``output="tokens"``. This is a
    name only: the backbone is loaded when a head is fitted, so that `clone`, pickle and searches carry no weights.

    `MAPClassifier` has the exact GELU and a LayerNorm with an eps of 1e-6. The eps is that of every SigLIP tower; the
    GELU that they were trained with is the tanh form, which changes what the head starts from by about 2e-4 of the
    largest value. The classifier behind it starts at zero, and all of it is trained.

    Parameters
    ----------
    model : str
        Name of a backbone, as `FrozenFeatureExtractor` takes it.
    query : array-like of shape (n_channels,), default=None
        The class token whose query the last block starts with: best the mean of those of some images
        (``output="cls"``; labels are not needed), on which most of its advantage over fresh weights depends. None is
        the bias of the query alone. An attention pool has a query of its own, and ignores this.

    Examples
    --------
    >>> from frofa import PretrainedHead
    >>> from frofa.augmentations import Brightness
    >>> from frofa.estimators import MAPClassifier
    >>> start = PretrainedHead("frofa/vit_tiny_tin200", query=[0.0] * 192)  # or class_tokens.mean(0)
    >>> MAPClassifier(Brightness(0.3, "c2"), n_steps=1000, init=start).get_params()["init__model"]
    'frofa/vit_tiny_tin200'
    """

    def __init__(self, model: str, query: npt.ArrayLike | None = None):
        self.model = model
        self.query = query

    def load(self) -> HeadWeights:
        """Load the head's weights, under the names of timm's `AttentionPoolLatent`.

        Raises
        ------
        ModelNotFoundError
            If the backbone is not to be had.
        ValueError
            If it has neither such a head nor a last block that could be one, or `query` is of another width.
        """
        from timm.layers import AttentionPoolLatent

        backbone = load_backbone(self.model, None, "cpu")
        module: Any = backbone.module
        pool = getattr(module, "attn_pool", None)
        if isinstance(pool, AttentionPoolLatent):
            return _pool_weights(self.model, pool)
        block = module.blocks[-1] if backbone.has_cls_token and hasattr(module, "blocks") else None
        if block is None or not _is_plain(block):
            pooling = getattr(module, "global_pool", None)
            how = f"it pools by {pooling!r}" if isinstance(pooling, str) else "it pools otherwise"
            raise ValueError(
                f"{self.model} has no attention-pooling head ({how}), as SigLIP towers without 'gap' in their name "
                "have, and no class token with a plain last block that could be one: choose init='random'."
            )
        return HeadWeights(self.model, _block_weights(block, self._latent(block)), block.attn.num_heads)

    def _latent(self, block: Any) -> Tensor:
        channels = block.attn.qkv.in_features
        if self.query is None:
            return torch.zeros(1, 1, channels)
        query = np.asarray(self.query, np.float32)
        if query.shape != (channels,) or not np.isfinite(query).all():
            raise ValueError(
                f"query must be a class token of {self.model}, {channels} finite numbers. Got shape {query.shape}."
            )
        return torch.tensor(query).view(1, 1, channels)


def _pool_weights(name: str, pool: Any) -> HeadWeights:
    weights = {key: tensor.detach() for key, tensor in pool.state_dict().items()}
    if set(weights) != _NAMES or pool.latent_len != 1 or not isinstance(pool.norm, nn.LayerNorm):
        raise ValueError(f"{name} has an attention-pooling head of another form than SigLIP's.")
    return HeadWeights(name, weights, pool.num_heads)


def _is_plain(block: Any) -> bool:
    """Tell whether a block is timm's ordinary one: a joint projection, attention without more, an MLP of two layers."""
    attention, mlp = getattr(block, "attn", None), getattr(block, "mlp", None)
    linear: list[Any] = [getattr(attention, "qkv", None), getattr(attention, "proj", None)]
    linear += [getattr(mlp, "fc1", None), getattr(mlp, "fc2", None)]
    norms = [getattr(attention, "q_norm", None), getattr(attention, "k_norm", None)]
    if not all(isinstance(layer, nn.Linear) for layer in linear) or not isinstance(block.norm2, nn.LayerNorm):
        return False
    query_key_value, _, first, second = linear
    # A gated MLP halves its hidden layer, and queries that are normalised are another function of the weights.
    return (
        all(norm is None or isinstance(norm, nn.Identity) for norm in norms)
        and first.out_features == second.in_features
        and query_key_value.out_features == 3 * query_key_value.in_features
    )


def _block_weights(block: Any, latent: Tensor) -> dict[str, Tensor]:
    """A transformer block as a MAP head: attention of one query, and the MLP behind it.

    The block's own query is that of each image's class token, in whose place is the latent (1, 1, C). The attention of
    their mean is about even, as it is with the bias alone; that of one image's is not.
    """
    qkv, projection, first, second = block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2
    channels = qkv.in_features
    # LayerScale multiplies what each half adds, so that it goes into its last layer: (C,), or one.
    scales = [getattr(getattr(block, name, None), "gamma", torch.ones(channels)) for name in ("ls1", "ls2")]
    kernel, bias = qkv.weight, _bias(qkv)
    weights = {
        "latent": latent,
        "q.weight": kernel[:channels],
        "q.bias": bias[:channels],
        "kv.weight": kernel[channels:],
        "kv.bias": bias[channels:],
        "proj.weight": scales[0].unsqueeze(1) * projection.weight,
        "proj.bias": scales[0] * _bias(projection),
        "norm.weight": block.norm2.weight,
        "norm.bias": block.norm2.bias,
        "mlp.fc1.weight": first.weight,
        "mlp.fc1.bias": _bias(first),
        "mlp.fc2.weight": scales[1].unsqueeze(1) * second.weight,
        "mlp.fc2.bias": scales[1] * _bias(second),
    }
    return {name: value.detach().float().contiguous() for name, value in weights.items()}


def _bias(layer: nn.Linear) -> Tensor:
    return torch.zeros(layer.out_features) if layer.bias is None else layer.bias


def start_of(model: Any) -> PretrainedHead | Literal["random"]:
    """Choose where heads on a backbone's tokens start: at its own weights, or at fresh ones where it has none that fit.

    A custom encoder, which is not a name, has none.
    """
    if not isinstance(model, str):
        return "random"
    head = PretrainedHead(model)
    try:
        head.load()
    except ValueError:
        return "random"
    return head
