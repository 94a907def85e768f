"""CUDA graphs: recorded one at a time, destroyed while none is recorded, and done without where they cannot be had."""

import gc
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import TypeAlias

import torch
from torch import Generator, Tensor

Grave: TypeAlias = "list[torch.cuda.CUDAGraph]"
"""A list that holds a graph alone, so that the graph is destroyed when the list is emptied."""
MOST_FAILURES = 3
"""Failures in a row after which a process records no more."""


class RecordingWarning(UserWarning):
    """Work on a GPU could not be recorded as a CUDA graph, and is done step by step: slower, with the same results."""


class Pool:
    """Memory of a GPU for recordings that are never replayed at once and leave nothing there.

    `handle` is its name in PyTorch. It has grown to `nbytes`, freed as a whole when the last recording is gone.
    """

    def __init__(self) -> None:
        self.handle = torch.cuda.graph_pool_handle()
        self.nbytes = 0


class Recording:
    """Work that was recorded.

    Its graph outlives it where another is being recorded when it goes: whoever holds it may drop it at any time.
    """

    def __init__(self, graph: Grave, bury: Callable[[Grave], None]):
        self._graph = graph
        weakref.finalize(self, bury, graph).atexit = False

    def replay(self) -> None:
        """Do the work again, on the current stream."""
        self._graph[0].replay()


class Captures:
    """The recordings of a process, one at a time.

    CUDA forbids much while a graph is recorded, such as to destroy another one, and what is forbidden costs the one
    that is being recorded. So one is recorded at a time, nothing is collected as garbage meanwhile, and graphs that
    nobody holds any longer wait. What other threads do otherwise is no harm.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._buried: Grave = []
        self._lost: Grave = []
        self._failures, self._told = 0, False

    def record(
        self, work: Callable[[], object], device: torch.device, pool: Pool, generators: Sequence[Generator] = ()
    ) -> Recording | None:
        """Record work on a GPU, without doing it; None where that fails, which the first time is a `RecordingWarning`.

        The work must not wait for the device; `generators` are all that it draws from. A torch.OutOfMemoryError says
        that memory is too small for a recording beside what is there.
        """
        if self._failures >= MOST_FAILURES:
            return None
        graph, states = [torch.cuda.CUDAGraph()], [generator.get_state() for generator in generators]
        for generator in generators:
            graph[0].register_generator_state(generator)
        try:
            with self._alone(), torch.cuda.device(device), side_stream(device):
                # What the pool grows by is what the allocator reserves while the work is recorded.
                before = torch.cuda.memory_reserved(device)
                _capture(graph[0], work, pool)
                pool.nbytes += max(0, torch.cuda.memory_reserved(device) - before)
        except RuntimeError as error:
            self._give_up(graph, device, pool)
            for generator, state in zip(generators, states, strict=True):
                _renew(generator, state)
            if isinstance(error, torch.OutOfMemoryError):
                raise
            self._note(error)
            return None
        self._failures = 0
        return Recording(graph, self._bury)

    def empty_cache(self) -> None:
        """Give memory back that PyTorch keeps, which it refuses while something is recorded."""
        with self._alone():
            torch.cuda.empty_cache()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            with self._lock, _no_collection():
                self._buried.clear()
                yield
        finally:
            self._destroy()

    def _bury(self, graph: Grave) -> None:
        self._buried.append(graph.pop())
        self._destroy()

    def _destroy(self) -> None:
        """Destroy what is buried, or leave it to who is recording; called in the midst of anything."""
        if self._buried and self._lock.acquire(blocking=False):
            try:
                self._buried.clear()
            finally:
                self._lock.release()

    def _give_up(self, graph: Grave, device: torch.device, pool: Pool) -> None:
        """Tell PyTorch's allocators that a recording is over, which it does itself only where one succeeds."""
        index = torch.cuda.current_device() if device.index is None else device.index
        try:
            torch._C._cuda_endAllocateToPool(index, pool.handle)
        except RuntimeError:  # it was over, and what comes after failed
            self._bury(graph)
        else:
            torch._C._cuda_releasePool(index, pool.handle)
            self._lost.append(graph.pop())  # the allocator for the host's memory goes on asking it

    def _note(self, error: RuntimeError) -> None:
        self._failures += 1
        if self._told:
            return
        self._told = True
        # After work that fails, the end of the recording fails too: the first error says why.
        first = error.__context__ if isinstance(error.__context__, RuntimeError) else error
        warnings.warn(
            f"work could not be recorded as a CUDA graph ({str(first).splitlines()[0]}), and goes on without: with the "
            "same results, but slower.",
            RecordingWarning,
            stacklevel=4,
        )


CAPTURES = Captures()


class Replays:
    """Functions on tensors that stay where they are: each is called as it is at first, then recorded, then replayed.

    Without a pool, as on a CPU, nothing is recorded.
    """

    def __init__(self, device: torch.device, pool: Pool | None):
        self._device, self._pool = device, pool
        self._recordings: dict[str, Recording | None] = {}

    def __call__(self, work: Callable[[], object]) -> None:
        """Do a work, known by its function's name; it must not wait for the device."""
        name = work.__name__
        if self._pool is not None and name in self._recordings:
            recording = self._recordings[name] = self._recordings[name] or self._record(work, self._pool)
            if recording is not None:
                recording.replay()
                return
        self._recordings.setdefault(name, None)
        work()

    def _record(self, work: Callable[[], object], pool: Pool) -> Recording | None:
        try:
            recording = CAPTURES.record(work, self._device, pool)
        except torch.OutOfMemoryError:
            recording = None
        if recording is None:
            self._pool = None
        return recording


@contextmanager
def _no_collection() -> Iterator[None]:
    """Collect no garbage: there may be graphs of others in it."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextmanager
def side_stream(device: torch.device) -> Iterator[None]:
    """Run on another stream than the current one, in order with it."""
    main, side = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    side.wait_stream(main)
    with torch.cuda.stream(side):
        yield
    main.wait_stream(side)


def _capture(graph: torch.cuda.CUDAGraph, work: Callable[[], object], pool: Pool) -> None:
    graph.capture_begin(pool.handle, capture_error_mode="thread_local")
    try:
        work()
    finally:
        graph.capture_end()


def _renew(generator: Generator, state: Tensor) -> None:
    """Put a generator back to where it was before a recording that failed, which leaves it unusable."""
    fresh = Generator(generator.device)
    fresh.set_state(state)
    generator.graphsafe_set_state(fresh.graphsafe_get_state())
