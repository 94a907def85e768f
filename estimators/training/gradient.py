"""Gradients of heads: written out, or, for kernels, left as the factors whose product they are."""

from collections.abc import Callable
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from frofa.estimators.training.parameters import Heads, ParameterLayout

View = Callable[[Tensor], Tensor]


class Factors(NamedTuple):
    """The gradient of the kernels that `view` finds in a parameter: ``upstream.mT @ inputs``.

    Kernels are (H, ..., outputs, inputs), upstream (H, ..., n, outputs) and inputs (H, ..., n, inputs), both
    contiguous.
    """

    name: str
    view: View
    upstream: Tensor
    inputs: Tensor

    def squared_norms(self) -> Tensor:
        """Squared norm of each head's gradient, (H,), from Gram matrices: |A'B|^2 is the sum of (AA') * (BB')."""
        # Gram matrices (H, ..., n, n) instead of gradients (H, ..., outputs, inputs), summed in float32 at least.
        wide = torch.promote_types(self.upstream.dtype, torch.float32)
        first, second = ((x @ x.mT).to(wide) for x in (self.upstream, self.inputs))
        return (first * second).flatten(1).sum(1)


class Gradient(Heads):
    """Gradients of heads; those of kernels are left as factors of a dtype, or written out where it is None."""

    def __init__(self, layout: ParameterLayout, flat: Tensor, dtype: torch.dtype | None = None):
        super().__init__(layout, flat)
        self.dtype = dtype
        self.factors: list[Factors] = []

    def of_kernels(self, name: str, upstream: Tensor, inputs: Tensor, view: View = lambda kernels: kernels) -> None:
        """Write, or keep, the gradient of kernels; dimensions as in `Factors`."""
        if self.dtype is not None:
            both = (x.new_empty(x.shape, dtype=self.dtype).copy_(x) for x in (upstream, inputs))
            self.factors.append(Factors(name, view, *both))
            return
        # An outer product where there is one row; bmm, for three dimensions, costs less to launch than matmul.
        out = view(self.params[name])
        if upstream.shape[-2] == 1:
            torch.mul(upstream.mT, inputs, out=out)
        elif out.ndim == 3:
            torch.bmm(upstream.mT, inputs, out=out)
        else:
            torch.matmul(upstream.mT, inputs, out=out)

    def written(self) -> list[tuple[slice, bool]]:
        """Parts of a head's vector that are written out, and whether their parameters decay."""
        end = self.layout.n_decayed
        tail = (slice(end, None), False)
        if not self.factors:
            return [(slice(0, end), True), tail]
        # Decayed parameters that are not left as factors, one by one; all that does not decay is one part at the end.
        kept = {factors.name for factors in self.factors}
        rest = [place for name, place in self.layout.places.items() if name not in kept and place[0] < end]
        return [*((slice(offset, offset + prod(shape)), True) for offset, shape in rest), tail]

    def norms(self) -> Tensor:
        """Norm of each head's gradient, (H,)."""
        if not self.factors:
            norms: Tensor = torch.linalg.vector_norm(self.flat, dim=1)
            return norms
        squares = [self.flat[:, part].square().sum(1) for part, _ in self.written()]
        squares += [factors.squared_norms() for factors in self.factors]
        return torch.stack(squares).sum(0).clamp_(min=0).sqrt_()  # rounding can take what is nearly zero below it
