"""Decoding, transfers, forward passes and writing, all at the same time."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeAlias

import torch

from frofa.backbones.outputs import Computed
from frofa.decoding.decoders import Decoders
from frofa.decoding.task import DecodeTask
from frofa.exceptions import ImageReadError
from frofa.extraction.batches import Batch, batches, batches_by_shape
from frofa.extraction.engine import Arrived, Engine
from frofa.extraction.faulty import Faulty
from frofa.extraction.rows import Pinned, Rows

Take: TypeAlias = Callable[[list[int], list[Computed]], object]
IN_FLIGHT = 2
"""Batches between the start of their forward pass and the end of their writing, besides the one that is begun."""


def run_pipeline(
    tasks: Sequence[DecodeTask],
    decoders: Decoders,
    engine: Engine,
    take: Take,
    fail: Callable[[ImageReadError], None],
) -> None:
    """Run images through a backbone.

    Images are decoded at most two batches ahead, and at most `IN_FLIGHT` batches wait to be written: memory does not
    grow with the number of images.

    Parameters
    ----------
    tasks : sequence of DecodeTask
    decoders : Decoders
    engine : Engine
    take : callable
        Gets positions and features, one array for each of the engine's requests, in a thread of its own. What it
        raises ends the run.
    fail : callable
        Gets each image that could not be read, in order.
    """
    preprocessing = engine.backbone.preprocessing
    size = engine.handed
    with ExitStack() as stack:
        writer = stack.enter_context(ThreadPoolExecutor(1, "frofa-write"))
        pinning: Future[Pinned] | None = None
        if preprocessing.geometry is None:
            source = batches_by_shape(tasks, decoders, preprocessing.whole, size, fail)
        else:
            n_rows = min(len(tasks), (IN_FLIGHT + 2) * size)
            pixels = torch.from_numpy(decoders.allocate(n_rows, preprocessing.geometry))
            source = batches(tasks, decoders, Rows(pixels), size, fail)
            if engine.backbone.device.type == "cuda":  # while the first images are decoded
                pinning = writer.submit(Pinned, pixels)
                stack.callback(lambda pinned: pinned.result().close(), pinning)
        pending: deque[Future[None]] = deque()
        faulty = Faulty(engine, tasks, fail)
        for batch in source:
            if pinning is not None:
                pinning.result()
            arrived, sound = faulty.launch(batch)
            pending.append(writer.submit(_hand_over, arrived, sound, take, faulty))
            if len(pending) > IN_FLIGHT:
                pending.popleft().result()
        while pending:
            pending.popleft().result()


def _hand_over(arrived: Arrived, batch: Batch, take: Take, faulty: Faulty) -> None:
    try:
        features = arrived()
    finally:
        batch.release()
    positions, features = faulty.leave_out(batch.positions, features)
    if positions:
        take(positions, features)
