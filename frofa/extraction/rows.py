"""Rows of pixels that images are decoded into and batches are taken from."""

import contextlib
import threading
from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

PORTABLE = 1
"""CUDA's flag for memory that is pinned for all devices."""


class Rows:
    """A fixed number of rows, taken and given back: the bound on how far decoding runs ahead.

    Parameters
    ----------
    pixels : Tensor of uint8, shape (n, H, W, 3)
    """

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
            taken = []
            for _ in range(min(n, len(self._free))):
                place = bisect_left(self._free, self._next)
                taken.append(self._free.pop(place if place < len(self._free) else 0))
                self._next = taken[-1] + 1
            return taken

    def give_back(self, rows: Sequence[int]) -> None:
        """Rows whose pixels are no longer needed."""
        with self._changed:
            for row in rows:
                insort(self._free, row)
            self._changed.notify()

    def batch(self, rows: Sequence[int]) -> Tensor:
        """The pixels of these rows, without a copy where they follow each other."""
        first, n = rows[0], len(rows)
        if list(rows) == list(range(first, first + n)):
            return self.pixels[first : first + n]
        gathered = torch.empty((n, *self.pixels.shape[1:]), dtype=torch.uint8, pin_memory=self.pixels.is_pinned())
        return torch.index_select(self.pixels, 0, torch.tensor(rows), out=gathered)


class Pinned:
    """While this is open, a GPU copies from these pixels by itself, without the host waiting.

    Memory that cannot be pinned serves too; copies from it make the host wait.
    """

    def __init__(self, pixels: Tensor):
        runtime: Any = torch.cuda.cudart()
        self._address = pixels.data_ptr()
        self._done = int(runtime.cudaHostRegister(self._address, pixels.nbytes, PORTABLE)) == 0
        if not self._done:
            with contextlib.suppress(RuntimeError):  # the next kernel reports the error, once: not the user's first one
                torch.zeros(1, device="cuda")

    def close(self) -> None:
        """Unpin."""
        if self._done:
            torch.cuda.synchronize()
            runtime: Any = torch.cuda.cudart()
            runtime.cudaHostUnregister(self._address)
            self._done = False
