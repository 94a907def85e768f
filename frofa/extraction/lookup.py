"""Which files a store knows the content of already, without reading all of them."""

import os
import time
from collections.abc import Mapping, Sequence

from frofa.images.items import ImageItem
from frofa.store import MANIFEST, FeatureStore
from frofa.store.file_digests import SeenFile
from frofa.utils.files import warn_not_written


class KnownFiles:
    """The files among the images of a run, and the digests that a store remembers of them.

    Parameters
    ----------
    store : FeatureStore
    items : sequence
        Images; those that are no paths are left alone.

    Attributes
    ----------
    digests : dict of int to str
        By position.
    """

    def __init__(self, store: FeatureStore, items: Sequence[ImageItem]):
        self._store, self._read_at = store, time.time()
        seen = {i: SeenFile.look(item) for i, item in enumerate(items) if isinstance(item, (str, os.PathLike))}
        self._files = {position: file for position, file in seen.items() if file is not None}
        found = store.file_digests().find(list(self._files.values()))
        self.digests = {position: key for position, key in zip(self._files, found, strict=True) if key is not None}

    def remember(self, digests: Mapping[int, str], samples: Mapping[int, bytes]) -> None:
        """Keep the digests of files that were read, by position, unless there is no store yet.

        With the digest goes a sample of what was read, see `frofa.utils.blocks`.

        A store that cannot be written gives a `StoreNotWrittenWarning`: the files are read again then.
        """
        read = [position for position in self._files if position in digests and position in samples]
        if not read or not (self._store.path / MANIFEST).exists():
            return
        files, keys = [self._files[position] for position in read], [digests[position] for position in read]
        try:
            self._store.file_digests().remember(files, keys, [samples[row] for row in read], self._read_at)
        except OSError as error:
            consequence = f"no feature is lost, but the next run will read {len(read)} files again, too."
            warn_not_written(self._store.path, error, consequence)
