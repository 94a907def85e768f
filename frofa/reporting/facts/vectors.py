"""Vectors of images, a few hundred numbers each: what labels, copies and the map are computed from."""

from typing import Any

import numpy as np
import numpy.typing as npt

from frofa.blocks import FeatureBlocks
from frofa.estimators.core.confident.novelty import rows_of
from frofa.estimators.tokens.lazy import average_tokens

Array = npt.NDArray[Any]


def vectors_of(features: Any) -> FeatureBlocks | None:
    """Reduce features to blocks of vectors with all of their views; tokens are averaged where there are no vectors.

    None says that they are no dense numbers.
    """
    if isinstance(features, FeatureBlocks):
        names = features.vectors or features.names
        return FeatureBlocks({name: [_vector(view) for view in features.views(name)] for name in names})
    if not hasattr(features, "dtype"):  # a data frame
        try:
            features = np.asarray(features, np.float64)
        except (TypeError, ValueError):
            return None
    if getattr(features, "ndim", 0) not in (2, 3) or features.dtype.kind not in "fiub":
        return None
    if not hasattr(features, "__array__") and features.ndim == 2:  # a sparse matrix
        return None
    vectors = _vector(features)
    return FeatureBlocks({"features": [vectors]}) if np.isfinite(vectors).all() else None


def _vector(view: Any) -> Array:
    return average_tokens(view) if view.ndim == 3 else np.asarray(view)


def comparable(first: FeatureBlocks, second: FeatureBlocks) -> tuple[FeatureBlocks, FeatureBlocks] | None:
    """Choose the blocks and the first views that both have; None where widths differ, or nothing is in both."""
    names = [name for name in first.names if name in second.names]
    if not names or any(first.widths[name] != second.widths[name] for name in names):
        return None
    n_views = min(first.n_views, second.n_views)
    return first.select(names, n_views=n_views), second.select(names, n_views=n_views)


def spaces_of(vectors: FeatureBlocks) -> list[Array]:
    """Return rows (n, D) of length one, averaged over all views, and of many views over the first two alone, too.

    Images of which one is cropped have all views alike, and those of which one is mirrored the first two.
    """
    firsts = [vectors.select(n_views=2)] if vectors.n_views > 2 else []
    return [rows_of(views) for views in (vectors, *firsts)]


def rows_in(features: Any) -> npt.NDArray[np.float64] | None:
    """Return rows (n, D) of length one, averaged over views; None where features are no dense numbers."""
    vectors = vectors_of(features)
    return None if vectors is None else rows_of(vectors)
