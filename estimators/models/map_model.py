"""The MAP head as training takes it."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from torch import Generator, Tensor

from frofa.estimators.models.map_gradients import map_gradients
from frofa.estimators.models.map_head import init_map_head, map_logits
from frofa.estimators.training.gradient import Gradient
from frofa.estimators.training.loop import StepBatch
from frofa.estimators.training.parameters import Heads, Params
from frofa.estimators.training.plan import TokenModel


@dataclass(frozen=True, eq=False)
class MapModel(TokenModel):
    """MAP heads of one shape.

    Attributes
    ----------
    num_heads : int
        Attention heads of each.
    mlp_ratio : float
        Width of the MLP in units of the channels.
    pretrained : mapping of str to Tensor, or None
        Weights to start from, all but the classifier's, instead of fresh ones.
    """

    num_heads: int
    mlp_ratio: float = 4.0
    pretrained: Mapping[str, Tensor] | None = None

    def shape(self, channels: int) -> Hashable:
        """Tell heads apart by the number of attention heads and the width of the MLP."""
        return type(self), self.num_heads, int(channels * self.mlp_ratio)

    def start(self, seed: int) -> Hashable:
        """Tell fresh weights apart by the seed, pretrained ones by where they are in memory."""
        return seed if self.pretrained is None else ("pretrained", self.pretrained["latent"].data_ptr())

    def initial(self, channels: int, n_classes: int, generator: Generator) -> Params:
        """Draw fresh parameters, and take what is pretrained."""
        return {**init_map_head(channels, n_classes, self.mlp_ratio, generator), **(self.pretrained or {})}

    def logits(self, params: Mapping[str, Tensor], tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Class logits (H, n, n_classes) of tokens (n, N, C), of which a mask (n, N) shows some."""
        return map_logits(params, tokens, mask, num_heads=self.num_heads)

    def gradients(self, heads: Heads, step: StepBatch, out: Gradient) -> None:
        """Write the gradients of each head's mean cross-entropy."""
        map_gradients(self.num_heads, heads, step, out)

    def head_bytes(self, image: Tensor, n_batch: int) -> int:
        """Estimate the bytes of a head in training: weights, velocity, gradients and what a step keeps."""
        n_tokens, channels = image.shape
        hidden = int(channels * self.mlp_ratio)
        parameters = 4 * channels**2 + 2 * channels * hidden + 20 * channels
        return 4 * (5 * parameters + n_batch * (3 * n_tokens * channels + 12 * channels + 3 * hidden))
