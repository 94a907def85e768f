"""Signals and encoders of them, for tests of custom encoders."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
SIGNALS = np.random.default_rng(0).normal(size=(13, 2, 20)).astype(np.float32)
SIGNALS.flags.writeable = False
LABELS = np.array(["low", "high"] * 6 + ["low"])


def moments(batch: Array) -> Array:
    """Mean, standard deviation and maximum of each channel, (n, 6)."""
    return np.concatenate([batch.mean(-1), batch.std(-1), batch.max(-1)], 1)


class Counting:
    """An encoder that is no more than the protocol; notes its batches."""

    def __init__(self, spec: Any = "moments v1", features: Callable[[Array], Any] = moments):
        self.spec, self.features = spec, features
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, batch: Any) -> Any:
        self.shapes.append(batch.shape)
        return self.features(batch)

    @property
    def n_items(self) -> int:
        return sum(shape[0] for shape in self.shapes)
