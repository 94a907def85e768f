"""Choice of kernels: the codes that Triton's kernels know, and when they can be used at all."""

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Operation = Literal["brightness", "contrast", "invert", "posterize", "solarize", "scale"]
Fill = Literal["mean", "edge", "zero"]

CODES: Mapping[Operation, int] = {
    "brightness": 0, "contrast": 1, "invert": 2, "posterize": 3, "solarize": 4, "scale": 5,
}  # fmt: skip
"""Pointwise operations, as `frofa.augmentations.ops.triton.changed` numbers them."""
# In the kernel for choices "scale" does not occur. Its codes are ordered by what a kernel looks at: each value alone,
# the values around it, or those of another place.
IDENTITY, EQUALIZE, SHARPNESS = 5, 6, 7
ROTATE, SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y = 8, 9, 10, 11, 12
FILLS: Mapping[Fill, int] = {"zero": 0, "mean": 1, "edge": 2}
BINS = 256
"""Bins of the histograms of `Equalize`."""


class FusedStep(NamedTuple):
    """Orders to a fused kernel: all that it has to know of an augmentation.

    Attributes
    ----------
    code : int
        One of `CODES`, or a constant beside them.
    own_range, clip : bool
        Whether the range is that of each channel, and whether values are clipped to it.
    fill : int
        What comes from outside of the grid, one of `FILLS`.
    """

    code: int
    own_range: bool = False
    clip: bool = False
    fill: int = 0


def needs_range(operation: Operation, *, clip: bool) -> bool:
    """Tell whether an operation asks for the range of the features."""
    return clip or operation not in ("contrast", "scale")


def fusible(features: Tensor) -> bool:
    """Tell whether the kernels for NVIDIA GPUs can be used, which give the same numbers in fewer passes."""
    return features.is_cuda and features.dtype != torch.float64 and _has_triton()


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None
