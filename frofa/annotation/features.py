"""Features of the images of a labelling session, which may come while people label."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.intp]


class Features(Protocol):
    """Features that become ready image by image; all may be called by several threads.

    Of features in blocks, more than one a sample, ``X[rows]`` and ``len(X)`` do as for arrays.
    """

    @property
    def total(self) -> int:
        """Number of images of the session."""
        ...

    @property
    def done(self) -> int:
        """Number of images that are ready or failed."""
        ...

    @property
    def failed(self) -> Mapping[int, str]:
        """Positions of images that cannot be read, and why."""
        ...

    @property
    def running(self) -> bool:
        """Tell whether more are to come."""
        ...

    @property
    def error(self) -> str | None:
        """Say in a sentence why there will be no more, if something went wrong."""
        ...

    def ready(self) -> tuple[Positions, Any]:
        """Positions (m,) of images in the order in which they became ready, and their features (m, ...).

        They grow at their end alone; with none there may be no features, but None.
        """
        ...

    def want(self, positions: Iterable[int]) -> None:
        """Ask for images before others."""
        ...


class ArrayFeatures:
    """Features that are all there.

    Parameters
    ----------
    X : array-like of shape (n, ...) or FeatureBlocks
        Features of the images of a session, in its order.
    """

    def __init__(self, X: Any):
        self.X = X
        self.total = self.done = len(X)
        self.failed: Mapping[int, str] = {}
        self.running = False
        self.error: str | None = None
        self._positions = np.arange(self.total)

    def ready(self) -> tuple[Positions, Any]:
        """Give all positions and features."""
        return self._positions, self.X

    def want(self, positions: Iterable[int]) -> None:
        """Do nothing, as all are there."""


class NoFeatures:
    """Features that never come: images are shown in a random order.

    Parameters
    ----------
    total : int
        Number of images.
    """

    def __init__(self, total: int):
        self.total, self.done = total, total
        self.failed: Mapping[int, str] = {}
        self.running = False
        self.error: str | None = None

    def ready(self) -> tuple[Positions, Any]:
        """Give none."""
        return np.empty(0, np.intp), None

    def want(self, positions: Iterable[int]) -> None:
        """Do nothing."""
