"""Fused kernels for NVIDIA GPUs: the same numbers as the plain PyTorch functions, in one pass over the features."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from frofa.augmentations._mapping import Variant, feature_range
from frofa.augmentations._pointwise import Operation

CODES: dict[Operation, int] = {"brightness": 0, "contrast": 1, "invert": 2, "posterize": 3, "solarize": 4}
POSITIONS, CHANNELS = 256, 32  # of a tile


@triton.jit
def _pointwise_kernel(
    x_ptr, out_ptr, value_ptr, low_ptr, high_ptr, mask_ptr,
    n_tokens, channels, x_image, x_token, out_image, value_image, value_token, value_channel, range_image, mask_image,
    OPERATION: tl.constexpr, OWN_RANGE: tl.constexpr, CLIP: tl.constexpr, MASKED: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """One program an image and block of channels; positions are read twice, the second time from the cache."""
    image = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    in_channels = channel < channels
    position = tl.arange(0, BLOCK_N)
    x_ptr += image * x_image + channel[None, :]
    if OWN_RANGE or OPERATION == 1:
        low = tl.full([BLOCK_C], float("inf"), tl.float32)
        high = tl.full([BLOCK_C], float("-inf"), tl.float32)
        total = tl.zeros([BLOCK_C], tl.float32)
        count = tl.zeros([1], tl.float32)
        for start in range(0, n_tokens, BLOCK_N):
            at = start + position
            seen = at < n_tokens
            if MASKED:
                seen = seen & (tl.load(mask_ptr + image * mask_image + at, mask=seen, other=0) != 0)
            inside = seen[:, None] & in_channels[None, :]
            x = tl.load(x_ptr + at[:, None] * x_token, mask=inside, other=0.0).to(tl.float32)
            low = tl.minimum(low, tl.min(tl.where(inside, x, float("inf")), 0))
            high = tl.maximum(high, tl.max(tl.where(inside, x, float("-inf")), 0))
            total += tl.sum(x, 0)
            count += tl.sum(seen.to(tl.float32), 0)
        mean = (total / count)[None, :]
    if OWN_RANGE:
        low, high = low[None, :], high[None, :]
    else:
        low = tl.load(low_ptr + image * range_image).to(tl.float32)
        high = tl.load(high_ptr + image * range_image).to(tl.float32)
    value_ptr += image * value_image + channel[None, :] * value_channel
    for start in range(0, n_tokens, BLOCK_N):
        at = start + position
        inside = (at < n_tokens)[:, None] & in_channels[None, :]
        x = tl.load(x_ptr + at[:, None] * x_token, mask=inside, other=0.0).to(tl.float32)
        value = tl.load(value_ptr + at[:, None] * value_token, mask=inside, other=0.0).to(tl.float32)
        if OPERATION == 0:
            y = x + value * (high - low)
        elif OPERATION == 1:
            y = (x - mean) * (value - 1) + x
        elif OPERATION == 2:
            y = tl.where(value > 0, (low + high) - x, x)
        elif OPERATION == 3:
            span = high - low
            step = tl.exp2(value)
            pixel = (x - low) / tl.where(span > 0, span, 1.0) * 255
            pixel = (pixel + 12582912.0) - 12582912.0  # 1.5 * 2**23: rounds to the nearest, halves to even
            coarse = tl.floor(pixel / step) * step / 255
            y = tl.where(value > 0, coarse * span + low, x)
        else:
            y = tl.where(x > low + value * (high - low), (low + high) - x, x)
        if CLIP:
            y = tl.minimum(tl.maximum(y, low), high)
        tl.store(out_ptr + image * out_image + at[:, None] * channels + channel[None, :], y, mask=inside)


def fused_pointwise(
    features: Tensor, operation: Operation, value: Tensor, variant: Variant, *, clip: bool, mask: Tensor | None
) -> Tensor:
    """`frofa.augmentations._pointwise.pointwise` on a GPU."""
    x = features if features.stride(2) == 1 else features.contiguous()
    n, n_tokens, channels = x.shape
    own_range = variant == "c2"
    if own_range:
        low = high = x  # never read
    else:
        low, high = _image_range(x, variant, mask)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    value = value.expand(n, n_tokens, channels)
    block_n = min(POSITIONS, max(16, triton.next_power_of_2(n_tokens)))
    with torch.cuda.device_of(x):
        _pointwise_kernel[(n, triton.cdiv(channels, CHANNELS))](
            x, out, value, low, high, x if mask is None else mask.view(torch.uint8),
            n_tokens, channels, x.stride(0), x.stride(1), out.stride(0), *value.stride(), low.stride(0),
            0 if mask is None else mask.stride(0),
            OPERATION=CODES[operation], OWN_RANGE=own_range, CLIP=clip, MASKED=mask is not None,
            BLOCK_N=block_n, BLOCK_C=CHANNELS,
        )  # fmt: skip
    return out


def _image_range(x: Tensor, variant: Variant, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Minimum and maximum of each image, (n,), in one pass where no token is hidden."""
    if mask is None and x.is_contiguous():
        low, high = x.flatten(1).aminmax(dim=1)
        return low, high
    low, high = feature_range(x, variant, mask)
    return low.flatten(), high.flatten()


@triton.jit
def _resample_kernel(
    x_ptr, out_ptr, index_ptr, weight_ptr, fill_ptr,
    n_tokens, channels, x_image, x_token, out_image, tap_image, weight_image, fill_image,
    TAPS: tl.constexpr, FILLED: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """One program an image, block of positions and block of channels."""
    image = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    channel = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = (at < n_tokens)[:, None] & (channel < channels)[None, :]
    x_ptr += image * x_image + channel[None, :]
    summed = tl.zeros([BLOCK_N, BLOCK_C], tl.float32)
    missing = tl.full([BLOCK_N], 1.0, tl.float32)
    for tap in tl.static_range(TAPS):
        index = tl.load(index_ptr + image * tap_image + at * TAPS + tap, mask=at < n_tokens, other=0)
        weight = tl.load(weight_ptr + image * weight_image + at * TAPS + tap, mask=at < n_tokens, other=0.0)
        read = inside & (weight != 0)[:, None]
        summed += tl.load(x_ptr + index[:, None] * x_token, mask=read, other=0.0).to(tl.float32) * weight[:, None]
        missing -= weight
    if FILLED:
        fill = tl.load(fill_ptr + image * fill_image + channel, mask=channel < channels, other=0.0)
        summed += missing[:, None] * fill[None, :]
    tl.store(out_ptr + image * out_image + at[:, None] * channels + channel[None, :], summed, mask=inside)


def fused_resample(x: Tensor, index: Tensor, weight: Tensor, filler: Tensor | None) -> Tensor:
    """`frofa.augmentations._resample.resample` on a GPU; index and weight (n, N, K), filler (n, 1, C) or None."""
    x = x if x.stride(2) == 1 else x.contiguous()
    n, n_tokens, channels = x.shape
    taps = index.shape[2]
    index, weight = (part if part.stride()[1:] == (taps, 1) else part.contiguous() for part in (index, weight))
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    block_n, block_c = 16, 128
    with torch.cuda.device_of(x):
        _resample_kernel[(n, triton.cdiv(n_tokens, block_n), triton.cdiv(channels, block_c))](
            x, out, index, weight.float(), x if filler is None else filler,
            n_tokens, channels, x.stride(0), x.stride(1), out.stride(0), index.stride(0), weight.stride(0),
            0 if filler is None else filler.stride(0),
            TAPS=taps, FILLED=filler is not None, BLOCK_N=block_n, BLOCK_C=block_c,
        )  # fmt: skip
    return out
