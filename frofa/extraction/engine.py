"""The forward pass of a batch: to the device, through the backbone, and back, each beside the other where it can."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from frofa.backbones.backbone import HALVES, Backbone
from frofa.backbones.navit.backbone import NativeBackbone
from frofa.compute.cuda_graphs import CAPTURES
from frofa.compute.memory import is_out_of_memory
from frofa.decoding.patches import grids_of
from frofa.extraction.batch_size import CPU_PASS, automatic_batch_size
from frofa.extraction.request import Settings, Target
from frofa.extraction.transfers import as_array, transfers_for
from frofa.ragged import RaggedTokens

Ready: TypeAlias = "Callable[[], list[Any]]"
"""Waits for the features of a batch; returns, for each target, `Computed` or RaggedTokens."""


class ForwardEngine:
    """Runs batches through a backbone, in passes.

    All targets come from the same passes. `batch_size` images are handed over at a time, for one or several passes of
    `pass_size` images, which is halved when memory runs out. At native resolution, a pass has as many tokens as these
    images have at most.
    """

    def __init__(self, backbone: Backbone, targets: Sequence[Target], settings: Settings):
        self.backbone, self._targets = backbone, targets
        self._precision, self._compiled = settings.precision, settings.compiled
        self._requests = [target.request for target in targets]
        size = settings.batch_size
        if size == "auto":
            size = automatic_batch_size(backbone, self._requests, settings.precision)
        self.batch_size = self.pass_size = int(size)
        # A user's encoder gets whole batches: how many it takes at once is its own affair.
        if backbone.device.type == "cpu" and not backbone.is_custom:
            self.pass_size = min(self.batch_size, CPU_PASS)
        self._transfers = transfers_for(backbone.device)
        self._wanted = 0  # the pass size that memory did not suffice for; -1 when that was said

    def launch(self, pixels: Tensor) -> Ready:
        """Begin the forward pass of a batch; what this returns waits for the features.

        Until then, `pixels` must not change.
        """
        grids = grids_of(pixels.numpy()) if isinstance(self.backbone, NativeBackbone) else None
        # Halves are made on the device: fewer bytes have to be copied.
        features = zip(self._in_passes(pixels), self._targets, strict=True)
        arrived = self._transfers.to_host(
            [values.to(HALVES.get(target.spec.dtype, values.dtype)) for values, target in features]
        )

        def wait() -> list[Any]:
            return [_delivered(values, target, grids) for values, target in zip(arrived(), self._targets, strict=True)]

        return wait

    def _in_passes(self, pixels: Tensor) -> list[Tensor]:
        """Run a batch, in halves and their halves where memory runs out."""
        while True:
            try:
                features = self._run(pixels)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or min(self.pass_size, len(pixels)) == 1:
                    raise
            else:
                break
            # Here the error and its frames, which hold tensors, are gone.
            wanted, self.pass_size = self.pass_size, (min(self.pass_size, len(pixels)) + 1) // 2
            self._wanted = self._wanted or wanted
            if self.backbone.device.type == "cuda":
                CAPTURES.empty_cache()
        if self._wanted > 0:
            warnings.warn(
                f"memory runs out at {self._wanted} images a pass: going on with {self.pass_size}. Features may "
                f"differ in their last bits from those of whole batches; batch_size={self.pass_size} avoids this.",
                stacklevel=2,
            )
            self._wanted = -1
        return features

    def _run(self, pixels: Tensor) -> list[Tensor]:
        backbone = self.backbone
        if isinstance(backbone, NativeBackbone):  # it packs images of several sizes into sequences
            there, grids = self._transfers.to_device(pixels), grids_of(pixels.numpy())
            capacity = self.pass_size * backbone.max_tokens
            return backbone.extract_packed(there, grids, capacity, self._requests, self._precision, self._compiled)
        passes = [self._pass(part) for part in pixels.split(self.pass_size)]
        return [torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*passes, strict=True)]

    def _pass(self, pixels: Tensor) -> list[Tensor]:
        n = len(pixels)
        there = self._transfers.to_device(pixels)
        if self._compiled and n < self.pass_size:  # the last batch, filled up: another size would be compiled anew
            there = torch.cat([there, there[-1:].expand(self.pass_size - n, *there.shape[1:])])
        features = self.backbone.extract(there, self._requests, self._precision, self._compiled)
        return [values[:n] for values in features]


def _delivered(values: Tensor, target: Target, grids: npt.NDArray[np.int64] | None) -> Any:
    """Turn features on the host into an array, a tensor of bfloat16, or RaggedTokens with their grids (n, 2)."""
    # bfloat16 stays a tensor until it is written, as NumPy has no such type.
    dtype = target.spec.dtype
    found = values if dtype == "bfloat16" else values.numpy().astype(np.dtype(dtype), copy=False)
    return RaggedTokens(as_array(found), grids) if target.is_ragged and grids is not None else found
