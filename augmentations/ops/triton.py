"""Fused kernels for NVIDIA GPUs: the same numbers as the plain PyTorch functions, in one pass over the features or two.

All compute in float32. A tile is a block of positions by a block of channels of one image.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from frofa.augmentations.ops.dispatch import CODES, Operation, needs_range
from frofa.augmentations.ops.mapping import Variant

POSITIONS, CHANNELS, WARPS = 256, 32, 4
"""Size of a tile, by `benchmarks/augmentations.py` on an H200; an image of up to so many positions is read once."""
PARTS = 16
"""Parts into which an image is cut to find the range of all its values (`benchmarks/augmentations.py`)."""


@triton.jit
def changed(x, value, low, high, mean, OPERATION: tl.constexpr):
    """Apply a pointwise operation to values; what it does not ask for may be anything."""
    if OPERATION == 0:
        y = x + value * (high - low)
    elif OPERATION == 1:
        y = (x - mean) * (value - 1) + x
    elif OPERATION == 2:
        y = tl.where(value > 0, (low + high) - x, x)
    elif OPERATION == 3:
        step = tl.exp2(value)
        coarse = tl.floor(to_pixels(x, low, high) * (1 / step)) * step  # exact: steps are powers of two
        y = tl.where(value > 0, coarse / 255 * (high - low) + low, x)
    elif OPERATION == 4:
        y = tl.where(x > low + value * (high - low), (low + high) - x, x)
    else:
        y = x * value
    return y


@triton.jit
def to_pixels(x, low, high):
    """Map values to whole numbers from 0 to 255, from the lowest value of a range to the highest."""
    span = high - low
    pixel = (x - low) / tl.where(span > 0, span, 1.0) * 255
    return (pixel + 12582912.0) - 12582912.0  # 1.5 * 2**23: rounds to the nearest, halves to even


@triton.jit
def _pointwise_kernel(
    x_ptr, out_ptr, value_ptr, low_ptr, high_ptr, mask_ptr,
    n_tokens, channels, x_image, x_token, out_image, value_image, value_token, value_channel, mask_image,
    OPERATION: tl.constexpr, OWN_RANGE: tl.constexpr, IMAGE_RANGE: tl.constexpr, CLIP: tl.constexpr,
    MASKED: tl.constexpr, ELEMENTWISE: tl.constexpr, SINGLE: tl.constexpr, RANGES: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Change the values: one program an image and block of channels. More positions than a tile has are read twice."""
    image = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    in_channels = channel < channels
    position = tl.arange(0, BLOCK_N)
    x_ptr += image * x_image + channel[None, :]
    value_ptr += image * value_image + channel[None, :] * value_channel
    if not ELEMENTWISE:
        value = tl.load(value_ptr, mask=in_channels[None, :], other=0.0).to(tl.float32)
    out_ptr += image * out_image + channel[None, :]
    low, high, mean = 0.0, 0.0, 0.0
    if IMAGE_RANGE:
        part = tl.arange(0, RANGES)
        low = tl.min(tl.load(low_ptr + image * RANGES + part), 0)
        high = tl.max(tl.load(high_ptr + image * RANGES + part), 0)
    if SINGLE:
        inside = (position < n_tokens)[:, None] & in_channels[None, :]
        x = tl.load(x_ptr + position[:, None] * x_token, mask=inside, other=0.0).to(tl.float32)
    # First pass: range and mean of each channel over the positions, [BLOCK_C].
    if OWN_RANGE or OPERATION == 1:
        lows = tl.full([BLOCK_C], float("inf"), tl.float32)
        highs = tl.full([BLOCK_C], float("-inf"), tl.float32)
        total = tl.zeros([BLOCK_C], tl.float32)
        count = tl.zeros([1], tl.float32)
        for start in range(0, n_tokens, BLOCK_N):
            at = start + position
            seen = at < n_tokens
            if MASKED:
                seen = seen & (tl.load(mask_ptr + image * mask_image + at, mask=seen, other=0) != 0)
            visible = seen[:, None] & in_channels[None, :]
            if not SINGLE:
                x = tl.load(x_ptr + at[:, None] * x_token, mask=visible, other=0.0).to(tl.float32)
            if OWN_RANGE:
                lows = tl.minimum(lows, tl.min(tl.where(visible, x, float("inf")), 0))
                highs = tl.maximum(highs, tl.max(tl.where(visible, x, float("-inf")), 0))
            if OPERATION == 1:
                total += tl.sum(tl.where(visible, x, 0.0), 0)
                count += tl.sum(seen.to(tl.float32), 0)
        if OWN_RANGE:
            low, high = lows[None, :], highs[None, :]
        if OPERATION == 1:
            mean = (total / count)[None, :]
    # Each value, by now with its channel's range or mean.
    for start in range(0, n_tokens, BLOCK_N):
        at = start + position
        inside = (at < n_tokens)[:, None] & in_channels[None, :]
        if not SINGLE:
            x = tl.load(x_ptr + at[:, None] * x_token, mask=inside, other=0.0).to(tl.float32)
        if ELEMENTWISE:
            value = tl.load(value_ptr + at[:, None] * value_token, mask=inside, other=0.0).to(tl.float32)
        y = changed(x, value, low, high, mean, OPERATION)
        if CLIP:
            y = tl.minimum(tl.maximum(y, low), high)
        tl.store(out_ptr + at[:, None] * channels, y, mask=inside)


