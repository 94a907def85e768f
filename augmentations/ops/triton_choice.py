"""One of several augmentations for each image of a batch, fused for NVIDIA GPUs: each image is read and written once.

The images of a `Choice` lie on places, as many for each augmentation; places left over hold copies, and write nothing.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from frofa.augmentations.batch import TokenBatch
from frofa.augmentations.ops.dispatch import BINS, EQUALIZE, IDENTITY, ROTATE, SHARPNESS, FusedStep
from frofa.augmentations.ops.triton import PARTS, changed, image_range, rows, to_pixels

VALUES, NEIGHBOURS, MOVED = 0, 1, 2
"""Kinds of kernels: they look at each value alone, at those around it, or at those of another place."""
TILES = {VALUES: (64, 64, 1, 4), NEIGHBOURS: (32, 64, 8, 4), MOVED: (64, 64, 1, 4)}
"""Positions and channels of a tile, parts of an image, and warps, of each kernel: the fastest of those tried on an
H200 (`benchmarks/augmentations.py`)."""
COUNTED, ELEMENTS = 32, 4096
"""Parts of an image whose values are counted apart, and values counted at a time (same benchmark)."""


def fused_choice(batch: TokenBatch, params: Mapping[str, Any]) -> Tensor | None:
    """Make the patches that `Choice.transform` makes, all at once.

    Parameters
    ----------
    batch : TokenBatch
    params : dict
        Drawn by `Choice`.

    Returns
    -------
    Tensor of shape (n, N, C) or None
        None where an augmentation has no step, or tokens are hidden or without a grid of one size.
    """
    # What each share of the places is told to do; one unknown augmentation, and the plain way is taken.
    steps = [step for option, _ in params["parts"] if (step := option.fused_step()) is not None]
    if batch.mask is not None or not isinstance(batch.grid, tuple) or len(steps) < len(params["parts"]):
        return None
    x, places, images = rows(batch.patches), params["places"], params["images"]
    _, n_tokens, channels = x.shape
    n_places, out = len(images), torch.empty(x.shape, dtype=x.dtype, device=x.device)
    # Steps (n_steps, 4) and drawn values (n_places, C) on the device; ranges of the images that need one.
    table, wanted = _table(tuple(steps), x.device)
    share = n_places // len(steps)
    values = _values([drawn for _, drawn in params["parts"]], share, channels, x.device)
    codes = {step.code for step in steps}
    bounds = image_range(x, chosen=(images, wanted)) if any(map(_has_range, steps)) else (values, values)
    tokens = n_tokens, channels, share, x.stride(0), x.stride(1)
    # One launch for each kind of kernel that some step needs.
    with torch.cuda.device_of(x):
        lookup = _lookup(x, images, table, bounds, tokens) if EQUALIZE in codes else values
        for kind in sorted({_kind(code) for code in codes}):
            block_n, block_c, parts, warps = TILES[kind]
            _choice_kernel[(triton.cdiv(channels, block_c), n_places, parts)](
                x, out, images, places, table, values, *bounds, lookup, *tokens, *batch.grid,
                KIND=kind, BINS=BINS, RANGES=PARTS, BLOCK_N=min(block_n, max(16, triton.next_power_of_2(n_tokens))),
                BLOCK_C=block_c, num_warps=warps,
            )  # fmt: skip
    return out


def _lookup(
    x: Tensor, images: Tensor, table: Tensor, bounds: tuple[Tensor, Tensor], tokens: tuple[int, int, int, int, int]
) -> Tensor:
    """Find what `Equalize` maps each bin to, in units of the range, on the places that have it: (n_places, BINS)."""
    n_places, (_, channels, share, *_) = len(images), tokens
    counts = torch.empty((n_places, COUNTED, BINS), dtype=torch.int32, device=x.device)
    lookup = torch.empty((n_places, BINS), device=x.device)
    _count_kernel[(n_places, COUNTED)](
        x, counts, images, table, *bounds, *tokens,
        CODE=EQUALIZE, BINS=BINS, RANGES=PARTS, FLAT=x.stride(1) == channels, BLOCK=ELEMENTS,
    )  # fmt: skip
    _lookup_kernel[(n_places,)](counts, lookup, table, share, CODE=EQUALIZE, BINS=BINS, COUNTED=COUNTED)
    return lookup


def _kind(code: int) -> int:
    return VALUES if code < SHARPNESS else NEIGHBOURS if code == SHARPNESS else MOVED


def _has_range(step: FusedStep) -> bool:
    """Tell whether a step looks at the range of whole images."""
    return step.code < ROTATE and step.code != IDENTITY and not step.own_range


@lru_cache(maxsize=64)
def _table(steps: tuple[FusedStep, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Copy steps to a device, and which have a range; once, since the host waits for every such copy."""
    wanted = [_has_range(step) for step in steps]
    return tuple(torch.tensor(part, dtype=torch.int32, device=device) for part in (steps, wanted))  # type: ignore[return-value]


