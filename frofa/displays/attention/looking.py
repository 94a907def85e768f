"""Classifiers taken apart: which of their heads looks at tokens, and where on the images the tokens lie."""

from collections.abc import Sequence
from math import isqrt
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.pipeline import Pipeline

from frofa.blocks import FeatureBlocks
from frofa.displays.attention.pictures import SeenPictures, as_given, grid_of, seen_by
from frofa.estimators import FewShotClassifier, SoftMoEClassifier
from frofa.estimators.blending.members import PROBE
from frofa.estimators.tokens.image_views import token_views
from frofa.extraction.extractor import FrozenFeatureExtractor
from frofa.image_classifier import ImageClassifier
from frofa.images.items import ImageItem
from frofa.ragged import RaggedTokens

Grid = tuple[int, int]
Maps = npt.NDArray[np.float32]
INSIDE = ("best_estimator_", "classifier_", "head_")
"""Attributes in which classifiers around others keep them: of searches, of those that abstain, of those of sets."""


class Looking(NamedTuple):
    """A token head: an estimator with `attention`, what a blend calls it, or its class, and what one of its maps is."""

    estimator: Any
    name: str
    maps: str


def inside(classifier: Any) -> Any:
    """Take the classifier of images, pipeline, blend or token head out of others around it."""
    while not (
        isinstance(classifier, (ImageClassifier, Pipeline, FewShotClassifier)) or hasattr(classifier, "attention")
    ):
        name = next((name for name in INSIDE if hasattr(classifier, name)), None)
        if name is None:
            return classifier
        classifier = getattr(classifier, name)
    return classifier


def find_head(head: Any, member: str | None = None) -> Looking:
    """Find the token head of a fitted head: of a blend, the member of that name, or the one that counts most.

    Raises
    ------
    ValueError
        If there is none that counts, or none of that name.
    TypeError
        If the head is of a kind that looks at no tokens.
    """
    head = inside(head)
    estimator, name = _member(head, member) if isinstance(head, FewShotClassifier) else (head, type(head).__name__)
    if not hasattr(estimator, "attention"):
        raise TypeError(
            "expected a classifier with a head that looks at tokens, such as MAPClassifier, SoftMoEClassifier or "
            f"ImageClassifier(effort='high'). Got {type(estimator).__name__}."
        )
    return Looking(estimator, name, "slot" if isinstance(estimator, SoftMoEClassifier) else "attention head")


def _member(blend: FewShotClassifier, name: str | None) -> tuple[Any, str]:
    """Choose a member of a blend that looks at tokens: by its name, or the one of the largest weight."""
    counting = {
        key: one for key, one in blend.members_.items() if one.weight > 0 and hasattr(one.estimator, "attention")
    }
    if not counting:
        reasons = {one.reason for key, one in blend.members_.items() if key != PROBE and one.reason}
        why = reasons.pop() if len(reasons) == 1 else "none adds enough to the probe on images that were left out"
        raise ValueError(f"no token head counts in this blend, and there is no attention to show: {why}.")
    if name is None:
        name = max(counting, key=lambda key: counting[key].weight)
    if name not in counting:
        raise ValueError(f"expected one of the token heads that count, {', '.join(counting)}. Got {name!r}.")
    return counting[name].estimator, name


def look_at(
    estimator: Any,
    extractor: FrozenFeatureExtractor | None,
    features: Any,
    items: Sequence[ImageItem],
    grid: Grid | None = None,
) -> tuple[SeenPictures, list[Maps]]:
    """Look at features of n images: the pictures as the extractor shows them, and weights (n_maps, rows, columns)."""
    if len(features) != len(items):
        raise ValueError(f"expected a picture for each row of X. Got {len(items)} for {len(features)} rows.")
    if grid is None and extractor is not None:
        grid = grid_of(extractor)
    tokens = _tokens_in(features, type(estimator).__name__)
    weights = on_grids(estimator.attention(tokens), estimator, tokens, grid)
    return as_given(items) if extractor is None else seen_by(extractor, items), weights


def _tokens_in(features: Any, name: str) -> Any:
    """Give the tokens of images as they are, of features that may have other blocks and views, too."""
    if not isinstance(features, FeatureBlocks) or not features.tokens:
        return features
    return token_views(features, name)[0]


def on_grids(weights: Any, head: Any, tokens: Any, grid: Grid | None) -> list[Maps]:
    """Lay weights (n, n_maps, N), or a list of (n_maps, N_i), on the grids of the tokens that are patches."""
    n_prefix, own = getattr(head, "n_prefix", 0), getattr(head, "grid", None)
    ragged = tokens if isinstance(tokens, RaggedTokens) else None
    grids = [grid or own] * len(weights) if ragged is None else [(int(h), int(w)) for h, w in ragged.grids]
    return [laid_out(one, n_prefix, given) for one, given in zip(weights, grids, strict=True)]


def laid_out(weights: Any, n_prefix: int = 0, grid: Grid | None = None) -> Maps:
    """Lay the weights (n_maps, P + N) of an image on its grid, (n_maps, rows, columns), without the P class tokens.

    Without a grid, it is a square. A ValueError says that the weights are not those of such a grid.
    """
    maps = np.asarray(weights, np.float32)
    patches = maps[:, n_prefix:]
    side = isqrt(patches.shape[1])
    rows, columns = (side, side) if grid is None else grid
    if rows * columns != patches.shape[1] or not patches.shape[1]:
        got = "which is no square: say grid=(rows, columns)" if grid is None else f"and a grid of {rows} x {columns}"
        raise ValueError(f"expected weights of a grid of patches. Got {patches.shape[1]} tokens, {got}.")
    return patches.reshape(len(maps), rows, columns)
