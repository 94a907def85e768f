"""One step of SGD with momentum for many heads, fused for NVIDIA GPUs."""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 2048


@triton.jit
def _sgd_kernel(
    value_ptr, velocity_ptr, gradient_ptr, scale_ptr, decay_ptr, rate_ptr, momentum_ptr, size, stride,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """One program a head and block of its elements: each is read and written once."""
    head = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    at = head * stride + place
    value = tl.load(value_ptr + at, mask=inside)
    gradient = tl.load(gradient_ptr + at, mask=inside) * tl.load(scale_ptr + head)
    velocity = tl.load(velocity_ptr + at, mask=inside) * tl.load(momentum_ptr + head)
    velocity += gradient + value * tl.load(decay_ptr + head)
    tl.store(velocity_ptr + at, velocity, mask=inside)
    tl.store(value_ptr + at, value - velocity * tl.load(rate_ptr + head), mask=inside)


def fused_sgd(
    value: Tensor, velocity: Tensor, gradient: Tensor, *, scale: Tensor, decay: Tensor, rate: Tensor, momentum: Tensor
) -> None:
    """Update parameters and their velocity in place.

    Parameters
    ----------
    value, velocity, gradient : Tensor of float32, shape (n_heads, size)
        Of the same strides, rows contiguous.
    scale, decay, rate, momentum : Tensor of float32, shape (n_heads,)
        What the gradient is multiplied with, weight decay, learning rate, and what the velocity is multiplied with.
    """
    n_heads, size = value.shape
    with torch.cuda.device_of(value):
        _sgd_kernel[(n_heads, triton.cdiv(size, BLOCK))](
            value, velocity, gradient, scale, decay, rate, momentum, size, value.stride(0), BLOCK=BLOCK
        )
