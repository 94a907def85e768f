"""Decoding, transfers, forward passes and writing, all at the same time."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from frofa.decoding.decoders import Decoders, run_ahead
from frofa.decoding.task import DecodeTask, failure
from frofa.exceptions import EncoderCallError, ImageReadError
from frofa.extraction.batches import PixelBatch, PixelRows, batches, batches_by_shape
from frofa.extraction.engine import ForwardEngine, Ready
from frofa.extraction.transfers import Pinned

Take: TypeAlias = Callable[[list[int], list[Any]], object]
IN_FLIGHT = 2
"""Batches between the start of their forward pass and the end of their writing, besides the one that is begun.
``benchmarks/extraction.py`` measures how close that comes to the forward pass alone."""


def run_pipeline(
    tasks: Sequence[DecodeTask],
    decoders: Decoders,
    engine: ForwardEngine,
    take: Take,
    fail: Callable[[ImageReadError], None],
) -> None:
    """Run images through a backbone.

    Images are decoded at most two batches ahead, and at most `IN_FLIGHT` batches wait to be written: memory does not
    grow with the number of images. `take` gets positions and features, one array for each target, in a thread of its
    own; what it raises ends the run. `fail` gets each image that could not be read, in order, and each item that a
    custom encoder cannot encode.
    """
    preprocessing, size = engine.backbone.preprocessing, engine.batch_size
    faults = FaultFinder(engine, tasks, fail)
    with ExitStack() as stack:
        writer = stack.enter_context(ThreadPoolExecutor(1, "frofa-write"))
        pinning: Future[Pinned] | None = None
        if preprocessing.geometry is None:
            source = batches_by_shape(tasks, decoders, preprocessing.whole, size, fail)
        else:
            # Rows for the batch that is decoded, the one that is begun and those in flight: uint8 (n_rows, H, W, 3).
            n_rows = min(len(tasks), (IN_FLIGHT + 2) * size)
            pixels = torch.from_numpy(decoders.allocate(n_rows, preprocessing.geometry))
            source = batches(tasks, decoders, PixelRows(pixels), size, fail)
            if engine.backbone.device.type == "cuda":  # while the first images are decoded
                pinning = writer.submit(Pinned, pixels)
                stack.callback(lambda pinned: pinned.result().close(), pinning)

        def begin(batch: PixelBatch) -> "Future[None]":
            # The first copy waits for the pinning, which began with the decoding.
            if pinning is not None:
                pinning.result()
            return writer.submit(_hand_over, *faults.launch(batch), take, faults)

        for _ in run_ahead(begin, source, IN_FLIGHT + 1):
            pass


def _hand_over(ready: Ready, batch: PixelBatch, take: Take, faults: "FaultFinder") -> None:
    try:
        features = ready()
    finally:
        # Rows are free for decoding as soon as features are here, before these are written.
        batch.release()
    positions, features = faults.leave_out(batch.positions, features)
    if positions:
        take(positions, features)


@dataclass(frozen=True)
class FaultFinder:
    """Finds the items that a custom encoder cannot encode, in each batch of a run, and hands each to `fail`."""

    engine: ForwardEngine
    tasks: Sequence[DecodeTask]
    fail: Callable[[ImageReadError], None]

    def launch(self, batch: PixelBatch) -> tuple[Ready, PixelBatch]:
        """Begin the forward pass; where the encoder raises an error, without the items it raises one for."""
        try:
            return self.engine.launch(batch.pixels), batch
        except EncoderCallError as error:
            # One by one, which names the items that are at fault.
            sound = [row for row in range(len(batch.positions)) if self._is_sound(batch, row)]
            if not sound:
                return list, batch.take([])
            if len(sound) == len(batch.positions):
                raise error  # of the batch as such
        kept = batch.take(sound)
        return self.engine.launch(kept.pixels), kept

    def leave_out(self, positions: list[int], features: list[Any]) -> tuple[list[int], list[Any]]:
        """Drop the features of items that have NaN among them."""
        faults = self.engine.backbone.faults(features) if positions else {}
        for row, reason in faults.items():
            self._name(positions[row], ValueError(reason))
        if not faults:
            return positions, features
        sound = [row for row in range(len(positions)) if row not in faults]
        return [positions[row] for row in sound], [values[sound] for values in features]

    def _is_sound(self, batch: PixelBatch, row: int) -> bool:
        try:
            self.engine.launch(batch.pixels[row : row + 1])()
        except EncoderCallError as error:
            cause = error.__cause__
            self._name(batch.positions[row], cause if isinstance(cause, Exception) else error)
            return False
        return True

    def _name(self, position: int, error: Exception) -> None:
        [task] = (task for task in self.tasks if task.position == position)
        self.fail(failure(task, error))
