"""The device a head computes on."""

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
