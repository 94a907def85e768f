"""Copies between the host and the device, beside the forward pass where the device can do that."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy.typing as npt
import torch
from torch import Tensor

from frofa.backbones.outputs import Computed

PORTABLE = 1
"""CUDA's flag for memory that is pinned for all devices."""
Arrived: TypeAlias = Callable[[], list[Tensor]]
"""Waits until features are on the host, and returns them."""


class Transfers:
    """Copies to the device and back: of a device that shares the host's memory, none."""

    def to_device(self, pixels: Tensor) -> Tensor:
        """Return pixels on the device."""
        return pixels

    def to_host(self, features: Sequence[Tensor]) -> Arrived:
        """Begin to copy features back; what this returns waits for them."""
        here = [values.cpu() for values in features]
        return lambda: here


class CudaTransfers(Transfers):
    """Copies in streams of their own, beside the forward pass; pixels should be pinned.

    Parameters
    ----------
    device : torch.device
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._up, self._down = torch.cuda.Stream(device), torch.cuda.Stream(device)

    def to_device(self, pixels: Tensor) -> Tensor:
        """Copy in one stream; the forward pass, in the current one, waits for it on the device."""
        current = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._up):
            there = pixels.to(self._device, non_blocking=True)
        current.wait_stream(self._up)
        there.record_stream(current)
        return there

    def to_host(self, features: Sequence[Tensor]) -> Arrived:
        """Copy in another stream, to pinned memory, when the forward pass is done."""
        self._down.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._down):
            here = []
            for values in features:
                pinned = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
                here.append(pinned.copy_(values, non_blocking=True))
                values.record_stream(self._down)
            done = self._down.record_event()

        def wait() -> list[Tensor]:
            done.synchronize()
            return here

        return wait


def transfers_for(device: torch.device) -> Transfers:
    """Choose how pixels and features are copied to a device and back."""
    return CudaTransfers(device) if device.type == "cuda" else Transfers()


class Pinned:
    """While this is open, a GPU copies from these pixels by itself, without the host waiting.

    Memory that cannot be pinned serves too; copies from it make the host wait.
    """

    def __init__(self, pixels: Tensor):
        runtime: Any = torch.cuda.cudart()
        self._address = pixels.data_ptr()
        self._done = int(runtime.cudaHostRegister(self._address, pixels.nbytes, PORTABLE)) == 0
        if not self._done:
            with contextlib.suppress(RuntimeError):  # the next kernel reports the error, once: not the user's first one
                torch.zeros(1, device="cuda")

    def close(self) -> None:
        """Unpin."""
        if self._done:
            torch.cuda.synchronize()
            runtime: Any = torch.cuda.cudart()
            runtime.cudaHostUnregister(self._address)
            self._done = False


def as_array(features: Computed) -> npt.NDArray[Any]:
    """Turn features on the host into an array; bfloat16, which NumPy does not have, becomes float32."""
    return features.float().numpy() if isinstance(features, Tensor) else features
