"""Parameters of many heads, each head's in one vector, so that an update is a few passes over long memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from torch import Tensor

Params = dict[str, Tensor]
ALIGNED = 16
"""Parameters begin at multiples of so many elements: 64 bytes in float32, a cache line."""


@dataclass(frozen=True)
class ParameterLayout:
    """The places of parameters in the vector of a head: kernels, which decay, come first.

    `places` are offset and shape by name; `n_decayed` elements decay, out of `size`. Those between parameters stay
    zero.
    """

    places: Mapping[str, tuple[int, tuple[int, ...]]]
    n_decayed: int
    size: int

    @classmethod
    def of(cls, params: Mapping[str, Tensor]) -> "ParameterLayout":
        """Lay out parameters, which have a leading dimension for the heads."""
        # Kernels first, so that the update with weight decay and the one without are of one part of the vector each.
        kernels = [name for name, value in params.items() if name.endswith(".weight") and value.ndim > 2]
        places, offset, n_decayed = {}, 0, 0
        for name in [*kernels, *(name for name in params if name not in kernels)]:
            shape = tuple(params[name].shape[1:])
            places[name] = (offset, shape)
            # The next parameter begins at a cache line; what is between stays zero in all passes.
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
        """View a tensor (n_heads, size) as parameters, in the order of the layout."""
        return {
            name: flat[:, offset : offset + prod(shape)].unflatten(1, shape)
            for name, (offset, shape) in self.places.items()
        }


class Heads:
    """Parameters of heads, or their gradients or velocity, as one tensor (n_heads, size) and as views by name."""

    def __init__(self, layout: ParameterLayout, flat: Tensor):
        self.layout, self.flat, self.params = layout, flat, layout.views(flat)

    def __getitem__(self, places: slice | list[int]) -> "Heads":
        """Choose heads: a slice shares memory, a list does not."""
        return Heads(self.layout, self.flat[places])
