"""The mathematics of the augmentations: pure functions of tensors of shape (n, N, C), no randomness."""

import torch
from torch import Tensor


def adjust_brightness(features: Tensor, /, low: Tensor, high: Tensor, shift: Tensor) -> Tensor:
    """Add `shift` in units of the range.

    Adding it to the pixels ``(features - low) / (high - low)`` and mapping back is the same, in four passes more.
    """
    return torch.addcmul(features, shift, high - low)


def adjust_contrast(features: Tensor, /, factor: Tensor) -> Tensor:
    """Scale the distance to each channel's mean over the positions by `factor`.

    The mapping to pixels and back cancels: it is affine, and the same for all positions of a channel.
    """
    # Equal to (features - mean) * factor + mean, but exactly the identity at factor 1; one new tensor, as everywhere
    # here: on a CPU, memory that is touched for the first time costs more than the arithmetic.
    return (features - features.mean(1, keepdim=True)).mul_(factor - 1).add_(features)


def posterize(features: Tensor, /, low: Tensor, high: Tensor, dropped_bits: Tensor) -> Tensor:
    """Set the lowest `dropped_bits` of each pixel's 8 bits to zero.

    Pixels are rounded to the nearest of 0..255 first; where no bit is dropped, features are returned as they are, so
    that zero bits are the identity (the paper is silent on both).
    """
    span = high - low
    step = torch.exp2(dropped_bits)
    pixels = (features - low).div_(span.where(span > 0, 1))
    coarse = pixels.mul_(255).round_().div_(step).floor_().mul_(step).div_(255)
    mapped = coarse.mul_(span).add_(low)
    return torch.where(dropped_bits > 0, mapped, features, out=mapped)
