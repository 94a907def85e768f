"""From images to batches of pixels: decoded ahead, in order, in bounded memory."""

import threading
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from frofa.decoding.decoders import Decoders, run_ahead
from frofa.decoding.task import DecodeTask, attempt, upright
from frofa.exceptions import ImageReadError

CHUNK = 8
"""Images that a thread or process decodes at a time: fewer messages, and a batch has several chunks.
``benchmarks/extraction.py`` measures the rate."""


class PixelRows:
    """A fixed number of rows, uint8 (n, H, W, 3), taken and given back: the bound on how far decoding runs ahead."""

    def __init__(self, pixels: Tensor):
        self.pixels = pixels
        self._free = list(range(len(pixels)))  # in order
        self._next = 0
        self._changed = threading.Condition()

    def take(self, n: int, *, wait: bool) -> list[int]:
        """Take up to `n` rows that are free; with `wait`, at least one where `n` is not 0.

        The first ones after those that were taken last: rows that follow each other make a batch without a copy, and
        whole batches are given back in turn.
        """
        with self._changed:
            while wait and n and not self._free:
                self._changed.wait()
            # The first free row at or after the next one; past the end, the first of all.
            taken = []
            for _ in range(min(n, len(self._free))):
                place = bisect_left(self._free, self._next)
                taken.append(self._free.pop(place if place < len(self._free) else 0))
                self._next = taken[-1] + 1
            return taken

    def give_back(self, rows: Sequence[int]) -> None:
        """Free rows whose pixels are no longer needed."""
        with self._changed:
            for row in rows:
                insort(self._free, row)
            self._changed.notify()

    def batch(self, rows: Sequence[int]) -> Tensor:
        """Give the pixels (len(rows), H, W, 3) of these rows, without a copy where they follow each other."""
        # A view where rows follow each other; else a copy, pinned as the rows are, for a GPU to read by itself.
        first, n = rows[0], len(rows)
        if list(rows) == list(range(first, first + n)):
            return self.pixels[first : first + n]
        gathered = torch.empty((n, *self.pixels.shape[1:]), dtype=torch.uint8, pin_memory=self.pixels.is_pinned())
        return torch.index_select(self.pixels, 0, torch.tensor(rows), out=gathered)


@dataclass(frozen=True)
class PixelBatch:
    """Images that go through the backbone together, with their positions in the input.

    `pixels` are uint8 (n, H, W, 3), or float32 (n, 3, H, W) of a transform that is run whole. `release` is to be called
    when they have been read, from any thread.
    """

    positions: list[int]
    pixels: Tensor
    release: Callable[[], None]

    def take(self, rows: Sequence[int]) -> "PixelBatch":
        """Select some of the images; they are given back with the whole batch."""
        return PixelBatch([self.positions[row] for row in rows], self.pixels[list(rows)], self.release)


def batches(
    tasks: Sequence[DecodeTask],
    decoders: Decoders,
    rows: PixelRows,
    batch_size: int,
    fail: Callable[[ImageReadError], None],
) -> Iterator[PixelBatch]:
    """Decode into rows, and yield batches in the order of the tasks.

    Batches are filled with images that could be decoded, so that a run that goes on after a crash forms the same
    batches as one that was not disturbed, and its features have the same bits.
    """
    n_begun, chunk = 0, max(1, min(CHUNK, min(batch_size, len(tasks) // 2) // decoders.n_jobs))
    waiting: deque[tuple[list[DecodeTask], Future[list[ImageReadError | None]]]] = deque()
    good: deque[DecodeTask] = deque()

    def take() -> PixelBatch:
        taken = [good.popleft() for _ in range(min(batch_size, len(good)))]
        numbers = [task.row for task in taken]
        return PixelBatch([task.position for task in taken], rows.batch(numbers), lambda: rows.give_back(numbers))

    while waiting or n_begun < len(tasks):
        # Begin as many chunks as there are rows for; wait for a row only where nothing else is to be waited for.
        while free := rows.take(min(chunk, len(tasks) - n_begun), wait=not waiting):
            next_tasks = tasks[n_begun : n_begun + len(free)]
            begun = [task._replace(row=row) for task, row in zip(next_tasks, free, strict=True)]
            waiting.append((begun, decoders.decode(begun)))
            n_begun += len(begun)
        # Take the oldest chunk; the row of an image that could not be read is free again.
        done, future = waiting.popleft()
        for task, failed in zip(done, future.result(), strict=True):
            if failed is None:
                good.append(task)
            else:
                rows.give_back([task.row])
                fail(failed)
        # Only whole batches before the end, whichever chunks their images came from.
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
) -> Iterator[PixelBatch]:
    """Run a whole transform in threads, and yield batches of pixels of one shape.

    Where there are many shapes, the fullest batch goes before it is full, which bounds the memory.
    """

    def begin(task: DecodeTask) -> "Future[Tensor | ImageReadError]":
        return decoders.submit(attempt, lambda task: transform(upright(task)), task)

    # Positions and pixels that wait for a batch, by the shape of the pixels.
    groups: dict[torch.Size, list[tuple[int, Tensor]]] = {}
    for task, found in run_ahead(begin, tasks, 2 * batch_size):
        if isinstance(found, ImageReadError):
            fail(found)
            continue
        groups.setdefault(found.shape, []).append((task.position, found))
        # A full batch, or the fullest one where four batches wait in all.
        if len(groups[found.shape]) == batch_size or sum(map(len, groups.values())) >= 4 * batch_size:
            yield _stacked(groups.pop(max(groups, key=lambda shape: len(groups[shape]))))
    for group in groups.values():
        yield _stacked(group)


def _stacked(group: Sequence[tuple[int, Tensor]]) -> PixelBatch:
    return PixelBatch([position for position, _ in group], torch.stack([pixels for _, pixels in group]), lambda: None)
