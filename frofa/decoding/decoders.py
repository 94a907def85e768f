"""Threads and processes that decode images."""

import os
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from math import prod
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from frofa.decoding.geometry import Geometry
from frofa.decoding.process import DecodingProcess
from frofa.decoding.shared_memory import SharedMemory
from frofa.decoding.task import ContentDigest, DecodeTask, decode_into, digests
from frofa.decoding.worker import DecodeRequest, SharedRows, WorkerSetup
from frofa.exceptions import ImageReadError
from frofa.images.items import ImageItem

Pixels = npt.NDArray[np.uint8]
Work: TypeAlias = Callable[[Sequence[DecodeTask]], list[Any]]
"""From tasks to one result for each."""
T = TypeVar("T")
R = TypeVar("R")


def run_ahead(begin: Callable[[T], "Future[R]"], tasks: Iterable[T], n_ahead: int) -> Iterator[tuple[T, R]]:
    """Begin up to `n_ahead` tasks before the oldest of them has ended; yield each with its result, in order."""
    upcoming = iter(tasks)
    waiting: deque[tuple[T, Future[R]]] = deque()
    while True:
        # Filled up before each wait, so that the workers have something to do meanwhile.
        waiting.extend((task, begin(task)) for task in islice(upcoming, n_ahead - len(waiting)))
        if not waiting:
            return
        task, future = waiting.popleft()
        yield task, future.result()


class Decoders:
    """Threads that read and decode images; with `processes`, each hands paths to a process and waits for it."""

    def __init__(self, n_jobs: int, *, processes: bool = False):
        self.n_jobs = n_jobs
        self._processes = Processes(n_jobs) if processes else None
        self._threads = ThreadPoolExecutor(n_jobs, "frofa-decode")
        self._started = False

    def start(self, n_images: int) -> None:
        """Start the processes that so many images need, where there are to be some and none is yet.

        They are ready a moment later: there is something else to do meanwhile.
        """
        if self._processes is not None and n_images and not self._started:
            self._started = True
            for _ in range(min(self.n_jobs, n_images)):
                self._threads.submit(self._processes.start)

    def allocate(self, n_rows: int, geometry: Geometry) -> Pixels:
        """Make rows of pixels (n_rows, H, W, 3) for `decode`."""
        if self._processes is not None:
            rows = self._processes.allocate(n_rows, geometry)
        else:
            rows = np.empty((n_rows, *geometry.shape), np.uint8)
        self._decode_here = partial(decode_into, rows.data.cast("B"), geometry)
        return rows

    def submit(self, function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        """Run something else in these threads."""
        return self._threads.submit(function, *arguments)

    def digests(self, tasks: Sequence[DecodeTask], *, here: bool) -> "Future[list[ContentDigest | ImageReadError]]":
        """Digest the contents of images; with `here`, in this process, which is quicker for few."""
        return self._submit(tasks, digests, decode=False, here=here)

    def decode(self, tasks: Sequence[DecodeTask]) -> "Future[list[ImageReadError | None]]":
        """Decode images to their rows; what could not be read has its error in the list."""
        return self._submit(tasks, self._decode_here, decode=True)

    def _submit(self, tasks: Sequence[DecodeTask], work: Work, *, decode: bool, here: bool = False) -> "Future[Any]":
        # A thread that only waits for its process leaves Python's lock to the others.
        if here or self._processes is None:
            return self._threads.submit(work, tasks)
        return self._threads.submit(_share_out, tasks, partial(self._processes.ask, decode=decode), work)

    def close(self) -> None:
        """Drop what is not begun, and end the processes."""
        # In this order: killed processes wake the threads that wait for them.
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._processes is not None:
            self._processes.close()
        self._threads.shutdown()


class Processes:
    """Processes that decode into shared rows, `n_jobs` at most, started before they are needed or when they are."""

    def __init__(self, n_jobs: int):
        self._notes, self._pixels = SharedMemory(), SharedMemory()
        self._positions = np.frombuffer(self._notes.allocate(8 * n_jobs), np.int64)
        self._rows: SharedRows | None = None
        self._lock = threading.Lock()
        self._idle: list[DecodingProcess] = []
        self._all: list[DecodingProcess] = []
        self._closed = False

    def allocate(self, n_rows: int, geometry: Geometry) -> Pixels:
        """Make rows of pixels (n_rows, H, W, 3) that `ask` decodes into."""
        self._rows = SharedRows(self._pixels.handle, n_rows, geometry)
        shape = n_rows, *geometry.shape
        return np.frombuffer(self._pixels.allocate(prod(shape)), np.uint8).reshape(shape)

    def ask(self, tasks: Sequence[DecodeTask], *, decode: bool) -> list[Any]:
        """Decode images into the rows, or digest them, as `frofa.decoding.task` does here.

        If a process dies of it, a DecodingProcessError names the image.
        """
        if not tasks:
            return []
        # A process answers one thread at a time; there are as many of both.
        with self._lock:
            process = self._idle.pop() if self._idle else self._begin()
        results, noted = process.ask(DecodeRequest(tasks, self._rows if decode else None))
        with self._lock:
            self._idle.append(process)
        for text, category, filename, lineno in noted:
            warnings.warn_explicit(text, category, filename, lineno)
        return results

    def start(self) -> None:
        """Start a process, and do not wait for it."""
        with self._lock:
            self._idle.append(self._begin())

    def _begin(self) -> DecodingProcess:
        if self._closed:
            raise RuntimeError("the decoding processes have been closed")
        setup = WorkerSetup(self._notes.handle, self._positions.nbytes, len(self._all))
        inherited = (*self._notes.inherited, *self._pixels.inherited)
        process = DecodingProcess(setup, self._positions, inherited)
        self._all.append(process)
        return process

    def close(self) -> None:
        """End all processes, whatever they are doing."""
        with self._lock:
            self._closed = True
            for process in self._all:
                process.kill()
            for process in self._all:
                process.end()
            self._pixels.close()
            self._notes.close()


def _share_out(tasks: Sequence[DecodeTask], there: Work, here: Work) -> list[Any]:
    """Send what can be sent, do the rest here, and bring the results in order."""
    # What travels goes to a process; images in memory are decoded in this thread afterwards.
    away = [task._replace(item=_plain(task.item)) for task in tasks if _travels(task.item)]
    rest = [task for task in tasks if not _travels(task.item)]
    found = dict(zip([task.position for task in (*away, *rest)], [*there(away), *here(rest)], strict=True))
    return [found[task.position] for task in tasks]


def _travels(item: ImageItem) -> bool:
    """Tell whether an image is worth sending to another process: a path is, pixels in memory are not."""
    return isinstance(item, (str, os.PathLike)) or getattr(item, "travels", False)


def _plain(item: ImageItem) -> ImageItem:
    """Turn a path into a string, which is quick to send."""
    return os.fspath(item) if isinstance(item, os.PathLike) else item
