"""Features of a folder's images by an extractor and its store, for the thread that computes them."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from frofa.annotation.background import Positions
from frofa.blocks import FeatureBlocks
from frofa.exceptions import ImageReadError
from frofa.extraction.lookup import KnownFiles
from frofa.image_classifier.support import image_extractor
from frofa.images.items import ImageItem
from frofa.store import MANIFEST, FeatureStore

CHUNK = 2048
"""Files that are looked up in the store at a time."""


class ExtractorSource:
    """Computes features of images through a `FrozenFeatureExtractor` and its store.

    Warnings of images that cannot be read are for the caller to silence: filters belong to all threads.

    Parameters
    ----------
    images : sequence of paths or other images
        Positions are those in this list; only paths of files are looked up in the store before they are read.
    parameters : mapping
        Of `FrozenFeatureExtractor`, the model among them; images that cannot be read are skipped, whatever they say.
    """

    def __init__(self, images: Sequence[ImageItem], parameters: Mapping[str, Any]):
        self._images = images
        self._extractor = image_extractor({**parameters, "on_error": "skip", "verbose": False}, tokens=False).fit()

    def stored(self) -> Iterator[Positions]:
        """Give positions of files that the store knows, and has all features of, some at a time."""
        store = self._extractor.store
        store = FeatureStore(store) if isinstance(store, (str, os.PathLike)) else store
        if store is None or self._extractor.rehash or not (store.path / MANIFEST).exists():
            return
        found = self._extractor.feature_spec()
        specs = [spec for views in found.values() for spec in views] if isinstance(found, dict) else [found]
        for start in range(0, len(self._images), CHUNK):
            known = KnownFiles(store, self._images[start : start + CHUNK]).digests
            keys = list(known.values())
            lacking = {key for spec in specs for key in store.missing(spec, keys)} if keys else set()
            positions = [start + i for i, key in known.items() if key not in lacking]
            if positions:
                yield np.array(positions, np.int64)

    def extract(self, positions: Positions) -> tuple[Positions, Any, dict[int, str]]:
        """Extract features of files; those that cannot be read are given with the reason."""
        try:
            found = self._extractor.extract([self._images[i] for i in positions.tolist()])
        except ImageReadError:  # none of them could be read
            return positions[:0], None, {i: self._why(i) for i in positions.tolist()}
        failed = {int(positions[error.position]): error.reason for error in found.skipped}
        return positions[found.kept], _in_memory(found.features), failed

    def _why(self, position: int) -> str:
        try:
            self._extractor.extract([self._images[position]])
        except ImageReadError as error:
            return error.reason
        return "it could not be read at first"


def _in_memory(features: Any) -> Any:
    """Read lazy features, which are of a shard that a store may put together with others."""
    if isinstance(features, FeatureBlocks):
        return FeatureBlocks({name: [_read(view) for view in features.views(name)] for name in features.names})
    return _read(features)


def _read(view: Any) -> npt.NDArray[Any]:
    # Halves are stored in less space, and computed with in full.
    return np.asarray(view, np.float32)