def _values(drawn: Sequence[Mapping[str, Any]], size: int, channels: int, device: torch.device) -> Tensor:
    """Gather what was drawn for each place and channel, (n_places, C) of float32; of the identity, anything."""
    values: list[Any] = [next(iter(one.values()), None) for one in drawn]
    filled = [torch.empty((size, 1), device=device) if value is None else value.float() for value in values]
    return torch.cat([value.reshape(size, -1).expand(size, channels) for value in filled])


@triton.jit
def _count_kernel(
    x_ptr, counts_ptr, images_ptr, table_ptr, low_ptr, high_ptr, n_tokens, channels, share, x_image, x_token,
    CODE: tl.constexpr, BINS: tl.constexpr, RANGES: tl.constexpr, FLAT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Count the values in each bin of the range: one program a place and part of its image."""
    place, part, n_parts = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    if tl.load(table_ptr + place // share * 4) != CODE:
        return
    image = tl.load(images_ptr + place)
    ranges = image * RANGES + tl.arange(0, RANGES)
    low, high = tl.min(tl.load(low_ptr + ranges), 0), tl.max(tl.load(high_ptr + ranges), 0)
    # A histogram of the values, read in runs of BLOCK; those beyond the image's end fall into bin 0, and are taken out.
    counts = tl.zeros([BINS], tl.int32)
    beyond = 0
    size = n_tokens * channels
    x_ptr += image * x_image
    for start in range(part * BLOCK, size, n_parts * BLOCK):
        at = start + tl.arange(0, BLOCK)
        inside = at < size
        offset = at
        if not FLAT:
            offset = at // channels * x_token + at % channels
        x = tl.load(x_ptr + offset, mask=inside, other=0.0)
        pixel = to_pixels(x.to(tl.float32), low, high).to(tl.int32)
        counts += tl.histogram(tl.where(inside, pixel, 0), BINS)
        beyond += tl.sum((at >= size).to(tl.int32), 0)
    bins = tl.arange(0, BINS)
    counts -= tl.where(bins == 0, beyond, 0)
    tl.store(counts_ptr + (place * n_parts + part) * BINS + bins, counts)


@triton.jit
def _lookup_kernel(
    counts_ptr, lookup_ptr, table_ptr, share, CODE: tl.constexpr, BINS: tl.constexpr, COUNTED: tl.constexpr
):
    """Find what each bin is mapped to, in units of the range: one program a place."""
    place = tl.program_id(0)
    if tl.load(table_ptr + place // share * 4) != CODE:
        return
    bins, part = tl.arange(0, BINS), tl.arange(0, COUNTED)
    counts = tl.load(counts_ptr + (place * COUNTED + part[:, None]) * BINS + bins[None, :])
    counts = tl.sum(counts, 0)
    # A bin becomes the number of values in lower bins, divided by the number outside of the highest.
    top = tl.sum(tl.where(bins == BINS - 1, counts, 0), 0)
    lower = tl.cumsum(counts, 0) - counts
    outside = tl.maximum(tl.sum(counts, 0) - top, 1)
    tl.store(lookup_ptr + place * BINS + bins, lower.to(tl.float32) / outside.to(tl.float32))


@triton.jit
def _choice_kernel(
    x_ptr, out_ptr, images_ptr, places_ptr, table_ptr, value_ptr, low_ptr, high_ptr, lookup_ptr,
    n_tokens, channels, share, x_image, x_token, height, width,
    KIND: tl.constexpr, BINS: tl.constexpr, RANGES: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Apply the steps: one program a place, block of channels and part of the image.

    Where a step asks for the range or mean of a channel, the image is read twice.
    """
    place = tl.program_id(1)
    table_ptr += place // share * 4
    code, own_range = tl.load(table_ptr), tl.load(table_ptr + 1)
    if tl.minimum(tl.maximum(code - 6, 0), 2) != KIND:
        return
    image = tl.load(images_ptr + place)
    if tl.load(places_ptr + image) != place:  # a copy
        return
    clip, fill = tl.load(table_ptr + 2), tl.load(table_ptr + 3)
    channel = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    in_channels = channel < channels
    position = tl.arange(0, BLOCK_N)
    x_ptr += image * x_image + channel[None, :]
    out_ptr += image * n_tokens * channels + channel[None, :]
    value_ptr += place * channels
    value = tl.load(value_ptr + channel, mask=in_channels, other=0.0)[None, :]
    lows = tl.full([BLOCK_C], float("inf"), tl.float32)
    highs = tl.full([BLOCK_C], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_C], tl.float32)
    seen = n_tokens
    if KIND == 2:
        seen = tl.where(fill == 1, n_tokens, 0)  # for the mean
    elif own_range == 0:
        seen = tl.where(code == 1, n_tokens, 0)  # contrast
    # First pass, where one is asked for: range of each channel, and the sum for its mean, [BLOCK_C].
    for start in range(0, seen, BLOCK_N):
        inside = (start + position < n_tokens)[:, None] & in_channels[None, :]
        x = tl.load(x_ptr + (start + position)[:, None] * x_token, mask=inside, other=0.0).to(tl.float32)
        if KIND != 2:
            lows = tl.minimum(lows, tl.min(tl.where(inside, x, float("inf")), 0))
            highs = tl.maximum(highs, tl.max(tl.where(inside, x, float("-inf")), 0))
        total += tl.sum(x, 0)
    # The range of the whole image takes the place of the channels', from the extremes of its parts.
    if KIND != 2 and own_range == 0:
        ranges = image * RANGES + tl.arange(0, RANGES)
        lows = tl.zeros([BLOCK_C], tl.float32) + tl.min(tl.load(low_ptr + ranges), 0)
        highs = tl.zeros([BLOCK_C], tl.float32) + tl.max(tl.load(high_ptr + ranges), 0)
    low, high, mean = lows[None, :], highs[None, :], (total / n_tokens)[None, :]
    # Second pass: every value of this part of the image, changed and clipped.
    for start in range(tl.program_id(2) * BLOCK_N, n_tokens, tl.num_programs(2) * BLOCK_N):
        at = start + position
        inside = (at < n_tokens)[:, None] & in_channels[None, :]
        if KIND == 2:
            y = _moved(x_ptr, at, inside, x_token, height, width, code, tl.load(value_ptr), fill, mean)
        else:
            x = tl.load(x_ptr + at[:, None] * x_token, mask=inside, other=0.0).to(tl.float32)
            if KIND == 1:
                y = (_smoothed(x_ptr, at, inside, x_token, height, width) - x) * (1 - value) + x
            else:
                y = x
                for operation in tl.static_range(5):
                    if code == operation:
                        y = changed(x, value, low, high, mean, operation)
                if code == 6:  # equalize
                    pixel = to_pixels(x, low, high).to(tl.int32)
                    mapped = tl.load(lookup_ptr + place * BINS + pixel, mask=inside, other=0.0) * (high - low) + low
                    y = tl.where((value > 0) & (high > low), mapped, x)
            if clip != 0:
                y = tl.minimum(tl.maximum(y, low), high)
        tl.store(out_ptr + at[:, None] * channels, y, mask=inside)


