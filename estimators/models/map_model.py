"""The MAP head as training takes it, and where it starts: at fresh weights, or at those of a pretrained head."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Generator, Tensor

from frofa.estimators.models.map_gradients import map_gradients
from frofa.estimators.models.map_head import default_num_heads, init_map_head, map_attention, map_logits
from frofa.estimators.training.gradient import Gradient
from frofa.estimators.training.parameters import Heads, Params
from frofa.estimators.training.plan import StepBatch, TokenModel


class HeadWeights(NamedTuple):
    """A pretrained head of the model `name`, which messages mention.

    Weights are float32, named as in `init_map_head`, without the classifier; on the CPU, not to be written to.
    """

    name: str
    weights: Mapping[str, Tensor]
    num_heads: int


class HeadSource(Protocol):
    """A pretrained head to start from, such as `frofa.PretrainedHead`."""

    def load(self) -> HeadWeights:
        """The head's weights, the same at every call."""
        ...


@dataclass(frozen=True, eq=False)
class MapModel(TokenModel):
    """MAP heads of `num_heads` attention heads each, and an MLP of `mlp_ratio` times the channels.

    Training starts at the weights that are pretrained, all but the classifier's, or at fresh ones.
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
        """Compute class logits (H, n, n_classes), as in `map_pool`."""
        return map_logits(params, tokens, mask, num_heads=self.num_heads)

    def attention(self, params: Mapping[str, Tensor], tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the weights (H, n, num_heads, N) of tokens, as in `map_attention`."""
        return map_attention(params, tokens, self.num_heads, mask)

    def gradients(self, heads: Heads, step: StepBatch, out: Gradient) -> None:
        """Write the gradients of each head's mean cross-entropy."""
        map_gradients(self.num_heads, heads, step, out)

    def head_bytes(self, image: Tensor, n_batch: int) -> int:
        """Estimate the bytes of a head in training: weights, velocity, gradients and what a step keeps."""
        n_tokens, channels = image.shape
        hidden = int(channels * self.mlp_ratio)
        # Query, keys, values and projection; two layers of the MLP; biases and all that is small.
        parameters = 4 * channels**2 + 2 * channels * hidden + 20 * channels
        return 4 * (5 * parameters + n_batch * (3 * n_tokens * channels + 12 * channels + 3 * hidden))


def map_model(init: "str | HeadSource", channels: int, num_heads: int | None, mlp_ratio: float) -> MapModel:
    """Decide the shape and the start of a head for tokens of so many channels; ValueError if anything does not fit."""
    if init == "pretrained":
        raise ValueError("init='pretrained' does not say whose head it is: init=frofa.PretrainedHead('NAME') does.")
    if isinstance(init, str):
        heads = num_heads or default_num_heads(channels)
        if channels % heads:
            raise ValueError(f"num_heads must divide the {channels} channels of a token. Got {heads}.")
        return MapModel(heads, mlp_ratio)
    head = init.load()
    # Sizes as the weights have them: the latent is (1, 1, C), and the first layer of the MLP (hidden, C).
    width, hidden = head.weights["latent"].shape[-1], len(head.weights["mlp.fc1.bias"])
    if width != channels:
        raise ValueError(
            f"init is the pooling head of {head.name}, for tokens of {width} channels. Got tokens of {channels}."
        )
    if num_heads not in (None, head.num_heads):
        raise ValueError(
            f"init is the pooling head of {head.name}, of {head.num_heads} attention heads: num_heads must be that or "
            f"None. Got {num_heads}."
        )
    # Half a unit more, so that rounding down gives exactly the hidden width again.
    return MapModel(head.num_heads, (hidden + 0.5) / channels, head.weights)
