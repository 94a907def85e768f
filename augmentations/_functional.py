"""The mathematics of the augmentations: pure functions on pixels in [0, 1] of shape (n, N, C), no randomness."""

from torch import Tensor


def adjust_brightness(pixels: Tensor, /, shift: Tensor) -> Tensor:
    """Add `shift`, broadcast against (n, N, C)."""
    return pixels + shift


def adjust_contrast(pixels: Tensor, /, factor: Tensor) -> Tensor:
    """Scale the distance to each channel's mean over the positions by `factor`, broadcast against (n, N, C)."""
    mean = pixels.mean(1, keepdim=True)
    # Equal to (pixels - mean) * factor + mean, but exactly the identity at factor 1.
    return pixels + (pixels - mean) * (factor - 1)


def posterize(pixels: Tensor, /, dropped_bits: Tensor) -> Tensor:
    """Set the lowest `dropped_bits` of 8 bits to zero.

    `dropped_bits` is broadcast against (n, N, C). Pixels are rounded to the nearest of 0..255 first; where no bit is
    dropped they are returned unrounded, so that zero bits are the identity (the paper is silent on both).
    """
    step = 2.0**dropped_bits
    levels = (pixels * 255).round()
    return pixels.where(dropped_bits == 0, (levels / step).floor() * step / 255)