@triton.jit
def _smoothed(x_ptr, at, inside, x_token, height, width):
    """Sum the 3 x 3 neighbours, of which the one in the middle weighs 5; at the border, take the token alone."""
    # Neighbours are whole rows and columns away; at the border, the middle tap alone has weight one.
    row, column = at // width, at % width
    within = (row > 0) & (row < height - 1) & (column > 0) & (column < width - 1)
    y = tl.zeros(inside.shape, tl.float32)
    for tap in tl.static_range(9):
        neighbour = at + (tap // 3 - 1) * width + tap % 3 - 1
        alone, weight = (1.0, 5 / 13) if tap == 4 else (0.0, 1 / 13)
        weights = tl.where(within, weight, alone)
        index = tl.where(within, neighbour, at)
        y += (
            tl.load(x_ptr + index[:, None] * x_token, mask=inside & (weights != 0)[:, None], other=0.0).to(tl.float32)
            * weights[:, None]
        )
    return y


@triton.jit
def _moved(x_ptr, at, inside, x_token, height, width, code, value, fill, mean):
    """Read tokens where they come from, between four places; see `frofa.augmentations.geometric`."""
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    y, x = (at // width).to(tl.float32) - middle_y, (at % width).to(tl.float32) - middle_x
    source_y, source_x = y, x
    if code == 8:  # rotate
        angle = value * 0.017453292519943295
        source_y, source_x = tl.cos(angle) * y + tl.sin(angle) * x, tl.cos(angle) * x - tl.sin(angle) * y
    if code == 9:  # shear x
        source_x = x + value * y
    if code == 10:  # shear y
        source_y = y + value * x
    if code == 11:  # translate x
        source_x = x - value * width
    if code == 12:  # translate y
        source_y = y - value * height
    source_y, source_x = source_y + middle_y, source_x + middle_x
    if fill == 2:  # edge
        source_y = tl.minimum(tl.maximum(source_y, 0.0), height - 1.0)
        source_x = tl.minimum(tl.maximum(source_x, 0.0), width - 1.0)
    top, left = tl.floor(source_y), tl.floor(source_x)
    down, right = source_y - top, source_x - left
    summed = tl.zeros(inside.shape, tl.float32)
    missing = tl.full(at.shape, 1.0, tl.float32)
    # Four taps around the source; those outside of the grid weigh nothing, and the fill gets their weight.
    for tap in tl.static_range(4):
        row, column = top + tap // 2, left + tap % 2
        weight = (down if tap // 2 == 1 else 1 - down) * (right if tap % 2 == 1 else 1 - right)
        weight = tl.where((row >= 0) & (row < height) & (column >= 0) & (column < width), weight, 0.0)
        index = (row * width + column).to(tl.int32)
        read = inside & (weight != 0)[:, None]
        summed += tl.load(x_ptr + index[:, None] * x_token, mask=read, other=0.0).to(tl.float32) * weight[:, None]
        missing -= weight
    if fill == 1:  # mean
        summed += missing[:, None] * mean
    return summed
