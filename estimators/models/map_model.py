"""The MAP head as training takes it, and where it starts: at fresh weights, or at those of a pretrained head."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Generator, Tensor

from frofa.estimators.models.map_gradients import map_gradients
from frofa.estimators.models.map_head import default_num_heads, init_map_head, map_logits
from frofa.estimators.training.gradient import Gradient
from frofa.estimators.training.parameters import Heads, Params
from frofa.estimators.training.plan import StepBatch, TokenModel


class HeadWeights(NamedTuple):
    """A pretrained head.

    Attributes
    ----------
    name : str
        Of what it comes from, for messages.
    weights : mapping of str to Tensor of float32
        As in `init_map_head`, without the classifier; on the CPU, not to be written to.
    num_heads : int
        Attention heads.
    """

    name: str
    weights: Mapping[str, Tensor]
    num_heads: int


class HeadSource(Protocol):
    """What a head may start from: `frofa.PretrainedHead` is one."""

    def load(self) -> HeadWeights:
        """The head's weights, the same at every call."""
        ...


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


def map_model(init: "str | HeadSource", channels: int, num_heads: int | None, mlp_ratio: float) -> MapModel:
    """Decide the shape and the start of a head for tokens of so many channels.

    Raises
    ------
    ValueError
        If the tokens or `num_heads` do not fit.
    """
    if init == "pretrained":
        raise ValueError("init='pretrained' does not say whose head it is: init=frofa.PretrainedHead('NAME') does.")
    if isinstance(init, str):
        heads = num_heads or default_num_heads(channels)
        if channels % heads:
            raise ValueError(f"num_heads must divide the {channels} channels of a token. Got {heads}.")
        return MapModel(heads, mlp_ratio)
    head = init.load()
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
    return MapModel(head.num_heads, (hidden + 0.5) / channels, head.weights)
