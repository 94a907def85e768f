"""Attention of classifiers over images: of one that is fitted, and of those of a cross-validation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from sklearn.utils import _safe_indexing

from frofa.displays.attention.captions import captions_of
from frofa.displays.attention.looking import Grid, Looking, Maps, find_head, inside, look_at
from frofa.displays.inputs import Predictions, from_classifier
from frofa.displays.parts import parts_of
from frofa.images.image_set import ImageSet, as_image_list
from frofa.images.items import Images


def look(
    estimator: Any, X: Any, y: Any, images: Images, grid: Grid | None, member: str | None = None
) -> tuple[Looking, Predictions, Sequence[Image.Image], list[Maps]]:
    """Look at images through a classifier: its token head, what it predicts, pictures and weights."""
    estimator = inside(estimator)
    # First the head, since features take their time.
    looking = find_head(parts_of(estimator, probabilities=False).head, member)
    found = from_classifier(estimator, X, y, images=images, need_labels=False)
    if found.parts is None or found.pictures is None:
        raise ValueError("attention is drawn over pictures, and X has none: images= has to give one for each row of X.")
    pictures, weights = look_at(looking.estimator, found.parts.extractor, found.features, found.pictures, grid)
    return looking, found, pictures, weights


def look_by_folds(
    cv_results: Any, X: Any, y: Any, images: Images, grid: Grid | None
) -> tuple[list[Image.Image], list[Maps], list[str], Looking]:
    """Look at the test images of each fold through its classifier: pictures, weights, captions, in the order of X."""
    if missing := {"estimator", "indices"} - set(cv_results):
        raise ValueError(
            "expected results of cross_validate(..., return_estimator=True, return_indices=True). Got no "
            f"{' and no '.join(sorted(missing))}."
        )
    seen: dict[int, tuple[Image.Image, Maps, str]] = {}
    y = X.labels if y is None and isinstance(X, ImageSet) else y
    items = X.items if isinstance(X, ImageSet) else X
    shown = None if images is None else as_image_list(images)
    for estimator, rows in zip(cv_results["estimator"], cv_results["indices"]["test"], strict=True):
        own = None if shown is None else [shown[i] for i in rows]
        labels = None if y is None else _safe_indexing(y, rows)
        looking, found, pictures, weights = look(estimator, _safe_indexing(items, rows), labels, own, grid)
        positions = np.asarray(rows)[found.positions].tolist()
        each = zip(positions, pictures, weights, captions_of(found), strict=True)
        seen |= {position: (picture, one, caption) for position, picture, one, caption in each}
    order = sorted(seen)
    first, second, third = zip(*(seen[position] for position in order), strict=True)
    return list(first), list(second), list(third), looking
