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


@triton.jit
def _product_sgd_kernel(
    value_ptr, velocity_ptr, a_ptr, b_ptr, scale_ptr, decay_ptr, rate_ptr, momentum_ptr,
    n, outputs, inputs, inner,
    value_head, value_inner, velocity_head, velocity_inner,
    a_head, a_inner, a_row, b_head, b_inner, b_row,
    OUTPUTS: tl.constexpr, INPUTS: tl.constexpr, ROWS: tl.constexpr, LOAD_FIRST: tl.constexpr,
):  # fmt: skip
    """One program a tile of a kernel: the tile of the gradient never leaves the registers."""
    columns = tl.cdiv(inputs, INPUTS)
    o = tl.program_id(0) // columns * OUTPUTS + tl.arange(0, OUTPUTS)
    i = tl.program_id(0) % columns * INPUTS + tl.arange(0, INPUTS)
    head, part = (tl.program_id(1) // inner).to(tl.int64), tl.program_id(1) % inner
    inside = (o[:, None] < outputs) & (i[None, :] < inputs)
    tile = o[:, None] * inputs + i[None, :]
    values = value_ptr + head * value_head + part * value_inner + tile
    velocities = velocity_ptr + head * velocity_head + part * velocity_inner + tile
    if LOAD_FIRST:  # the loads are under way while the product is computed
        value = tl.load(values, mask=inside)
        velocity = tl.load(velocities, mask=inside)
    a_ptr += head * a_head + part * a_inner
    b_ptr += head * b_head + part * b_inner
    gradient = tl.zeros((OUTPUTS, INPUTS), tl.float32)
    for start in range(0, n, ROWS):
        row = start + tl.arange(0, ROWS)
        a = tl.load(
            a_ptr + row[:, None] * a_row + o[None, :], mask=(row[:, None] < n) & (o[None, :] < outputs), other=0
        )
        b = tl.load(b_ptr + row[:, None] * b_row + i[None, :], mask=(row[:, None] < n) & (i[None, :] < inputs), other=0)
        gradient = tl.dot(tl.trans(a), b, gradient, input_precision="tf32")
    if not LOAD_FIRST:
        value = tl.load(values, mask=inside)
        velocity = tl.load(velocities, mask=inside)
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

    Products are of TensorFloat-32 for float32 factors, of bfloat16 for such; sums are float32.

    Parameters
    ----------
    value, velocity : Tensor of float32, shape (n_heads, outputs, inputs) or (n_heads, m, outputs, inputs)
        The last two dimensions are contiguous.
    upstream : Tensor of float32 or bfloat16, shape (n_heads, n, outputs) or (n_heads, m, n, outputs)
    inputs : Tensor of the same dtype, shape (n_heads, n, inputs) or (n_heads, m, n, inputs)
    scale, decay, rate, momentum : Tensor of float32, shape (n_heads,)
        As in `fused_sgd`.
    """
    tensors = [x.unsqueeze(1) if x.ndim == 3 else x for x in (value, velocity, upstream, inputs)]
    tensors[2:] = [x if x.stride(3) == 1 else x.contiguous() for x in tensors[2:]]
    value, velocity, upstream, inputs = tensors
    n_heads, inner, n_outputs, n_inputs = value.shape
    half = upstream.dtype == torch.bfloat16
    tile = (64, 64 if half else 128)  # the fastest of those tried on an H100
    strides = [x.stride()[:2] for x in (value, velocity)] + [x.stride()[:3] for x in (upstream, inputs)]
    with torch.cuda.device_of(value):
        _product_sgd_kernel[(triton.cdiv(n_outputs, tile[0]) * triton.cdiv(n_inputs, tile[1]), n_heads * inner)](
            *tensors, scale, decay, rate, momentum,
            upstream.shape[2], n_outputs, n_inputs, inner, *(number for some in strides for number in some),
            OUTPUTS=tile[0], INPUTS=tile[1], ROWS=64, LOAD_FIRST=half, num_warps=4, num_stages=2,
        )  # fmt: skip
