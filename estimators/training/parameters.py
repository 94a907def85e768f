"""Parameters of many heads, each head's in one vector: an update is a few passes over long memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from torch import Tensor

Params = dict[str, Tensor]
ALIGNED = 16
"""Elements that a parameter's place is a multiple of: 64 bytes in float32, a cache line."""


@dataclass(frozen=True)
class ParameterLayout:
    """Where each parameter lies in the vector of a head: those that decay (kernels) come first.

    Attributes
    ----------
    places : dict of str to (int, tuple of int)
        Offset and shape of each, by name.
    n_decayed : int
        Length of the part that decays.
    size : int
        Of the whole; what is between parameters stays zero.
    """

    places: Mapping[str, tuple[int, tuple[int, ...]]]
    n_decayed: int
    size: int

    @classmethod
    def of(cls, params: Mapping[str, Tensor]) -> "ParameterLayout":
        """The layout of parameters with a leading dimension, that of the heads."""
        kernels = [name for name, value in params.items() if name.endswith(".weight") and value.ndim > 2]
        places, offset, n_decayed = {}, 0, 0
        for name in [*kernels, *(name for name in params if name not in kernels)]:
            shape = tuple(params[name].shape[1:])
            places[name] = (offset, shape)
            offset += -(-prod(shape) // ALIGNED) * ALIGNED
            n_decayed = offset if name in kernels else n_decayed
        return cls(places, n_decayed, offset)

    def pack(self, params: Mapping[str, Tensor]) -> Tensor:
        """Copy parameters to a tensor (n_heads, size)."""
        first = next(iter(params.values()))
        flat = first.new_zeros((len(first), self.size))
        for name, view in self.views(flat).items():
            view.copy_(params[name])
        return flat

    def views(self, flat: Tensor) -> Params:
        """The parameters in a tensor (n_heads, size), in the order of the layout."""
        return {
            name: flat[:, offset : offset + prod(shape)].unflatten(1, shape)
            for name, (offset, shape) in self.places.items()
        }


class Heads:
    """Parameters of heads, or what belongs to them, as one tensor and as views of it.

    Attributes
    ----------
    layout : ParameterLayout
    flat : Tensor of shape (n_heads, size)
    params : dict of str to Tensor
        Views, with a leading dimension n_heads.
    """

    def __init__(self, layout: ParameterLayout, flat: Tensor):
        self.layout, self.flat, self.params = layout, flat, layout.views(flat)

    def __getitem__(self, places: slice | list[int]) -> "Heads":
        """Some of the heads: a slice shares memory, a list does not."""
        return Heads(self.layout, self.flat[places])
