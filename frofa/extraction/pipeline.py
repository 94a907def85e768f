"""Decoding, transfers, forward passes and writing, all at the same time."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from frofa.decoding.decoders import Decoders, run_ahead
from frofa.decoding.task import DecodeTask, failure
from frofa.decoding.views import ImageView
from frofa.exceptions import EncoderCallError, ImageReadError
from frofa.extraction.batches import PixelBatch, PixelRows, batches, batches_by_shape
from frofa.extraction.engine import ForwardEngine, Ready
from frofa.extraction.transfers import Pinned

Take: TypeAlias = Callable[[list[ImageView], list[Any]], object]
"""Gets views of images, and their features, one array for each target."""
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
    """Run the views of images through a backbone.

    Each image is decoded once for all of its views, and batches have `engine.batch_size` views of any images. They are
    decoded some two batches ahead, and at most `IN_FLIGHT` batches wait to be written: memory does not grow with the
    number of images. `take` is called in a thread of its own; what it raises ends the run. `fail` gets each image that
    could not be read, in order, and each item that a custom encoder cannot encode.
    """
    preprocessing, size = engine.backbone.preprocessing, engine.batch_size
    faults = FaultFinder(engine, tasks, fail)
    with ExitStack() as stack:
        writer = stack.enter_context(ThreadPoolExecutor(1, "frofa-write"))
        pinning: Future[Pinned] | None = None
        if preprocessing.geometry is None:
            source = batches_by_shape(tasks, decoders, preprocessing.views, size, fail)
        else:
            n_rows = number_of_rows(tasks, size, decoders.n_jobs)
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


def number_of_rows(tasks: Sequence[DecodeTask], batch_size: int, n_jobs: int) -> int:
    """Count the rows of pixels, uint8 (n_rows, H, W, 3): of the batch that is decoded, the one begun, those in flight.

    Of several views, also those of one image in each thread or process, however many these are.
    """
    n_views = [len(task.views) for task in tasks]
    # In whole batches: one that reaches over the end of the rows has to be copied.
    more = -(-n_jobs * (max(n_views, default=1) - 1) // batch_size)
    return min(sum(n_views), (IN_FLIGHT + 2 + more) * batch_size)


def _hand_over(ready: Ready, batch: PixelBatch, take: Take, faults: "FaultFinder") -> None:
    try:
        features = ready()
    finally:
        # Rows are free for decoding as soon as features are here, before these are written.
        batch.release()
    views, features = faults.leave_out(batch.views, features)
    if views:
        take(views, features)


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
            sound = [row for row in range(len(batch.views)) if self._is_sound(batch, row)]
            if not sound:
                return list, batch.take([])
            if len(sound) == len(batch.views):
                raise error  # of the batch as such
        kept = batch.take(sound)
        return self.engine.launch(kept.pixels), kept

    def leave_out(self, views: list[ImageView], features: list[Any]) -> tuple[list[ImageView], list[Any]]:
        """Drop the features of items that have NaN among them."""
        faults = self.engine.backbone.faults(features) if views else {}
        for row, reason in faults.items():
            self._name(views[row].position, ValueError(reason))
        if not faults:
            return views, features
        sound = [row for row in range(len(views)) if row not in faults]
        return [views[row] for row in sound], [values[sound] for values in features]

    def _is_sound(self, batch: PixelBatch, row: int) -> bool:
        try:
            self.engine.launch(batch.pixels[row : row + 1])()
        except EncoderCallError as error:
            cause = error.__cause__
            self._name(batch.views[row].position, cause if isinstance(cause, Exception) else error)
            return False
        return True

    def _name(self, position: int, error: Exception) -> None:
        [task] = (task for task in self.tasks if task.position == position)
        self.fail(failure(task, error))
