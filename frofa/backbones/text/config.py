"""Sizes and rules of a text tower, whatever file they come from, checked before anything is built of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from frofa.backbones.checkpoints.config import shown

Pooling: TypeAlias = Literal["first", "last", "argmax", "eos", "mean"]
"""The token whose vector stands for the text: by place, the one of the largest id, or the first end-of-text token; or
the mean of all tokens that are no padding."""
ACTIVATIONS = {"gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh", "gelu": "gelu", "quick_gelu": "quick_gelu"}
_MOST = {"vocabulary": 2**24, "depth": 2**10, "context": 2**14}
_MOST_OTHERS = 2**16


class TextConfig(NamedTuple):
    """Sizes and rules in which text towers differ: all of them are the pre-norm transformer of CLIP."""

    vocabulary: int
    context: int  # tokens of a text
    width: int
    depth: int
    heads: int
    hidden: int  # width of the MLP
    activation: str = "gelu"  # "gelu", "gelu_tanh" or "quick_gelu"
    epsilon: float = 1e-5  # of layer norms
    causal: bool = False  # a token sees itself and those before it
    masked: bool = False  # padding is not seen
    pooling: Pooling = "last"
    eos_id: int | None = None  # the token of pooling="eos"
    projection: int | None = None  # channels of the embedding; None: no projection, `width` of them
    projection_bias: bool = False


def checked(config: TextConfig, where: str) -> TextConfig:
    """Return a configuration that a tower can be built of; a ValueError says `where` which number is none."""
    for name in ("vocabulary", "context", "width", "depth", "heads", "hidden", "projection"):
        value, most = getattr(config, name), _MOST.get(name, _MOST_OTHERS)
        if (name, value) != ("projection", None) and not (_is_int(value) and 1 <= value <= most):
            raise ValueError(f"{where}: {_NAMES[name]} must be an int from 1 to {most}. Got {shown(value)}")
    if config.width % config.heads:
        raise ValueError(f"{where}: {config.heads} attention heads do not divide a width of {config.width}")
    if not isinstance(config.epsilon, float) or not 0 < config.epsilon < 1:
        raise ValueError(f"{where}: the epsilon of layer norms must be a number from 0 to 1. Got {config.epsilon!r}")
    if config.pooling == "eos" and not (_is_int(config.eos_id) and 0 <= int(config.eos_id or 0) < config.vocabulary):
        raise ValueError(
            f"{where}: the end-of-text token must be an int below the vocabulary's {config.vocabulary}. Got "
            f"{shown(config.eos_id)}"
        )
    return config


def activation_of(name: Any, where: str) -> str:
    """The activation of one of transformers' names."""
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ValueError(f"{where}: hidden_act must be one of {', '.join(ACTIVATIONS)}. Got {shown(name)}")
    return ACTIVATIONS[name]


def object_in(config: Mapping[str, Any], name: str, where: Path | str) -> dict[str, Any]:
    """The object under a name, empty where there is none or null; anything else is a ValueError."""
    value = config.get(name)
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"{where}: {name} must be an object. Got {shown(value)}")
    return dict(value or {})


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_NAMES = {
    "vocabulary": "the size of the vocabulary",
    "context": "the number of tokens of a text",
    "width": "the width",
    "depth": "the number of layers",
    "heads": "the number of attention heads",
    "hidden": "the width of the MLP",
    "projection": "the number of channels of an embedding",
}