def fused_pointwise(
    features: Tensor, operation: Operation, value: Tensor, variant: Variant, *, clip: bool, mask: Tensor | None
) -> Tensor:
    """Apply a pointwise operation on a GPU, as `frofa.augmentations.ops.pointwise.pointwise`."""
    x = rows(features)
    n, n_tokens, channels = x.shape
    own_range = needs_range(operation, clip=clip) and variant == "c2"
    of_image = needs_range(operation, clip=clip) and variant != "c2"
    low, high = image_range(x, mask) if of_image else (x, x)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    value = value.expand(n, n_tokens, channels)
    block_n = min(POSITIONS, max(16, triton.next_power_of_2(n_tokens)))
    with torch.cuda.device_of(x):
        _pointwise_kernel[(n, triton.cdiv(channels, CHANNELS))](
            x, out, value, low, high, _bytes(mask, x),
            n_tokens, channels, x.stride(0), x.stride(1), out.stride(0), *value.stride(),
            0 if mask is None else mask.stride(0),
            OPERATION=CODES[operation], OWN_RANGE=own_range, IMAGE_RANGE=of_image, CLIP=clip,
            MASKED=mask is not None, ELEMENTWISE=value.stride(1) != 0, SINGLE=n_tokens <= block_n, RANGES=PARTS,
            BLOCK_N=block_n, BLOCK_C=CHANNELS, num_warps=WARPS,
        )  # fmt: skip
    return out


