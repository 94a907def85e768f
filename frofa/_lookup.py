"""Which files a store knows the content of already, without reading them."""

import os
import time
from collections.abc import Mapping, Sequence

from frofa.images import ImageItem
from frofa.store import MANIFEST, FeatureStore


class KnownFiles:
    """The files among the images of a run, and the digests that a store remembers of them.

    Parameters
    ----------
    store : FeatureStore
    items : sequence
        Images; those that are no paths are left alone.
    """

    def __init__(self, store: FeatureStore, items: Sequence[ImageItem]):
        self._store, self._read_at = store, time.time()
        self._stats: dict[int, os.stat_result] = {}
        self._paths: dict[int, str] = {}
        for position, item in enumerate(items):
            if not isinstance(item, (str, os.PathLike)):
                continue
            try:
                self._stats[position] = os.stat(item)  # noqa: PTH116 (one call, of a path of any kind)
            except OSError:  # reading it will say what is wrong
                continue
            self._paths[position] = os.fspath(item)
        found = store.file_digests().find(list(self._paths.values()), list(self._stats.values()))
        self.digests = {position: key for position, key in zip(self._paths, found, strict=True) if key is not None}

    def remember(self, digests: Mapping[int, str]) -> None:
        """Keep the digests of files that were read, by position, unless there is no store yet."""
        read = [position for position in self._paths if position in digests and position not in self.digests]
        if read and (self._store.path / MANIFEST).exists():
            self._store.file_digests().remember(
                [self._paths[position] for position in read],
                [self._stats[position] for position in read],
                [digests[position] for position in read],
                self._read_at,
            )
