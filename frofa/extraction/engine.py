"""The forward pass of a batch: to the device, through the backbone, and back, each beside the other where it can."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from frofa.backbones.backbone import Backbone
from frofa.backbones.outputs import Computed, Request
from frofa.compute.cuda_graphs import CAPTURES
from frofa.compute.memory import is_out_of_memory

HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
Arrived: TypeAlias = Callable[[], list[Computed]]
"""Waits until features are on the host, and returns them."""


class Transfers(Protocol):
    """Copies to the device and back."""

    def to_device(self, pixels: Tensor) -> Tensor:
        """Pixels on the device."""

    def to_host(self, features: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
        """Begin to copy features back; what it returns waits for them."""


class NoTransfers:
    """For a device that shares the host's memory."""

    def to_device(self, pixels: Tensor) -> Tensor:
        """They are there."""
        return pixels

    def to_host(self, features: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
        """They are here, or come at once."""
        here = [values.cpu() for values in features]
        return lambda: here


class CudaTransfers:
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

    def to_host(self, features: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
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


@dataclass
class Engine:
    """A backbone and what is wanted of it.

    Attributes
    ----------
    backbone : Backbone
    requests : sequence of Request
    dtypes : sequence of str
        Of the features of each request.
    precision : str
        Of the forward pass.
    batch_size : int
        Images a pass; halved when memory runs out.
    handed : int
        Images that are handed over at a time, for one or several passes.
    compiled : bool
    transfers : Transfers
    """

    backbone: Backbone
    requests: Sequence[Request]
    dtypes: Sequence[str]
    precision: str
    batch_size: int
    handed: int
    compiled: bool = False
    transfers: Transfers = field(default_factory=NoTransfers)
    _wanted: int = 0

    def launch(self, pixels: Tensor) -> Arrived:
        """Begin the forward pass of a batch; what this returns waits for the features.

        Until then, `pixels` must not change.
        """
        features = self._in_passes(pixels)
        arrived = self.transfers.to_host(
            [
                values.to(HALVES[dtype]) if dtype in HALVES else values
                for values, dtype in zip(features, self.dtypes, strict=True)
            ]
        )

        def wait() -> list[Computed]:
            return [
                values if dtype == "bfloat16" else values.numpy().astype(np.dtype(dtype), copy=False)
                for values, dtype in zip(arrived(), self.dtypes, strict=True)
            ]

        return wait

    def _in_passes(self, pixels: Tensor) -> list[Tensor]:
        """Run a batch, in halves and their halves where memory runs out."""
        while True:
            try:
                features = self._run(pixels)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or min(self.batch_size, len(pixels)) == 1:
                    raise
            else:
                break
            # Here the error and its frames, which hold tensors, are gone.
            wanted, self.batch_size = self.batch_size, (min(self.batch_size, len(pixels)) + 1) // 2
            self._wanted = self._wanted or wanted
            if self.backbone.device.type == "cuda":
                CAPTURES.empty_cache()
        if self._wanted > 0:
            warnings.warn(
                f"memory runs out at {self._wanted} images a pass: going on with {self.batch_size}. Features may "
                f"differ in their last bits from those of whole batches; batch_size={self.batch_size} avoids this.",
                stacklevel=2,
            )
            self._wanted = -1  # said once
        return features

    def _run(self, pixels: Tensor) -> list[Tensor]:
        passes = [self._pass(part) for part in pixels.split(self.batch_size)]
        return [torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*passes, strict=True)]

    def _pass(self, pixels: Tensor) -> list[Tensor]:
        n = len(pixels)
        there = self.transfers.to_device(pixels)
        if self.compiled and n < self.batch_size:  # the last batch, filled up: another size would be compiled anew
            there = torch.cat([there, there[-1:].expand(self.batch_size - n, *there.shape[1:])])
        features = self.backbone.extract(there, self.requests, self.precision, self.compiled)
        return [values[:n] for values in features]


CPU_PASS = 8
"""Images of a pass on a CPU, at most: what they become stays in its caches, and more of them are up to a third slower
(ViTs from 192 to 768 channels wide) or take twice the time (EfficientNet-Lite0)."""


def automatic_batch_size(backbone: Backbone, requests: Sequence[Request], precision: str) -> int:
    """Choose how many images go through a GPU at a time.

    The memory that a pass takes is measured for 1 and for 9 images; the result is the largest power of two up to 256
    whose pass fits into half of the free memory. Larger ones are not faster. On other devices, 64.
    """
    if backbone.device.type != "cuda":
        return 64
    shape = backbone.preprocessing.geometry.shape if backbone.preprocessing.geometry else None
    pixels = torch.zeros((1, *(shape or backbone.data_config["input_size"])), device=backbone.device)
    pixels = pixels.to(torch.uint8 if shape else torch.float32)
    device = backbone.device

    def peak(n: int) -> int:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        backbone.extract(pixels.expand(n, *pixels.shape[1:]), requests, precision)
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before

    peak(1)  # the first pass sets up libraries, which keep some memory
    each = max((peak(9) - peak(1)) // 8, 1)
    free = torch.cuda.mem_get_info(device)[0]
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # kept for reuse
    return largest_power_of_two(free // 2 // each)


def largest_power_of_two(most: int) -> int:
    """Up to `most`, 1 at least and 256 at most."""
    return 1 << max(0, min(most, 256).bit_length() - 1)