@triton.jit
def _range_kernel(
    x_ptr, low_ptr, high_ptr, mask_ptr, images_ptr, wanted_ptr, n_tokens, channels, share, x_image, x_token, mask_image,
    MASKED: tl.constexpr, CHOSEN: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Find the smallest and largest value of all channels: one program an image and part of its positions."""
    image, part, n_parts = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    if CHOSEN:
        if tl.load(wanted_ptr + image // share) == 0:
            return
        image = tl.load(images_ptr + image)
    # Running extremes [BLOCK_N, BLOCK_C], reduced once at the end.
    low = tl.full([BLOCK_N, BLOCK_C], float("inf"), tl.float32)
    high = tl.full([BLOCK_N, BLOCK_C], float("-inf"), tl.float32)
    for start in range(part * BLOCK_N, n_tokens, n_parts * BLOCK_N):
        at = start + tl.arange(0, BLOCK_N)
        seen = at < n_tokens
        if MASKED:
            seen = seen & (tl.load(mask_ptr + image * mask_image + at, mask=seen, other=0) != 0)
        for first in range(0, channels, BLOCK_C):
            channel = first + tl.arange(0, BLOCK_C)
            visible = seen[:, None] & (channel < channels)[None, :]
            x = tl.load(x_ptr + image * x_image + at[:, None] * x_token + channel[None, :], mask=visible, other=0.0)
            x = x.to(tl.float32)
            low = tl.minimum(low, tl.where(visible, x, float("inf")))
            high = tl.maximum(high, tl.where(visible, x, float("-inf")))
    tl.store(low_ptr + image * n_parts + part, tl.min(tl.min(low, 1), 0))
    tl.store(high_ptr + image * n_parts + part, tl.max(tl.max(high, 1), 0))


def image_range(
    x: Tensor, mask: Tensor | None = None, chosen: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Find minima and maxima of the parts of each image, (n, PARTS): the image's own are the extremes of them.

    Parameters
    ----------
    x : Tensor of shape (n, N, C)
    mask : Tensor of bool, shape (n, N), default=None
    chosen : (images, wanted), default=None
        Images on places that are shared out among some, and which of those want the ranges of theirs: the rest of what
        is returned is not written. None is all images.
    """
    n, n_tokens, channels = x.shape
    low, high = (torch.empty((n, PARTS), device=x.device) for _ in range(2))
    images, wanted = (x, x) if chosen is None else chosen
    with torch.cuda.device_of(x):
        _range_kernel[(len(images), PARTS)](
            x, low, high, _bytes(mask, x), images, wanted, n_tokens, channels, len(images) // len(wanted),
            x.stride(0), x.stride(1), 0 if mask is None else mask.stride(0),
            MASKED=mask is not None, CHOSEN=chosen is not None, BLOCK_N=4, BLOCK_C=512,
        )  # fmt: skip
    return low, high


@triton.jit
def _resample_kernel(
    x_ptr, out_ptr, index_ptr, weight_ptr, fill_ptr, factor_ptr, low_ptr, high_ptr,
    n_tokens, channels, x_image, x_token, out_image, index_image, weight_image, fill_image,
    factor_image, factor_channel, range_image, range_channel,
    TAPS: tl.constexpr, FILLED: tl.constexpr, BLEND: tl.constexpr, CLIP: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Sum the taps: one program a block of positions, image and block of channels."""
    image = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    channel = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    in_channels = channel < channels
    inside = (at < n_tokens)[:, None] & in_channels[None, :]
    x_ptr += image * x_image + channel[None, :]
    summed = tl.zeros([BLOCK_N, BLOCK_C], tl.float32)
    missing = tl.full([BLOCK_N], 1.0, tl.float32)
    # Weighted sum of the taps, [BLOCK_N, BLOCK_C], and the weight that is missing, [BLOCK_N].
    for tap in tl.static_range(TAPS):
        index = tl.load(index_ptr + image * index_image + at * TAPS + tap, mask=at < n_tokens, other=0)
        weight = tl.load(weight_ptr + image * weight_image + at * TAPS + tap, mask=at < n_tokens, other=0.0)
        read = inside & (weight != 0)[:, None]
        summed += tl.load(x_ptr + index[:, None] * x_token, mask=read, other=0.0).to(tl.float32) * weight[:, None]
        missing -= weight
    if FILLED:
        fill = tl.load(fill_ptr + image * fill_image + channel, mask=in_channels, other=0.0)
        summed += missing[:, None] * fill[None, :]
    if BLEND:
        x = tl.load(x_ptr + at[:, None] * x_token, mask=inside, other=0.0).to(tl.float32)
        factor = tl.load(factor_ptr + image * factor_image + channel * factor_channel, mask=in_channels, other=0.0)
        summed = (summed - x) * (1 - factor)[None, :] + x
    if CLIP:
        bound = image * range_image + channel * range_channel
        low = tl.load(low_ptr + bound, mask=in_channels, other=0.0).to(tl.float32)
        high = tl.load(high_ptr + bound, mask=in_channels, other=0.0).to(tl.float32)
        summed = tl.minimum(tl.maximum(summed, low[None, :]), high[None, :])
    tl.store(out_ptr + image * out_image + at[:, None] * channels + channel[None, :], summed, mask=inside)


def fused_resample(
    x: Tensor,
    index: Tensor,
    weight: Tensor,
    *,
    filler: Tensor | None = None,
    factor: Tensor | None = None,
    bounds: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Resample on a GPU, as `frofa.augmentations.ops.resample.resample`.

    Parameters
    ----------
    x : Tensor of shape (n, N, C)
    index, weight : Tensor of shape (n, N, K)
    filler : Tensor of float32, shape (n, 1, C), default=None
        What gets the weight that is missing.
    factor : Tensor of shape (n, 1, 1 or C), default=None
        Of a blend: 0 is the resampled tokens, 1 those that were there.
    bounds : pair of Tensor of shape (n, 1, 1 or C), default=None
        To clip to.
    """
    x = rows(x)
    n, n_tokens, channels = x.shape
    taps = index.shape[2]
    index, weight = (part if part.stride()[1:] == (taps, 1) else part.contiguous() for part in (index, weight.float()))
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    filler = None if filler is None else filler.contiguous()
    blend = x if factor is None else factor.expand(n, 1, channels)
    low, high = (x[:, :1], x[:, :1]) if bounds is None else (bound.expand(n, 1, channels) for bound in bounds)
    block_n, block_c = 16, 128
    with torch.cuda.device_of(x):
        _resample_kernel[(triton.cdiv(n_tokens, block_n), n, triton.cdiv(channels, block_c))](
            x, out, index, weight, x if filler is None else filler, blend, low, high,
            n_tokens, channels, x.stride(0), x.stride(1), out.stride(0), index.stride(0), weight.stride(0),
            0 if filler is None else filler.stride(0), blend.stride(0), blend.stride(2), low.stride(0), low.stride(2),
            TAPS=taps, FILLED=filler is not None, BLEND=factor is not None, CLIP=bounds is not None,
            BLOCK_N=block_n, BLOCK_C=block_c,
        )  # fmt: skip
    return out


def rows(x: Tensor) -> Tensor:
    """Lay the channels of features side by side, where they do not."""
    return x if x.stride(2) == 1 else x.contiguous()


def _bytes(mask: Tensor | None, stand_in: Tensor) -> Tensor:
    """View a mask as bytes; without one, give a pointer that is never read."""
    return stand_in if mask is None else mask.contiguous().view(torch.uint8)
