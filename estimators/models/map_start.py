"""Where the training of a MAP head starts: at fresh weights, or at those of a pretrained head."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from torch import Tensor

from frofa.estimators.models.map_head import default_num_heads
from frofa.estimators.models.map_model import MapModel


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
