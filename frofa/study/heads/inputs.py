"""Inputs of heads: features of one kind and number of views, of all images of a study."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from frofa.blocks import FeatureBlocks
from frofa.study.data import StudyData

VIEWS = 6
"""Views of each image, as by default in `frofa.ImageClassifier`."""


class Inputs(NamedTuple):
    """A kind of features and the number of their views.

    ``"pooled"`` is the model's own pooling; ``"auto"`` the blocks that ``output="auto"`` takes; ``"tokens"`` the patch
    tokens; ``"auto+tokens"`` both.
    """

    features: str
    views: int

    @property
    def in_words(self) -> str:
        """Such as ``"auto, 6 views"``."""
        return f"{self.features}, {self.views} view{'s' if self.views > 1 else ''}"


POOLED = Inputs("pooled", 1)
AUTO = Inputs("auto", 1)
AUTO_VIEWS = Inputs("auto", VIEWS)
TOKENS = Inputs("tokens", 1)
EVERYTHING = Inputs("auto+tokens", VIEWS)


def blocks_of(data: StudyData, inputs: Inputs) -> FeatureBlocks:
    """Choose the blocks of all images that a head is given."""
    automatic = list(data.automatic)
    names = {"auto": automatic, "auto+tokens": [*automatic, "tokens"]}.get(inputs.features, [inputs.features])
    assert data.blocks is not None, "features of a comparison of heads"
    return data.blocks.select(names, n_views=inputs.views)


def unit_blocks(blocks: FeatureBlocks) -> npt.NDArray[np.float64]:
    """Mean of the views, each of length one, and each block of length one, side by side: (n, C), of length one."""
    means = [_of_length_one(_of_length_one(blocks.block(name)).mean(1)) for name in blocks.names]
    joined: npt.NDArray[np.float64] = np.concatenate(means, axis=1) / np.sqrt(len(means))
    return joined


def _of_length_one(vectors: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    whole = vectors.astype(np.float64)
    divided: npt.NDArray[np.float64] = whole / np.maximum(np.linalg.norm(whole, axis=-1, keepdims=True), 1e-12)
    return divided
