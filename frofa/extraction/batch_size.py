"""Numbers of images that go through a backbone at a time."""

from collections.abc import Sequence

import torch

from frofa.backbones.backbone import Backbone
from frofa.backbones.navit.backbone import NativeBackbone
from frofa.backbones.outputs import Request

CPU_PASS = 8
"""Images of a pass on a CPU, at most: what they become stays in its caches, and more of them are up to a third slower
(ViTs from 192 to 768 channels wide) or take twice the time (EfficientNet-Lite0). ``benchmarks/extraction.py`` times
whole runs with it."""
TOKENS_OF_A_PASS = 65536
"""Tokens of a pass for ``batch_size="auto"`` with `max_tokens`: more of them are not faster on a GPU, which
``benchmarks/navit.py --capacity`` measures."""
MOST = 256
"""Images of a pass for ``batch_size="auto"``, at most: larger passes are not faster."""


def automatic_batch_size(backbone: Backbone, requests: Sequence[Request], precision: str) -> int:
    """Choose how many images go through a backbone at a time.

    At native resolution, as many as have `TOKENS_OF_A_PASS` tokens. On a GPU, the memory that a pass takes is measured
    for 1 and for 9 images; the result is the largest power of two up to 256 whose pass fits into half of the free
    memory. On other devices, 64.
    """
    if isinstance(backbone, NativeBackbone):
        return images_of_a_pass(backbone.max_tokens)
    device = backbone.device
    if device.type != "cuda":
        return 64
    # An image as batches have it: uint8 (1, H, W, 3), or float32 (1, 3, H, W) where the transform is run whole.
    shape = backbone.preprocessing.geometry.shape if backbone.preprocessing.geometry else None
    pixels = torch.zeros((1, *(shape or backbone.data_config["input_size"])), device=device)
    pixels = pixels.to(torch.uint8 if shape else torch.float32)

    def peak(n: int) -> int:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        backbone.extract(pixels.expand(n, *pixels.shape[1:]), requests, precision)
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before

    # Bytes an image: the slope between passes of 9 images and of 1.
    peak(1)  # the first pass sets up libraries, which keep some memory
    each = max((peak(9) - peak(1)) // 8, 1)
    free = torch.cuda.mem_get_info(device)[0]
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # kept for reuse
    return largest_power_of_two(free // 2 // each)


def images_of_a_pass(max_tokens: int) -> int:
    """Choose how many images of up to `max_tokens` tokens go through a backbone at a time."""
    return largest_power_of_two(TOKENS_OF_A_PASS // max_tokens)


def largest_power_of_two(most: int) -> int:
    """Find the largest power of two up to `most`, 1 at least and `MOST` at most."""
    return 1 << max(0, min(most, MOST).bit_length() - 1)
