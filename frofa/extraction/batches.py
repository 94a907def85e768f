"""From images to batches of pixels: decoded ahead, in order, in bounded memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from frofa.decoding.decoders import Decoders
from frofa.decoding.task import DecodeTask, failure, upright
from frofa.exceptions import ImageReadError
from frofa.extraction.rows import Rows

CHUNK = 8
"""Images that a thread or process decodes at a time: fewer messages, and a batch has several chunks."""


@dataclass(frozen=True)
class Batch:
    """Images that go through the backbone together.

    Attributes
    ----------
    positions : list of int
        In the input.
    pixels : Tensor
        uint8 (n, H, W, 3), or of a transform that is run whole, float32 (n, 3, H, W).
    release : callable
        To be called when `pixels` has been read, from any thread.
    """

    positions: list[int]
    pixels: Tensor
    release: Callable[[], None]


def batches(
    tasks: Sequence[DecodeTask], decoders: Decoders, rows: Rows, batch_size: int, fail: Callable[[ImageReadError], None]
) -> Iterator[Batch]:
    """Decode into rows, and yield batches in the order of the tasks.

    Batches are filled with images that could be decoded, so that a run that goes on after a crash forms the same
    batches as one that was not disturbed, and its features have the same bits.
    """
    n_begun, chunk = 0, max(1, min(CHUNK, min(batch_size, len(tasks) // 2) // decoders.n_jobs))
    waiting: deque[tuple[list[DecodeTask], Future[list[ImageReadError | None]]]] = deque()
    good: deque[DecodeTask] = deque()

    def take() -> Batch:
        taken = [good.popleft() for _ in range(min(batch_size, len(good)))]
        numbers = [task.row for task in taken]
        return Batch([task.position for task in taken], rows.batch(numbers), lambda: rows.give_back(numbers))

    while waiting or n_begun < len(tasks):
        while free := rows.take(min(chunk, len(tasks) - n_begun), wait=not waiting):
            next_tasks = tasks[n_begun : n_begun + len(free)]
            begun = [task._replace(row=row) for task, row in zip(next_tasks, free, strict=True)]
            waiting.append((begun, decoders.decode(begun)))
            n_begun += len(begun)
        done, future = waiting.popleft()
        for task, failed in zip(done, future.result(), strict=True):
            if failed is None:
                good.append(task)
            else:
                rows.give_back([task.row])
                fail(failed)
        while len(good) >= batch_size:
            yield take()
    if good:
        yield take()


def batches_by_shape(
    tasks: Iterable[DecodeTask],
    decoders: Decoders,
    transform: Callable[[Image.Image], Tensor],
    batch_size: int,
    fail: Callable[[ImageReadError], None],
) -> Iterator[Batch]:
    """Run a whole transform in threads, and yield batches of pixels of one shape.

    Where there are many shapes, the fullest batch goes before it is full, which bounds the memory.
    """

    def pixels(task: DecodeTask) -> Tensor | ImageReadError:
        try:
            return transform(upright(task))
        except Exception as error:  # decoders raise a dozen types
            return failure(task, error)

    upcoming = iter(tasks)
    waiting: deque[tuple[DecodeTask, Future[Any]]] = deque()
    groups: dict[torch.Size, list[tuple[int, Tensor]]] = {}
    while True:
        for task in islice(upcoming, 2 * batch_size - len(waiting)):
            waiting.append((task, decoders.submit(pixels, task)))
        if not waiting:
            break
        task, future = waiting.popleft()
        found = future.result()
        if isinstance(found, ImageReadError):
            fail(found)
            continue
        groups.setdefault(found.shape, []).append((task.position, found))
        if len(groups[found.shape]) == batch_size or sum(map(len, groups.values())) >= 4 * batch_size:
            yield _stacked(groups.pop(max(groups, key=lambda shape: len(groups[shape]))))
    for group in groups.values():
        yield _stacked(group)


def _stacked(group: Sequence[tuple[int, Tensor]]) -> Batch:
    return Batch([position for position, _ in group], torch.stack([pixels for _, pixels in group]), lambda: None)
