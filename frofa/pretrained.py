"""The pooling head of a pretrained backbone, as a start for `MAPClassifier`."""

from typing import Any

from sklearn.base import BaseEstimator
from torch import nn

from frofa.backbones.loading import load_backbone
from frofa.estimators.models.map_model import HeadWeights

_NAMES = {
    "latent",
    *(f"{part}.{kind}" for part in ("q", "kv", "proj", "norm", "mlp.fc1", "mlp.fc2") for kind in ("weight", "bias")),
}


class PretrainedHead(BaseEstimator):
    """The attention-pooling (MAP) head of a backbone, for ``MAPClassifier(init=...)``.

    SigLIP towers have one (not the ``gap`` ones); the head reads the tokens of the last layer, ``output="tokens"``.
    It is a name only: the backbone is loaded when a head is fitted, so that `clone`, pickle and searches carry no
    weights.

    `MAPClassifier` has the exact GELU and a LayerNorm with an eps of 1e-6. The eps is that of every SigLIP tower; the
    GELU that they were trained with is the tanh form, which changes what the head starts from by about 2e-4 of the
    largest value. The classifier behind it starts at zero, and all of it is trained.

    Parameters
    ----------
    model : str
        Name of a backbone, as `FrozenFeatureExtractor` takes it.

    Examples
    --------
    >>> from frofa import PretrainedHead
    >>> from frofa.estimators import MAPClassifier
    >>> MAPClassifier(init=PretrainedHead("vit_base_patch16_siglip_224.webli")).get_params()["init__model"]
    'vit_base_patch16_siglip_224.webli'
    """

    def __init__(self, model: str):
        self.model = model

    def load(self) -> HeadWeights:
        """Load the head's weights, under the names of timm's `AttentionPoolLatent`.

        Raises
        ------
        ModelNotFoundError
            If the backbone is not to be had.
        ValueError
            If it has no such head.
        """
        from timm.layers import AttentionPoolLatent

        module: Any = load_backbone(self.model, None, "cpu").module
        pool = getattr(module, "attn_pool", None)
        if not isinstance(pool, AttentionPoolLatent):
            pooling = getattr(module, "global_pool", None)
            how = f"it pools by {pooling!r}" if isinstance(pooling, str) else "it pools otherwise"
            raise ValueError(
                f"{self.model} has no attention-pooling head ({how}), as SigLIP towers without 'gap' in their name "
                "have: choose init='random'."
            )
        weights = {name: tensor.detach() for name, tensor in pool.state_dict().items()}
        if set(weights) != _NAMES or pool.latent_len != 1 or not isinstance(pool.norm, nn.LayerNorm):
            raise ValueError(f"{self.model} has an attention-pooling head of another form than SigLIP's.")
        return HeadWeights(self.model, weights, pool.num_heads)
