"""Images at their own aspect ratio through a backbone: what differs from images of one size."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from frofa.backbones.navit.backbone import NativeBackbone
from frofa.backbones.outputs import Computed
from frofa.decoding.patches import grids_of
from frofa.extraction.engine import Arrived, Engine, largest_power_of_two
from frofa.extraction.sinks import ArraySink
from frofa.ragged import RaggedTokens

TOKENS_OF_A_PASS = 65536
"""Of ``batch_size="auto"``: more of them are not faster on a GPU."""


class NativeEngine(Engine):
    """An `Engine` of a `NativeBackbone`: tokens come out as `RaggedTokens`.

    A pass has as many tokens as its `batch_size` images have at most: if memory runs out, images are packed into
    sequences of half the length.
    """

    def launch(self, pixels: Tensor) -> Arrived:
        """As `Engine.launch`."""
        grids = grids_of(pixels.numpy())
        arrived = super().launch(pixels)

        def wait() -> list[Any]:
            return [
                ragged(values, grids) if request.output == "tokens" else values
                for request, values in zip(self.requests, arrived(), strict=True)
            ]

        return wait

    def _run(self, pixels: Tensor) -> list[Tensor]:
        backbone = self.backbone
        assert isinstance(backbone, NativeBackbone)
        there = self.transfers.to_device(pixels)
        capacity = self.batch_size * backbone.max_tokens
        grids = grids_of(pixels.numpy())
        return backbone.extract_packed(there, grids, capacity, self.requests, self.precision, self.compiled)


class NativeSink:
    """Keeps features in memory: ragged tokens, and arrays of the other requests.

    Parameters
    ----------
    n : int
        Positions.
    """

    def __init__(self, n: int):
        self._rest = ArraySink(n)
        self._parts: dict[int, list[tuple[list[int], RaggedTokens]]] = {}
        self._n_requests = 0

    def __call__(self, positions: list[int], features: list[Any]) -> int:
        """Take a batch; return its size."""
        self._n_requests = len(features)
        rest = []
        for index, values in enumerate(features):
            if isinstance(values, RaggedTokens):
                self._parts.setdefault(index, []).append((positions, values))
            else:
                rest.append(values)
        self._rest(positions, rest)
        return len(positions)

    def commit(self) -> int:
        """Nothing is left to do."""
        return 0

    @property
    def arrays(self) -> list[Any]:
        """Features of each request: arrays with a row for each position; ragged tokens of those that came."""
        rest = iter(self._rest.arrays)
        return [
            in_order(self._parts[index]) if index in self._parts else next(rest) for index in range(self._n_requests)
        ]


def ragged(values: Computed, grids: npt.NDArray[np.int64]) -> RaggedTokens:
    """Tokens (T, C) with their grids; bfloat16, which NumPy does not have, as float32."""
    return RaggedTokens(values.float().numpy() if isinstance(values, Tensor) else values, grids)


def in_order(parts: Sequence[tuple[list[int], RaggedTokens]]) -> RaggedTokens:
    """Batches as one, by position."""
    whole = RaggedTokens.concatenate([tokens for _, tokens in parts])
    order = np.argsort(np.concatenate([positions for positions, _ in parts]), kind="stable")
    return whole if (order == np.arange(len(order))).all() else whole[order]


def images_of_a_pass(batch_size: "int | str", max_tokens: int) -> int:
    """What ``"auto"`` is."""
    return largest_power_of_two(TOKENS_OF_A_PASS // max_tokens) if batch_size == "auto" else int(batch_size)
