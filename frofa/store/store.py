"""A directory of features, keyed by what determines them."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from frofa.exceptions import DamagedStoreError, StoreError
from frofa.store.disk.format import Array, damaged, seal, unseal
from frofa.store.disk.shard import SHARDS
from frofa.store.disk.table import SpecTable
from frofa.store.file_digests import FILES, FileDigests
from frofa.store.keys import Keys, as_keys, first_of_each, to_hex
from frofa.store.lazy.array import FeatureArray
from frofa.store.maintenance.compact import Compaction, compact
from frofa.store.maintenance.contents import Explanation, SpecInfo, explain, gc, info
from frofa.store.maintenance.repair import repair
from frofa.store.maintenance.verify import Damage, spec_directories, stored_spec, verify
from frofa.store.spec import FORMAT, FeatureSpec
from frofa.store.writer import ShardWriter
from frofa.utils.files import TEMPORARY, expand_home, make_directories, warn_not_written, write_atomically
from frofa.utils.json import read_json

MANIFEST = "frofa-store.json"
LOCK = ".lock"


class FeatureStore:
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

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(expand_home(path))
        self._tables: dict[str, SpecTable] = {}

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.path)!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_tables": {}}  # copies and pickles carry the path, not what is known of its content

    def missing(self, spec: FeatureSpec, keys: Sequence[str]) -> list[str]:
        """Those of the keys that the store does not have, once each, in order.

        Raises
        ------
        StoreError
            If the directory is not a store of this version, or has a damaged file.
        """
        wanted = as_keys(keys)
        absent = wanted[self.table(spec).locate(wanted).shard < 0]
        return to_hex(absent[first_of_each(absent)])

    def features(self, spec: FeatureSpec, keys: Keys | None = None) -> FeatureArray:
        """Features as a lazy array, in the order of the keys, or all of them in the order they were written.

        Parameters
        ----------
        spec : FeatureSpec
        keys : sequence of str, or ndarray of uint8 of shape (n, 20), default=None
            Digests of images; None is all rows.

        Returns
        -------
        FeatureArray of shape (n, ...)

        Raises
        ------
        KeyError
            If one is not there.
        StoreError
            If a file is damaged.
        """
        table = self.table(spec)
        if keys is None:
            return FeatureArray.of_shards(table, spec)
        wanted = as_keys(keys)
        places = table.locate(wanted)
        absent = np.flatnonzero(places.shard < 0)
        if len(absent):
            names = ", ".join(to_hex(wanted[absent[:3]]))
            raise KeyError(f"{len(absent)} of {len(wanted)} keys are not in {self.path}: {names}, ...")
        return FeatureArray(table, spec, places)

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

    def specs(self) -> dict[str, FeatureSpec]:
        """What the store holds features of, by digest.

        Raises
        ------
        StoreError
            If one is damaged.
        """
        self.check()
        found = {}
        for directory in spec_directories(self.path):
            spec = stored_spec(directory)
            if spec is not None:
                found[directory.name] = spec
        return found

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
        """The keys of files that were read before."""
        return FileDigests(self.path / FILES)

    def is_writable(self) -> bool:
        """Whether this process may create files there, or the directory where it is not there yet; a look, no attempt.

        A disk that is full is found out by writing only.
        """
        place = self.path.absolute()
        while not place.exists() and place != place.parent:
            place = place.parent
        return os.access(place, os.W_OK)

    def forget(self) -> None:
        """Look at the directory anew at the next use."""
        self._tables = {}

    def table(self, spec: FeatureSpec) -> SpecTable:
        """The shards of a spec, as this process knows them."""
        self.check()
        digest = spec.digest
        if digest not in self._tables:
            self._tables[digest] = SpecTable(self.path / digest)
        return self._tables[digest]

    def feature_shape(self, spec: FeatureSpec) -> tuple[int, ...] | None:
        """Shape of one of a spec's features; None if there are none."""
        return self.table(spec).feature_shape()

    def index_if_worth_it(self, spec: FeatureSpec) -> None:
        """Index the keys of a spec, if many are not indexed and no other process is about it.

        What cannot be written of it gives a `StoreNotWrittenWarning`.
        """
        table = self.table(spec)
        table.refresh()
        if not table.wants_index():
            return
        try:
            with suppress(TimeoutError, NotImplementedError), FileLock(self.path / LOCK, timeout=0):
                table.refresh()
                if table.wants_index():
                    table.write_index()
        except StoreError:
            raise
        except OSError as error:
            warn_not_written(self.path, error, "all features are there, but without an index they are found later.")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Wait until no other process compacts, repairs or indexes, and keep others from it; writers do not need it.

        Raises
        ------
        StoreError
            If the file system has no locks.
        """
        try:
            with FileLock(self.path / LOCK):
                yield
        except NotImplementedError as error:
            raise StoreError(f"{self.path} is on a file system without locks: {error}") from error

    def create(self, spec: FeatureSpec) -> Path:
        """Make the directory of a spec, with the manifest and the spec's own description; return it."""
        self.check()
        directory = self.path / spec.digest
        for file, content in (
            (self.path / MANIFEST, seal({"format": FORMAT})),
            (directory / "spec.json", spec.to_json()),
        ):
            make_directories(file.parent)
            if not file.exists() or file.read_bytes() != content:
                write_atomically(file, lambda opened, data=content: opened.write(data))  # type: ignore[misc]
        return directory

    def check(self) -> None:
        """Check that the directory is a store of this version, or can become one.

        Raises
        ------
        StoreError
            If not.
        """
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise StoreError(f"{self.path} is a file; a feature store is a directory.")
        # Listed before the manifest is read: of a store that another process is creating, the manifest comes first.
        names = [entry.name for entry in self.path.iterdir()]
        manifest = self.path / MANIFEST
        try:
            content = read_json(manifest, damaged(manifest))
        except FileNotFoundError:
            if all(name.startswith(TEMPORARY) or name == LOCK for name in names):
                return  # about to become a store
            if any((self.path / name / SHARDS).is_dir() for name in names):
                raise DamagedStoreError(manifest, "it is not there") from None
            raise StoreError(
                f"{self.path} is not a feature store: it has no {MANIFEST}. Pass an empty or new directory."
            ) from None
        if content == {"format": 1}:
            raise StoreError(f"{self.path} has format 1; this version of frofa reads format {FORMAT}: start a new one.")
        version = unseal(content, manifest, {"format": int})["format"]
        if version != FORMAT:
            raise StoreError(f"{self.path} has format {version}; this version of frofa reads format {FORMAT}.")
