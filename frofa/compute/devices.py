"""The device a head computes on, and the CPU threads and memory it takes there."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

SMALL = 2**18
"""Elements of a matrix up to which one thread is as good as several."""


def resolve_device(device: str) -> torch.device:
    """Turn ``"auto"`` into the GPU where there is one, else the CPU; a ValueError says that there is no such device."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device must be 'auto' or a device of this machine. Got {device!r}: {error}") from error
    return resolved


def as_tensor(array: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """Move an array to the device, in float32; copied where it is read-only (memory-mapped), of which torch warns."""
    writable = np.require(array, np.float32, "W")
    # Reversed arrays, which torch does not take, are copied, too.
    return torch.as_tensor(writable.copy() if min(writable.strides, default=0) < 0 else writable, device=device)


@contextmanager
def _cpu_threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads_for(n_elements: int) -> AbstractContextManager[None]:
    """Compute on one CPU thread where there is little to do.

    There, a second thread saves little, and where other processes use the cores, waiting for it costs a hundredfold.
    """
    return _cpu_threads(1 if n_elements <= SMALL else torch.get_num_threads())


@contextmanager
def one_thread_each(n_tasks: int) -> Iterator[int]:
    """Share the CPU threads out to workers, no more of them than tasks, and yield the number of workers.

    Tasks side by side use the cores better than products that are split, and do not wait for one another.
    """
    n_threads = torch.get_num_threads()
    n_workers = min(n_tasks, n_threads)
    with _cpu_threads(n_threads // n_workers):
        yield n_workers


def keep_freed_memory() -> None:
    """Make the C library keep what each step frees for the next, instead of handing it back to the system.

    glibc takes the largest block freed so far as the measure of what to keep; memory that comes anew at each step is
    filled with zeros by the system first, which costs more than all that is computed in it.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)
