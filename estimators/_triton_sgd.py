"""One step of SGD with momentum for many heads, fused for NVIDIA GPUs."""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 2048


@triton.jit
def _sgd_kernel(
    value_ptr, momentum_ptr, gradient_ptr, scale_ptr, decay_ptr, rate_ptr, size, momentum, BLOCK: tl.constexpr
):  # fmt: skip
    """One program a head and block of its elements: each is read and written once."""
    head = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    at = head * size + place
    value = tl.load(value_ptr + at, mask=inside)
    gradient = tl.load(gradient_ptr + at, mask=inside) * tl.load(scale_ptr + head)
    velocity = tl.load(momentum_ptr + at, mask=inside) * momentum
    velocity += gradient + value * tl.load(decay_ptr + head)
    tl.store(momentum_ptr + at, velocity, mask=inside)
    tl.store(value_ptr + at, value - velocity * tl.load(rate_ptr + head), mask=inside)


def fused_sgd(
    value: Tensor, velocity: Tensor, gradient: Tensor, *, scale: Tensor, decay: Tensor, rate: Tensor, momentum: float
) -> None:
    """Update a parameter and its velocity in place.

    Parameters
    ----------
    value, velocity, gradient : Tensor of float32, shape (n_heads, ...)
        The first two contiguous.
    scale, decay, rate : Tensor of float32, shape (n_heads,)
        What the gradient is multiplied with, weight decay, and learning rate.
    momentum : float
    """
    n_heads, size = len(value), value[0].numel()
    with torch.cuda.device_of(value):
        _sgd_kernel[(n_heads, triton.cdiv(size, BLOCK))](
            value, velocity, gradient.contiguous(), scale, decay, rate, size, momentum, BLOCK=BLOCK
        )
