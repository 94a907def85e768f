"""The protocol of custom encoders: what one must have, and the checks of one that was given."""

import inspect
import json
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy.typing as npt
from torch import nn

from frofa.exceptions import EncoderError

Array: TypeAlias = npt.NDArray[Any]
Spec: TypeAlias = str | Mapping[str, Any]
MISSING = object()
"""Stands for an attribute that an object does not have."""


@runtime_checkable
class Encoder(Protocol):
    """A custom encoder, as ``FrozenFeatureExtractor(model=encoder)`` takes one: callable on a batch, with a `spec`.

    An encoder computes the features of each item from that item alone, always the same, and does not change its batch.
    What these features depend on is in `spec`: another spec is another encoder, and a store never mixes them.

    Besides what is below, an encoder may have

    - ``preprocess(item) -> array``: for one item, before items of equal shape are stacked; run in several threads.
      Without it, items are stacked as they are; texts, in `frofa.FrozenTextExtractor`, come as a list of str.
    - ``logit_scale``, ``logit_bias``, ``templates``: of encoders of texts, as `frofa.FrozenTextExtractor` has them.
    - ``load(path) -> item``: items may be given as paths. Without `preprocess`, it must return an array.
    - ``batch_size``: the most items that it takes at a time, an int, or None for any number.
    - ``device``: a ``torch.device``. Then it is called with a tensor on that device in place of an array, in inference
      mode, and is best to return one.

    Attributes
    ----------
    spec : str or dict
        The encoder's identity, such as ``"log-mel v1"``; a dict that JSON can hold.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa import FrozenFeatureExtractor
    >>> class Energy:
    ...     spec = {"name": "band energy", "bands": 4, "version": 1}
    ...
    ...     def __call__(self, batch):
    ...         return np.square(batch).reshape(len(batch), 4, -1).mean(2)
    >>> FrozenFeatureExtractor(Energy()).transform(np.ones((2, 100), np.float32)).shape
    (2, 4)
    """

    @property
    def spec(self) -> Spec:
        """The encoder's identity: name and version, or all that its features depend on."""

    def __call__(self, batch: Any, /) -> Any:
        """Compute features (n, C) or (n, N, C) of a batch (n, ...): an array or a tensor of real numbers."""


def check_encoder(encoder: Any) -> None:
    """Raise an `EncoderError` if an object is no `Encoder`."""
    name = describe(encoder)
    has_spec = inspect.getattr_static(encoder, "spec", MISSING) is not MISSING  # to take it may be dear
    if isinstance(encoder, nn.Module) and not has_spec:
        raise EncoderError(f"{name} is a PyTorch module: pass frofa.TorchEncoder(module).")
    if isinstance(encoder, type) or not callable(encoder) or not has_spec:
        raise EncoderError(
            "model must be the name of a backbone or an encoder: an object that can be called with a batch and has a "
            f"'spec' (see frofa.Encoder). Got {name}; a function is an encoder as frofa.FunctionEncoder(function, "
            "spec='NAME v1')."
        )
    most = getattr(encoder, "batch_size", None)
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise EncoderError(f"{name}: batch_size must be a positive int or None. Got {most!r}.")


def describe(encoder: Any) -> str:
    """Name an encoder in a message."""
    return " ".join(f"{encoder!r:.200}".split())


def canonical(spec: object, name: str) -> str:
    """Return a spec as JSON with sorted keys; an EncoderError if it is no text or dict that JSON can hold, or empty."""
    if spec and isinstance(spec, (str, Mapping)):
        try:
            plain = spec if isinstance(spec, str) else dict(spec)
            return json.dumps(plain, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise EncoderError(f"{name}: its spec, {spec!r:.200}, is nothing that JSON can hold: {error}.") from error
    raise EncoderError(
        f"{name}: its spec must be text, such as 'log-mel v1', or a dict that JSON can hold, and not be empty. "
        f"Got {spec!r:.200}."
    )
