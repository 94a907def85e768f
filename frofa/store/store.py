"""The feature store that users hold: a `StoreDirectory`, and all that is done with one."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from frofa.store.directory import StoreDirectory
from frofa.store.disk.format import Array
from frofa.store.file_digests import FILES, FileDigests
from frofa.store.keys import Keys
from frofa.store.maintenance.compact import Compaction, compact
from frofa.store.maintenance.contents import Explanation, SpecInfo, explain, gc, info
from frofa.store.maintenance.repair import repair
from frofa.store.maintenance.verify import Damage, verify
from frofa.store.names import NAMES, ImageNames
from frofa.store.spec import FeatureSpec
from frofa.store.writer import ShardWriter


class FeatureStore(StoreDirectory):
    """Features on disk, one directory for any number of images and backbones.

    A feature's key is the content of its image and a `FeatureSpec`: weights, preprocessing, decoder, output, layer,
    norm, precision and dtype. So a second run does no forward pass, ten new images cost ten, moved or renamed files
    cost none, and another model never gets these features.

    Features lie in shards, directories of ``.npy`` files that never change once they are there, each written under a
    temporary name, synced and renamed: whole or not at all. Several processes may read and write at once. No pickle.
    ``docs/store.md`` describes the files.

    Parameters
    ----------
    path : path
        The directory; created at the first write.

    Examples
    --------
    >>> from frofa import FeatureStore, FrozenFeatureExtractor
    >>> store = FeatureStore("features")
    >>> extractor = FrozenFeatureExtractor(store=store)  # the path alone would do
    """

    def get(self, spec: FeatureSpec, keys: Sequence[str]) -> Array:
        """Read features in the order of the keys into memory, shape (len(keys), ...); errors as in `features`."""
        if not len(keys):
            raise KeyError("no keys to read")
        return np.array(self.features(spec, keys))

    def put(self, spec: FeatureSpec, keys: Keys, features: Any) -> None:
        """Write one batch; when this returns, it is on disk. Parameters and errors as in `ShardWriter.add`."""
        with self.writer(spec) as writer:
            writer.add(keys, features)

    def writer(
        self, spec: FeatureSpec, on_commit: Callable[[int], object] | None = None, *, automatic: bool = True
    ) -> ShardWriter:
        """Write many batches, in few files: a context manager whose ``add(keys, features)`` takes one."""
        return ShardWriter(self, spec, on_commit, automatic=automatic)

    def verify(self, *, progress: bool = False) -> list[Damage]:
        """Read all of the store and list what is damaged, as `frofa.store.maintenance.verify.verify`."""
        return verify(self, progress=progress)

    def repair(self, *, progress: bool = False) -> list[Damage]:
        """Save what is whole and put aside what is not, as `frofa.store.maintenance.repair.repair`."""
        return repair(self, progress=progress)

    def compact(self, *, progress: bool = False) -> Compaction:
        """Merge shards into large ones and drop duplicates, as `frofa.store.maintenance.compact.compact`."""
        return compact(self, progress=progress)

    def gc(self, keep: Sequence[str], *, dry_run: bool = False) -> int:
        """Delete the features of all specs but some, as `frofa.store.maintenance.contents.gc`."""
        return gc(self, keep, dry_run=dry_run)

    def info(self) -> list[SpecInfo]:
        """List specs, with the number of their images, shards and bytes."""
        return info(self)

    def explain(self, image: Any, spec: FeatureSpec) -> Explanation:
        """Say whether the feature of an image is there, or else which part of the key differs from what is there.

        Parameters
        ----------
        image : path, PIL image or uint8 array (H, W, 3)
        spec : FeatureSpec
            As `FrozenFeatureExtractor.feature_spec` returns it.

        Returns
        -------
        Explanation
            Its text says it in lines.
        """
        return explain(self, image, spec)

    def file_digests(self) -> FileDigests:
        """Open the keys of files that were read before."""
        return FileDigests(self.path / FILES)

    def image_names(self) -> ImageNames:
        """Open the names of images: where each was read from, and its label there."""
        return ImageNames(self.path / NAMES)
