"""The mathematics of the pointwise augmentations: pure functions of tensors of shape (n, N, C), no randomness."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from frofa.augmentations.ops.dispatch import Operation, fusible, needs_range
from frofa.augmentations.ops.mapping import Variant, feature_range


def pointwise(
    features: Tensor, /, operation: Operation, value: Tensor, variant: Variant, *, clip: bool, mask: Tensor | None
) -> Tensor:
    """Apply an operation to each pixel; where its value is neutral, features stay exactly as they are.

    Parameters
    ----------
    features : Tensor of shape (n, N, C)
        Floating point. Not modified.
    operation : {"brightness", "contrast", "invert", "posterize", "solarize", "scale"}
    value : Tensor of shape (n, 1, 1) or (n, 1, C)
        Its parameter.
    variant : {"default", "c", "c2"}
        Of the range.
    clip : bool
        Clip pixels to [0, 1], which is done as clipping features to the range that [0, 1] stands for.
    mask : Tensor of bool, shape (n, N), or None
        The tokens that minimum, maximum and mean are taken over.

    Returns
    -------
    Tensor of shape (n, N, C)
        New, of the dtype of `features`; computed in float32 at least.
    """
    if fusible(features):
        from frofa.augmentations.ops.triton import fused_pointwise  # Triton may be absent where there is no GPU

        return fused_pointwise(features, operation, value, variant, clip=clip, mask=mask)
    x = features.to(torch.promote_types(features.dtype, torch.float32))
    # One value a channel, also where all are equal: PyTorch's CPU kernels are several times faster on them.
    low = high = x[:, :1]
    if needs_range(operation, clip=clip):
        low, high = (bound.expand(-1, 1, x.shape[2]).contiguous() for bound in feature_range(x, variant, mask))
    adjusted = OPERATIONS[operation](x, low, high, value, mask)
    if clip:
        adjusted = adjusted.clamp_(low, high)
    return adjusted.to(features.dtype)


def adjust_brightness(x: Tensor, low: Tensor, high: Tensor, shift: Tensor, mask: Tensor | None) -> Tensor:  # noqa: ARG001
    """Add `shift` in units of the range.

    Adding it to the pixels ``(x - low) / (high - low)`` and mapping back is the same, in four passes more.
    """
    return torch.addcmul(x, shift, high - low)


def adjust_contrast(x: Tensor, low: Tensor, high: Tensor, factor: Tensor, mask: Tensor | None) -> Tensor:  # noqa: ARG001
    """Scale the distance to each channel's mean over the positions by `factor`.

    The mapping to pixels and back cancels: it is affine, and the same for all positions of a channel.
    """
    # Equal to (x - mean) * factor + mean, but exactly the identity at factor 1; one new tensor, as everywhere
    # here: on a CPU, memory that is touched for the first time costs more than the arithmetic.
    return (x - masked_mean(x, mask)).mul_(factor - 1).add_(x)


def invert(x: Tensor, low: Tensor, high: Tensor, inverted: Tensor, mask: Tensor | None) -> Tensor:  # noqa: ARG001
    """Mirror the range where `inverted` is 1, not 0."""
    mirrored = (low + high) - x
    return torch.where(inverted > 0, mirrored, x, out=mirrored)


def posterize(x: Tensor, low: Tensor, high: Tensor, dropped_bits: Tensor, mask: Tensor | None) -> Tensor:  # noqa: ARG001
    """Set the lowest `dropped_bits` of each pixel's 8 bits to zero.

    Pixels are rounded to the nearest of 0..255 first; where no bit is dropped, features are returned as they are, so
    that zero bits are the identity (the paper is silent on both).
    """
    span = high - low
    step = torch.exp2(dropped_bits)
    pixels = (x - low).div_(span.where(span > 0, 1))
    coarse = pixels.mul_(255).round_().div_(step).floor_().mul_(step).div_(255)
    mapped = coarse.mul_(span).add_(low)
    return torch.where(dropped_bits > 0, mapped, x, out=mapped)


def solarize(x: Tensor, low: Tensor, high: Tensor, threshold: Tensor, mask: Tensor | None) -> Tensor:  # noqa: ARG001
    """Mirror the range at the pixels above `threshold`."""
    mirrored = (low + high) - x
    return torch.where(x > torch.lerp(low, high, threshold.to(x.dtype)), mirrored, x, out=mirrored)


def scale(x: Tensor, low: Tensor, high: Tensor, factor: Tensor, mask: Tensor | None) -> Tensor:  # noqa: ARG001
    """Multiply by `factor`."""
    return x * factor


def masked_mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the tokens, or over those where the mask (n, N) is True; shape (n, 1, C), float32 at least."""
    wide = torch.promote_types(x.dtype, torch.float32)
    if mask is None:
        return x.mean(1, keepdim=True, dtype=wide)
    shown = mask.unsqueeze(2)
    return x.masked_fill(~shown, 0).sum(1, keepdim=True, dtype=wide) / shown.sum(1, keepdim=True)


OPERATIONS: Mapping[Operation, Callable[[Tensor, Tensor, Tensor, Tensor, Tensor | None], Tensor]] = {
    "brightness": adjust_brightness,
    "contrast": adjust_contrast,
    "invert": invert,
    "posterize": posterize,
    "solarize": solarize,
    "scale": scale,
}
