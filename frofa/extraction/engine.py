"""The forward pass of a batch: to the device, through the backbone, and back, each beside the other where it can."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from frofa.backbones.backbone import Backbone
from frofa.backbones.navit.backbone import NativeBackbone
from frofa.backbones.outputs import Computed
from frofa.compute.cuda_graphs import CAPTURES
from frofa.compute.memory import is_out_of_memory
from frofa.decoding.patches import grids_of
from frofa.extraction.batch_size import CPU_PASS, automatic_batch_size
from frofa.extraction.request import Settings, Target
from frofa.extraction.transfers import as_array, transfers_for
from frofa.ragged import RaggedTokens

HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
Ready: TypeAlias = "Callable[[], list[Any]]"
"""Waits for the features of a batch; returns, for each target, `Computed` or RaggedTokens."""


class ForwardEngine:
    """Runs batches through a backbone, in passes.

    Parameters
    ----------
    backbone : Backbone
    targets : sequence of Target
        All come from the same passes.
    settings : Settings

    Attributes
    ----------
    batch_size : int
        Images that are handed over at a time, for one or several passes.
    pass_size : int
        Images a pass; halved when memory runs out.
    """

    def __init__(self, backbone: Backbone, targets: Sequence[Target], settings: Settings):
        self.backbone, self._settings = backbone, settings
        self._requests = [target.request for target in targets]
        self._dtypes = [target.spec.dtype for target in targets]
        self._is_ragged = [target.is_ragged for target in targets]
        size = settings.batch_size
        if size == "auto":
            size = automatic_batch_size(backbone, self._requests, settings.precision)
        self.batch_size = self.pass_size = int(size)
        if backbone.device.type == "cpu" and not backbone.is_custom:
            self.pass_size = min(self.batch_size, CPU_PASS)
        self._transfers = transfers_for(backbone.device)
        self._wanted = 0  # the pass size that memory did not suffice for; -1 when that was said

    def launch(self, pixels: Tensor) -> Ready:
        """Begin the forward pass of a batch; what this returns waits for the features.

        Until then, `pixels` must not change.
        """
        # Halves are made on the device: fewer bytes have to be copied.
        features = zip(self._in_passes(pixels), self._dtypes, strict=True)
        arrived = self._transfers.to_host([values.to(HALVES.get(dtype, values.dtype)) for values, dtype in features])

        def wait() -> list[Computed]:
            return [
                values if dtype == "bfloat16" else values.numpy().astype(np.dtype(dtype), copy=False)
                for values, dtype in zip(arrived(), self._dtypes, strict=True)
            ]

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
        passes = [self._pass(part) for part in pixels.split(self.pass_size)]
        return [torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*passes, strict=True)]

    def _pass(self, pixels: Tensor) -> list[Tensor]:
        n = len(pixels)
        there = self._transfers.to_device(pixels)
        if (
            self._settings.compiled and n < self.pass_size
        ):  # the last batch, filled up: another size would be compiled anew
            there = torch.cat([there, there[-1:].expand(self.pass_size - n, *there.shape[1:])])
        features = self.backbone.extract(there, self._requests, self._settings.precision, self._settings.compiled)
        return [values[:n] for values in features]


class NativeEngine(ForwardEngine):
    """An engine of a `NativeBackbone`: tokens come out as `RaggedTokens`.

    A pass has as many tokens as its `pass_size` images have at most: if memory runs out, images are packed into
    sequences of half the length.
    """

    def launch(self, pixels: Tensor) -> Ready:
        """Begin the forward pass of rows of patches, uint8 (n, 1 + max_tokens, bytes of a patch)."""
        grids = grids_of(pixels.numpy())
        arrived = super().launch(pixels)

        def wait() -> list[Any]:
            return [
                RaggedTokens(as_array(values), grids) if is_ragged else values
                for is_ragged, values in zip(self._is_ragged, arrived(), strict=True)
            ]

        return wait

    def _run(self, pixels: Tensor) -> list[Tensor]:
        backbone = self.backbone
        assert isinstance(backbone, NativeBackbone)
        there = self._transfers.to_device(pixels)
        capacity = self.pass_size * backbone.max_tokens
        grids = grids_of(pixels.numpy())
        return backbone.extract_packed(
            there, grids, capacity, self._requests, self._settings.precision, self._settings.compiled
        )


def engine_for(backbone: Backbone, targets: Sequence[Target], settings: Settings) -> ForwardEngine:
    """Make the engine that a kind of backbone needs."""
    kind = NativeEngine if isinstance(backbone, NativeBackbone) else ForwardEngine
    return kind(backbone, targets, settings)
