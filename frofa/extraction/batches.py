"""From images to batches of pixels: decoded ahead, in order, in bounded memory."""

import threading
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import torch
from torch import Tensor

from frofa.decoding.decoders import Decoders, run_ahead
from frofa.decoding.task import DecodeTask, attempt, upright
from frofa.decoding.views import ImageView, Making
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

    def take(self, sizes: Sequence[int], *, wait: bool) -> list[tuple[int, ...]]:
        """Take so many rows for each of the first images, as far as there are free ones; with `wait`, for one at least.

        The first ones after those that were taken last: rows that follow each other make a batch without a copy, and
        whole batches are given back in turn.
        """
        with self._changed:
            while wait and sizes and len(self._free) < sizes[0]:
                self._changed.wait()
            taken: list[tuple[int, ...]] = []
            for size in sizes:
                if size > len(self._free):
                    break
                taken.append(tuple(self._take_one() for _ in range(size)))
            return taken

    def _take_one(self) -> int:
        # The first free row at or after the next one; past the end, the first of all.
        place = bisect_left(self._free, self._next)
        row = self._free.pop(place if place < len(self._free) else 0)
        self._next = row + 1
        return row

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
    """Views of images that go through the backbone together, each with its image's position in the input.

    `pixels` are uint8 (n, H, W, 3), or float32 (n, 3, H, W) of a transform that is run whole. `release` is to be called
    when they have been read, from any thread.
    """

    views: list[ImageView]
    pixels: Tensor
    release: Callable[[], None]

    def take(self, rows: Sequence[int]) -> "PixelBatch":
        """Select some of the views; they are given back with the whole batch."""
        return PixelBatch([self.views[row] for row in rows], self.pixels[list(rows)], self.release)


def batches(
    tasks: Sequence[DecodeTask],
    decoders: Decoders,
    rows: PixelRows,
    batch_size: int,
    fail: Callable[[ImageReadError], None],
) -> Iterator[PixelBatch]:
    """Decode into rows, and yield batches in the order of the tasks, all views of an image one after another.

    Rows must be more by those of one image's views than a batch that is almost full, and than batches that wait to be
    released. Batches are filled with images that could be decoded, so that a run that goes on after a crash forms the
    same batches as one that was not disturbed, and its features have the same bits.
    """
    n_begun, chunk = 0, _chunk_size(tasks, batch_size, decoders.n_jobs)
    waiting: deque[tuple[list[DecodeTask], Future[list[ImageReadError | None]]]] = deque()
    # Views that were decoded, each with its row.
    good: deque[tuple[ImageView, int]] = deque()

    def take() -> PixelBatch:
        taken = [good.popleft() for _ in range(min(batch_size, len(good)))]
        numbers = [row for _, row in taken]
        return PixelBatch([view for view, _ in taken], rows.batch(numbers), lambda: rows.give_back(numbers))

    while waiting or n_begun < len(tasks):
        # Begin as many chunks as there are rows for; wait for rows only where nothing else is to be waited for.
        while n_begun < len(tasks):
            next_tasks = tasks[n_begun : n_begun + chunk]
            free = rows.take([len(task.views) for task in next_tasks], wait=not waiting)
            if not free:
                break
            begun = [task._replace(rows=taken) for task, taken in zip(next_tasks, free, strict=False)]
            waiting.append((begun, decoders.decode(begun)))
            n_begun += len(begun)
        # Take the oldest chunk; the rows of an image that could not be read are free again.
        done, future = waiting.popleft()
        for task, failed in zip(done, future.result(), strict=True):
            if failed is None:
                views = (ImageView(task.position, view) for view in task.views)
                good.extend(zip(views, task.rows, strict=True))
            else:
                rows.give_back(task.rows)
                fail(failed)
        # Only whole batches before the end, whichever chunks their images came from.
        while len(good) >= batch_size:
            yield take()
    if good:
        yield take()


def _chunk_size(tasks: Sequence[DecodeTask], batch_size: int, n_jobs: int) -> int:
    """Choose how many images are decoded at a time: so few that all threads or processes have some of each batch."""
    n_rows = [len(task.views) for task in tasks]
    return max(1, min(CHUNK, min(batch_size, sum(n_rows) // 2) // (n_jobs * max(n_rows, default=1))))


def batches_by_shape(
    tasks: Sequence[DecodeTask],
    decoders: Decoders,
    making: Making,
    batch_size: int,
    fail: Callable[[ImageReadError], None],
) -> Iterator[PixelBatch]:
    """Run a whole transform in threads, for each view of an image, and yield batches of pixels of one shape.

    Where there are many shapes, the fullest batch goes before it is full, which bounds the memory.
    """

    def begin(task: DecodeTask) -> "Future[list[Tensor] | ImageReadError]":
        return decoders.submit(attempt, lambda task: making(*upright(task), task.views), task)

    # Views and pixels that wait for a batch, by the shape of the pixels.
    groups: dict[torch.Size, list[tuple[ImageView, Tensor]]] = {}
    # Images ahead that come to two batches of views, and at least one for each thread.
    n_ahead = 2 * batch_size
    n_ahead = max(min(decoders.n_jobs, n_ahead), n_ahead // max((len(task.views) for task in tasks), default=1))
    for task, found in run_ahead(begin, tasks, n_ahead):
        if isinstance(found, ImageReadError):
            fail(found)
            continue
        for view, pixels in zip(task.views, found, strict=True):
            groups.setdefault(pixels.shape, []).append((ImageView(task.position, view), pixels))
            # A full batch, or the fullest one where four batches wait in all.
            if len(groups[pixels.shape]) == batch_size or sum(map(len, groups.values())) >= 4 * batch_size:
                yield _stacked(groups.pop(max(groups, key=lambda shape: len(groups[shape]))))
    for group in groups.values():
        yield _stacked(group)


def _stacked(group: Sequence[tuple[ImageView, Tensor]]) -> PixelBatch:
    return PixelBatch([view for view, _ in group], torch.stack([pixels for _, pixels in group]), lambda: None)
