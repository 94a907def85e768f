"""The device a head computes on."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch


def resolve_device(device: str) -> torch.device:
    """Turn ``"auto"`` into the GPU where there is one, else the CPU.

    Raises
    ------
    ValueError
        If this machine does not have the device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device must be 'auto' or a device of this machine. Got {device!r}: {error}") from error
    return resolved


def as_tensor(array: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """Move an array to the device, in float32; copied where it is read-only (memory-mapped), of which torch warns."""
    return torch.as_tensor(np.require(array, np.float32, "W"), device=device)
