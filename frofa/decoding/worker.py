"""A process that decodes images: requests come in on standard input, replies leave on standard output.

It is a program of its own, not a child of `multiprocessing`: so it never imports the user's script, needs no
``if __name__ == "__main__"`` in it, and is safe beside CUDA and threads. It ends when its standard input does, so also
when the parent is killed. It imports no NumPy, which would take most of the time of its start.
"""

import os
import pickle
import sys
import warnings
from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any, BinaryIO, NamedTuple, TypeAlias

from frofa.decoding.geometry import Geometry
from frofa.decoding.shared_memory import Handle, map_shared
from frofa.decoding.task import DecodeTask, decode_into, digests

Noted: TypeAlias = "tuple[str, type[Warning], str, int]"
"""A warning's text, category, file and line."""


class WorkerSetup(NamedTuple):
    """A worker's first message: shared memory of one int64 for each worker, its size in bytes, the worker's number.

    There, the worker notes the position of the image that it is about to read.
    """

    handle: Handle
    size: int
    number: int


class SharedRows(NamedTuple):
    """Shared rows of pixels, uint8 (n_rows, H, W, 3), and what images go through before they get there."""

    handle: Handle
    n_rows: int
    geometry: Geometry


class DecodeRequest(NamedTuple):
    """Images to decode into rows; without rows, to digest."""

    tasks: Sequence[DecodeTask]
    rows: SharedRows | None


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer requests until there are no more."""
    setup: WorkerSetup = pickle.load(requests)  # noqa: S301 (from the parent process, as all that comes)
    # Shared int64 (n_workers,), of which this process writes its own.
    positions = memoryview(map_shared(setup.handle, setup.size)).cast("q")
    noted: list[Noted] = []
    _note_warnings(noted)
    while True:
        try:
            request: DecodeRequest = pickle.load(requests)  # noqa: S301
        except EOFError:
            return
        # One image at a time: if this process dies, its position tells which image it was.
        results: list[Any] = []
        for task in request.tasks:
            positions[setup.number] = task.position
            if request.rows is None:
                results += digests([task])
            else:
                results += decode_into(map_rows(request.rows), request.rows.geometry, [task])
        # Pixels are in shared memory by now: what goes through the pipe is small.
        pickle.dump((results, noted), replies)
        replies.flush()
        noted.clear()


@lru_cache(maxsize=1)
def map_rows(rows: SharedRows) -> memoryview:
    """Map the bytes of all rows, one row after another."""
    return memoryview(map_shared(rows.handle, rows.n_rows * prod(rows.geometry.shape)))


def _note_warnings(noted: list[Noted]) -> None:
    """Keep warnings for the parent, which gives them out as its own filters say."""

    def note(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
        noted.append((str(message), category, filename, lineno))

    warnings.simplefilter("default")
    warnings.showwarning = note  # type: ignore[assignment]


def main() -> None:
    """Run as a program."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints something prints it there
    try:
        serve(sys.stdin.buffer, replies)
    except (KeyboardInterrupt, BrokenPipeError):  # the parent says what there is to say
        os._exit(1)
