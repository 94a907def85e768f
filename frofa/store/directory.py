"""The directory of a store: its manifest and lock, the specs in it, and the features of each.

What writes, exchanges or maintains features takes a `StoreDirectory`; `FeatureStore` is one that offers all of that.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from frofa.exceptions import DamagedStoreError, StoreError
from frofa.store.disk.format import damaged, seal, unseal
from frofa.store.disk.index import INDEX
from frofa.store.disk.shard import SHARDS
from frofa.store.disk.table import SpecTable
from frofa.store.file_digests import FILES
from frofa.store.keys import Keys, as_keys, first_of_each, to_hex
from frofa.store.lazy.array import FeatureArray
from frofa.store.lazy.source import FeatureSource
from frofa.store.names import NAMES
from frofa.store.spec import FORMAT, FeatureSpec
from frofa.utils.files import TEMPORARY, expand_home, make_directories, remove_stale, warn_not_written, write_atomically
from frofa.utils.json import read_json

MANIFEST = "frofa-store.json"
LOCK = ".lock"
INDICES = "index"
"""The directory of a store that `frofa.FeatureIndex` is saved in, by spec."""
LOOKS = 3
"""Looks for a description that others may have removed and written again."""
_DIGEST = re.compile(r"[0-9a-f]{40}")


class StoreDirectory:
    """Features in a directory, found by spec and key; parameters as of `FeatureStore`."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(expand_home(path))
        self._tables: dict[str, SpecTable] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_tables": {}}  # copies and pickles carry the path, not what is known of its content

    def missing(self, spec: FeatureSpec, keys: Sequence[str]) -> list[str]:
        """List those of the keys that the store does not have, once each, in order.

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
            return FeatureArray(FeatureSource.of_shards(table, spec))
        wanted = as_keys(keys)
        found = table.locate(wanted)
        absent = np.flatnonzero(found.shard < 0)
        if len(absent):
            names = ", ".join(to_hex(wanted[absent[:3]]))
            raise KeyError(f"{len(absent)} of {len(wanted)} keys are not in {self.path}: {names}, ...")
        return FeatureArray(FeatureSource.of_locations(table, spec, found))

    def specs(self) -> dict[str, FeatureSpec]:
        """Read the specs that the store holds features of, by digest.

        Raises
        ------
        StoreError
            If one is damaged.
        """
        check_store(self.path)
        found = {directory.name: stored_spec(directory) for directory in spec_directories(self.path)}
        return {digest: spec for digest, spec in found.items() if spec is not None}

    def is_writable(self) -> bool:
        """Tell whether this process may create files in the directory, or the directory itself where there is none.

        This is a look, no attempt: a disk that is full is found out by writing only.
        """
        place = self.path.absolute()
        while not place.exists() and place != place.parent:
            place = place.parent
        return os.access(place, os.W_OK)

    def table(self, spec: FeatureSpec) -> SpecTable:
        """The shards of a spec, as this process knows them."""
        check_store(self.path)
        digest = spec.digest
        if digest not in self._tables:
            self._tables[digest] = SpecTable(self.path / digest)
        return self._tables[digest]

    def index_if_worth_it(self, spec: FeatureSpec) -> None:
        """Index the keys of a spec, if many are not indexed and no other process is about it.

        What cannot be written of it gives a `StoreNotWrittenWarning`.
        """
        table = self.table(spec)
        table.refresh()
        if not table.wants_index():
            return
        try:
            # Whoever holds the lock writes an index in the end, so that it is left to them.
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
        """Keep other processes from compacting, repairing and indexing, after a wait; writers do not need it.

        What is known of the directory is forgotten at the end, as it may be another. StoreError if the file system has
        no locks.
        """
        try:
            with FileLock(self.path / LOCK):
                yield
        except NotImplementedError as error:
            raise StoreError(f"{self.path} is on a file system without locks: {error}") from error
        finally:
            self._tables = {}

    def create(self, spec: FeatureSpec) -> Path:
        """Make the directory of a spec, with the manifest and the spec's own description; return it."""
        check_store(self.path)
        directory = self.path / spec.digest
        for file, content in (
            (self.path / MANIFEST, seal({"format": FORMAT})),
            (directory / "spec.json", spec.to_json()),
        ):
            make_directories(file.parent)
            # Written only if it is not so already: thousands of shards are added to one spec.
            if not file.exists() or file.read_bytes() != content:
                write_atomically(file, lambda opened, data=content: opened.write(data))  # type: ignore[misc]
        return directory


def check_store(path: Path) -> None:
    """Check that a directory is a store of this version, or can become one; StoreError if not."""
    if not path.exists():
        return
    if not path.is_dir():
        raise StoreError(f"{path} is a file; a feature store is a directory.")
    # Listed before the manifest is read: of a store that another process is creating, the manifest comes first.
    names = [entry.name for entry in path.iterdir()]
    manifest = path / MANIFEST
    try:
        content = read_json(manifest, damaged(manifest))
    except FileNotFoundError:
        if all(name.startswith(TEMPORARY) or name == LOCK for name in names):
            return  # about to become a store
        if any((path / name / SHARDS).is_dir() for name in names):
            raise DamagedStoreError(manifest, "it is not there") from None
        raise StoreError(
            f"{path} is not a feature store: it has no {MANIFEST}. Pass an empty or new directory."
        ) from None
    if content == {"format": 1}:
        raise StoreError(f"{path} has format 1; this version of frofa reads format {FORMAT}: start a new one.")
    version = unseal(content, manifest, {"format": int})["format"]
    if version != FORMAT:
        raise StoreError(f"{path} has format {version}; this version of frofa reads format {FORMAT}.")


def remove_leftovers(path: Path) -> None:
    """Delete what crashes have left in the directories of a store, once it is old."""
    for directory in (path, *spec_directories(path)):
        for part in (directory, directory / SHARDS, directory / INDEX, directory / FILES, directory / NAMES):
            remove_stale(part)


def spec_directories(path: Path) -> list[Path]:
    """List the directories of a store that hold a spec's features, sorted."""
    if not path.is_dir():
        return []
    return sorted(entry for entry in path.iterdir() if _DIGEST.fullmatch(entry.name) and entry.is_dir())


def stored_spec(directory: Path) -> FeatureSpec | None:
    """Read the spec whose features a directory holds; None if it was removed since, or is in the making.

    DamagedStoreError if its description is damaged, or is not there although there are shards.
    """
    for _ in range(LOOKS):
        with suppress(FileNotFoundError):
            return FeatureSpec.from_json(directory / "spec.json")
        if not (directory / SHARDS).is_dir():
            return None
    raise DamagedStoreError(directory / "spec.json", "it is not there")
