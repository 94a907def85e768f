"""Features that are computed in the background while images are looked at, those that are wanted first."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from frofa.blocks import FeatureBlocks
from frofa.utils.text import one_line

Positions = npt.NDArray[np.int64]
FIRST, MOST = 32, 4096
"""Images of the first chunk, and most of any."""
SECONDS = 5.0
"""Time that a chunk is to take: images that are wanted wait for so long at most."""
NICENESS = 5
"""Priority of the thread, where the system has one for each: the page and the training come first."""


class FeatureSource(Protocol):
    """A way to compute features of images, by their positions."""

    def stored(self) -> Iterator[Positions]:
        """Give positions of images whose features need not be computed, some at a time."""

    def extract(self, positions: Positions) -> tuple[Positions, Any, dict[int, str]]:
        """Give the positions that could be read, their features in memory, and why others could not be read."""


class BackgroundFeatures:
    """Features of images, computed in a thread: those that a store has at first, then those that are wanted.

    It is what a labelling session takes as its features. All others follow in a random order, so that what is there at
    any time stands for all of them.

    Parameters
    ----------
    n_images : int
    source : callable
        Makes what computes features; called in the thread, since it imports PyTorch.
    random_state : int, default=0
        Seed of the order.
    report : callable, default=None
        Gets a sentence about what ended the thread, if something did.

    Attributes
    ----------
    failed : dict of int to str
        By position, why images could not be read.
    error : str or None
        What ended the thread, if something did.
    """

    def __init__(
        self,
        n_images: int,
        source: Callable[[], FeatureSource],
        *,
        random_state: int = 0,
        report: Callable[[str], object] | None = None,
    ):
        self.total = n_images
        self.failed: dict[int, str] = {}
        self.error: str | None = None
        self._source, self._report = source, report
        self._order = np.random.default_rng(random_state).permutation(n_images)
        self._is_done = np.zeros(n_images, bool)
        self._next = 0
        self._wanted: dict[int, None] = {}
        self._rows = _Rows(n_images)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="frofa-features", daemon=True)

    @property
    def done(self) -> int:
        """Count the images that have features, or cannot be read."""
        with self._lock:
            return len(self._rows) + len(self.failed)

    @property
    def running(self) -> bool:
        """Tell whether more features are to come."""
        return self.error is None and self.done < self.total

    def start(self) -> None:
        """Start the thread, if it has not been started."""
        if self._thread.ident is None:
            self._thread.start()

    def close(self, timeout: float = 15.0) -> None:
        """Let the thread end after the images that it is busy with, and wait for that for so many seconds."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def ready(self) -> tuple[Positions, Any]:
        """Give the positions (m,) of images that have features, in the order in which they came, and the features.

        These are None as long as there are none; later ones begin with the same rows.
        """
        with self._lock:
            return self._rows.get()

    def want(self, positions: Iterable[int]) -> None:
        """Ask for features of these images before all others."""
        with self._lock:
            self._wanted |= dict.fromkeys(i for i in positions if 0 <= i < self.total and not self._is_done[i])

    def _run(self) -> None:
        # Threads that this one starts are as modest.
        with suppress(AttributeError, OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        try:
            source = self._source()
            for chunk in source.stored():
                if self._stop.is_set():
                    return
                self._take(source, chunk)
            size = FIRST
            while not self._stop.is_set() and len(chunk := self._choose(size)):
                began = time.monotonic()
                self._take(source, chunk)
                rate = len(chunk) / max(time.monotonic() - began, 1e-3)
                size = int(np.clip(rate * SECONDS, FIRST, min(MOST, 2 * size)))
        except Exception as error:
            # Labels can be given without features, in a random order.
            self.error = f"no features any more: {one_line(error)}"
            if self._report is not None:
                self._report(self.error)

    def _take(self, source: FeatureSource, positions: Positions) -> None:
        kept, features, failed = source.extract(positions)
        with self._lock:
            self._is_done[positions] = True
            self.failed |= failed
            self._rows.append(kept, features)

    def _choose(self, size: int) -> Positions:
        """Choose the next positions: those wanted, then others in the random order."""
        with self._lock:
            wanted = [i for i in self._wanted if not self._is_done[i]][:size]
            self._wanted = {i: None for i in self._wanted if not self._is_done[i] and i not in wanted[:size]}
        chosen = dict.fromkeys(wanted)
        while len(chosen) < size and self._next < self.total:
            position = int(self._order[self._next])
            self._next += 1
            if not self._is_done[position]:
                chosen[position] = None
        return np.array(list(chosen), np.int64)


class _Rows:
    """Positions and features that grow at their end, in arrays that have room for all of them from the start."""

    def __init__(self, most: int):
        # Memory is taken when it is written to.
        self._positions = np.empty(most, np.int64)
        self._most, self._n = most, 0
        self._views: dict[str, list[npt.NDArray[Any]]] = {}

    def __len__(self) -> int:
        return self._n

    def append(self, positions: Positions, features: Any) -> None:
        if not len(positions):
            return
        blocks = features if isinstance(features, FeatureBlocks) else FeatureBlocks({"features": [features]})
        end = self._n + len(positions)
        for name in blocks.names:
            views = [np.asarray(view) for view in blocks.views(name)]
            if name not in self._views:
                self._views[name] = [np.empty((self._most, *view.shape[1:]), view.dtype) for view in views]
            for place, view in zip(self._views[name], views, strict=True):
                place[self._n : end] = view
        self._positions[self._n : end] = positions
        self._n = end

    def get(self) -> tuple[Positions, Any]:
        if not self._n:
            return self._positions[:0], None
        views = {name: [view[: self._n] for view in views] for name, views in self._views.items()}
        return self._positions[: self._n], FeatureBlocks(views)
