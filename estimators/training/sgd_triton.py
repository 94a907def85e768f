"""One step of SGD with momentum for many heads, fused for NVIDIA GPUs."""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 2048
"""Elements of a head that a program updates: 16 for each of its threads, read in long runs."""
TILE = 64
"""Rows and columns of a kernel that a program forms the gradient of: the fastest of 32 to 256 on an H100, measured by
``benchmarks/search_map.py gpu``."""


@triton.jit
def _sgd_kernel(
    value_ptr, velocity_ptr, gradient_ptr, scale_ptr, decay_ptr, rate_ptr, momentum_ptr, size, stride,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Update one block of one head's elements: each is read and written once."""
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
    """Update parameters and their velocity (n_heads, size) in place: float32, of the same strides, rows contiguous.

    `scale` is the factor of the gradient, `decay` the weight decay, `rate` the learning rate and `momentum` the factor
    of the velocity, (n_heads,) each.
    """
    n_heads, size = value.shape
    with torch.cuda.device_of(value):
        _sgd_kernel[(n_heads, triton.cdiv(size, BLOCK))](
            value, velocity, gradient, scale, decay, rate, momentum, size, value.stride(0), BLOCK=BLOCK
        )


@triton.jit
def _product_sgd_kernel(
    value_ptr, velocity_ptr, upstream_ptr, inputs_ptr, scale_ptr, decay_ptr, rate_ptr, momentum_ptr,
    n, n_outputs, n_inputs, inner, value_head, value_inner, velocity_head, velocity_inner,
    TILE: tl.constexpr,
):  # fmt: skip
    """Update one tile of one kernel: the tile of the gradient never leaves the registers."""
    # Outputs o and inputs i of the tile, the head, and which of its kernels.
    columns = tl.cdiv(n_inputs, TILE)
    o = tl.program_id(0) // columns * TILE + tl.arange(0, TILE)
    i = tl.program_id(0) % columns * TILE + tl.arange(0, TILE)
    which = tl.program_id(1).to(tl.int64)
    head, part = which // inner, which % inner
    inside = (o[:, None] < n_outputs) & (i[None, :] < n_inputs)
    tile = o[:, None] * n_inputs + i[None, :]
    values = value_ptr + head * value_head + part * value_inner + tile
    velocities = velocity_ptr + head * velocity_head + part * velocity_inner + tile
    value = tl.load(values, mask=inside)  # under way while the product is computed
    velocity = tl.load(velocities, mask=inside)
    upstream_ptr += which * n * n_outputs
    inputs_ptr += which * n * n_inputs
    # The tile of upstream.mT @ inputs, TILE samples at a time.
    gradient = tl.zeros((TILE, TILE), tl.float32)
    for start in range(0, n, TILE):
        row = start + tl.arange(0, TILE)[:, None]
        a = tl.load(upstream_ptr + row * n_outputs + o[None, :], mask=(row < n) & (o[None, :] < n_outputs), other=0)
        b = tl.load(inputs_ptr + row * n_inputs + i[None, :], mask=(row < n) & (i[None, :] < n_inputs), other=0)
        gradient = tl.dot(tl.trans(a), b, gradient)
    velocity = tl.load(momentum_ptr + head) * velocity + tl.load(scale_ptr + head) * gradient
    velocity += tl.load(decay_ptr + head) * value
    tl.store(velocities, velocity, mask=inside)
    tl.store(values, value - tl.load(rate_ptr + head) * velocity, mask=inside)


def fused_product_sgd(
    value: Tensor,
    velocity: Tensor,
    upstream: Tensor,
    inputs: Tensor,
    *,
    scale: Tensor,
    decay: Tensor,
    rate: Tensor,
    momentum: Tensor,
) -> None:
    """Update kernels and their velocity in place, by the gradient ``upstream.mT @ inputs``, which is never written.

    Kernels are float32, (n_heads, outputs, inputs) or (n_heads, m, outputs, inputs), the last two dimensions
    contiguous. Upstream (n_heads, n, outputs) and inputs (n_heads, n, inputs), or with m as well, are contiguous
    bfloat16, and sums of products float32. Numbers (n_heads,) are as in `fused_sgd`.
    """
    # With an axis of kernels in any case: (n_heads, m, ...).
    tensors = [x.unsqueeze(1) if x.ndim == 3 else x for x in (value, velocity, upstream, inputs)]
    n_heads, inner, n_outputs, n_inputs = tensors[0].shape
    strides = [number for x in tensors[:2] for number in x.stride()[:2]]
    with torch.cuda.device_of(value):
        _product_sgd_kernel[(triton.cdiv(n_outputs, TILE) * triton.cdiv(n_inputs, TILE), n_heads * inner)](
            *tensors, scale, decay, rate, momentum, upstream.shape[-2], n_outputs, n_inputs, inner, *strides,
            TILE=TILE, num_warps=4, num_stages=2,
        )  # fmt: skip
