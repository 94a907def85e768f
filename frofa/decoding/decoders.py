"""Threads and processes that decode images."""

import os
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from frofa.decoding.geometry import Geometry
from frofa.decoding.process import DecodingProcess
from frofa.decoding.shared_memory import SharedMemory
from frofa.decoding.task import Digest, Task, decode_into, digests
from frofa.decoding.worker import Frame, Request, Setup
from frofa.exceptions import ImageReadError
from frofa.images.items import ImageItem

Pixels = npt.NDArray[np.uint8]


class Decoders:
    """Threads that read and decode images; with `processes`, each hands paths to a process and waits for it.

    Parameters
    ----------
    n_jobs : int
        Threads, and processes.
    processes : bool
    """

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
        """Rows of pixels (n_rows, H, W, 3) for `decode`."""
        self._geometry = geometry
        if self._processes is not None:
            rows = self._processes.allocate(n_rows, geometry)
        else:
            rows = np.empty((n_rows, *geometry.shape), np.uint8)
        self._rows = rows.data.cast("B")
        return rows

    def submit(self, function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        """Run something else in these threads."""
        return self._threads.submit(function, *arguments)

    def digests(self, tasks: Sequence[Task], *, here: bool) -> "Future[list[Digest | ImageReadError]]":
        """Digests of images' contents; with `here`, of this process, which is quicker for few."""
        if here or self._processes is None:
            return self._threads.submit(digests, tasks)
        return self._threads.submit(self._share, tasks, self._processes.digests, digests)

    def decode(self, tasks: Sequence[Task]) -> "Future[list[ImageReadError | None]]":
        """Decode images to their rows; the others of the list are what could not be read."""
        if self._processes is None:
            return self._threads.submit(decode_into, self._rows, self._geometry, tasks)
        return self._threads.submit(
            self._share, tasks, self._processes.decode, lambda rest: decode_into(self._rows, self._geometry, rest)
        )

    def close(self) -> None:
        """Drop what is not begun, and end the processes."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._processes is not None:
            self._processes.close()
        self._threads.shutdown()

    @staticmethod
    def _share(
        tasks: Sequence[Task], there: Callable[[Sequence[Task]], list[Any]], here: Callable[[Sequence[Task]], list[Any]]
    ) -> list[Any]:
        """Send what can be sent, do the rest here, and bring the results in order."""
        away = [task._replace(item=_plain(task.item)) for task in tasks if _travels(task.item)]
        rest = [task for task in tasks if not _travels(task.item)]
        found = dict(zip([task.position for task in (*away, *rest)], [*there(away), *here(rest)], strict=True))
        return [found[task.position] for task in tasks]


class Processes:
    """Processes that decode into shared rows, started before they are needed or when they are.

    Parameters
    ----------
    n_jobs : int
        Processes at most, and threads that ask them.
    """

    def __init__(self, n_jobs: int):
        self._notes, self._pixels = SharedMemory(), SharedMemory()
        self._positions = np.frombuffer(self._notes.allocate(8 * n_jobs), np.int64)
        self._frame: Frame | None = None
        self._lock = threading.Lock()
        self._idle: list[DecodingProcess] = []
        self._all: list[DecodingProcess] = []
        self._closed = False

    def allocate(self, n_rows: int, geometry: Geometry) -> Pixels:
        """Rows of pixels (n_rows, H, W, 3) for `decode`."""
        self._frame = Frame(self._pixels.handle, n_rows, geometry)
        shape = n_rows, *geometry.shape
        return np.frombuffer(self._pixels.allocate(prod(shape)), np.uint8).reshape(shape)

    def digests(self, tasks: Sequence[Task]) -> list[Digest | ImageReadError]:
        """As `frofa.decoding.task.digests`."""
        return self._ask(Request(tasks, None))

    def decode(self, tasks: Sequence[Task]) -> list[ImageReadError | None]:
        """As `frofa.decoding.task.decode_into`.

        Raises
        ------
        DecodingProcessError
            If a process dies of it; the message names the image.
        """
        return self._ask(Request(tasks, self._frame))

    def _ask(self, request: Request) -> list[Any]:
        if not request.tasks:
            return []
        with self._lock:
            process = self._idle.pop() if self._idle else self._begin()
        results, noted = process.ask(request)
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
        setup = Setup(self._notes.handle, self._positions.nbytes, len(self._all))
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


def _travels(item: ImageItem) -> bool:
    """Whether an image is worth sending to another process: a path is, pixels in memory are not."""
    return isinstance(item, (str, os.PathLike)) or getattr(item, "travels", False)


def _plain(item: ImageItem) -> ImageItem:
    """A path as a string, which is quick to send."""
    return os.fspath(item) if isinstance(item, os.PathLike) else item
