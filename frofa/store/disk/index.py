"""The index of a spec: a sorted table of where each key is, mapped into memory.

An index is a convenience. What it says is checked against the shard; before it is believed that it does not have a key,
its checksum is. Without one, or with a damaged one, the keys of the shards are read instead.
"""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

from frofa.exceptions import DamagedStoreError, StoreError
from frofa.store.disk.format import open_npy, read_sealed, seal, write_npy
from frofa.store.disk.shard import Shard, is_shard_name
from frofa.store.keys import prefixes
from frofa.store.spec import FORMAT
from frofa.utils.files import create_directory, make_directory, remove_directory

INDEX = "index"
Prefixes = npt.NDArray[np.uint64]
_NAME = re.compile(r"[0-9a-f]{16}")
_FIELDS = {"n": int, "shards": list, "content": str}


@dataclass(frozen=True)
class Index:
    """Keys by the first 8 bytes, ascending; of equal ones the first in the order of the rows comes first.

    `prefixes` has shape (n,). `places`, (n, 2), has the position of each key's shard among the names in `shards`, and
    its row there. `digest` is that of both as they were written; None for an index that was made in memory.
    """

    prefixes: Prefixes
    places: npt.NDArray[np.uint32]
    shards: Sequence[str]
    digest: str | None = None

    def __len__(self) -> int:
        return len(self.prefixes)

    @cached_property
    def is_whole(self) -> bool:
        """Whether the index is what was written; reads all of it, once."""
        return self.digest is None or self.digest == content_digest(self)

    def find(self, wanted: Prefixes) -> npt.NDArray[np.int64]:
        """The first position that has each prefix, or -1."""
        if not len(self):
            return np.full(len(wanted), -1, np.int64)
        # A prefix greater than all is placed behind the end: the last one is looked at in its place, and differs.
        at = np.searchsorted(self.prefixes, wanted)
        found = self.prefixes[np.minimum(at, len(self) - 1)] == wanted
        return np.where(found & (at < len(self)), at, -1)


def build_index(shards: Sequence[Shard]) -> Index:
    """Sort the keys of these shards; StoreError if those of one are damaged."""
    if not shards:
        return Index(np.empty(0, "<u8"), np.empty((0, 2), "<u4"), [])
    values = np.concatenate([prefixes(shard.checked_keys()) for shard in shards])
    # The place of each key, shape (n, 2): its shard, and its row there.
    places = np.empty((len(values), 2), "<u4")
    places[:, 0] = np.repeat(np.arange(len(shards)), [len(shard) for shard in shards])
    places[:, 1] = np.concatenate([np.arange(len(shard), dtype="<u4") for shard in shards])
    # Stable: of equal prefixes, the first in the order of the rows stays first.
    order = np.argsort(values, kind="stable")
    return Index(values[order], places[order], [shard.path.name for shard in shards])


def write_index(directory: Path, index: Index) -> None:
    """Put an index into a spec's directory, in the place of those that are there."""
    home = directory / INDEX
    make_directory(home)
    names = json.dumps(list(index.shards)).encode()
    name = blake2b(names, digest_size=8).hexdigest()
    description = {"format": FORMAT, "n": len(index), "shards": list(index.shards), "content": content_digest(index)}
    # The name is that of the shards, so that one that is there is the same, unless it is damaged.
    if not _is_whole(home / name):
        remove_directory(home / name)
    create_directory(
        home / name,
        {
            "prefixes.npy": partial(write_npy, dtype="<u8", shape=(len(index),), parts=[index.prefixes]),
            "places.npy": partial(write_npy, dtype="<u4", shape=(len(index), 2), parts=[index.places]),
            "index.json": lambda file: file.write(seal(description)),
        },
    )
    for other in index_names(directory):
        if other != name:
            with suppress(PermissionError):  # Windows removes nothing that somebody reads; the next writer tries again
                remove_directory(home / other)


def index_names(directory: Path) -> list[str]:
    """List the indices of a spec's directory: one, or two while it is replaced."""
    try:
        return sorted(entry.name for entry in (directory / INDEX).iterdir() if _NAME.fullmatch(entry.name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def open_index(path: Path) -> Index:
    """Map an index into memory; StoreError if its description or a header is damaged."""
    file = path / "index.json"
    content = read_sealed(file, FORMAT, _FIELDS)
    n = content["n"]
    if not 0 <= n < 2**63 or not all(is_shard_name(name) for name in content["shards"]):
        raise DamagedStoreError(file, "expected a number of keys and the names of shards")
    values, _ = open_npy(path / "prefixes.npy", "<u8", (n,))
    places, _ = open_npy(path / "places.npy", "<u4", (n, 2))
    return Index(values, places, content["shards"], content["content"])


def best_index(directory: Path, names: Sequence[str], shards: Sequence[str]) -> Index | None:
    """Choose the index that can be read and has most keys, if possible of shards that are all there."""
    found = []
    for name in names:
        try:
            found.append(open_index(directory / INDEX / name))
        except (StoreError, FileNotFoundError):  # 'frofa store verify' reports it
            continue
    # Of an index with shards that were merged since, many places lead nowhere.
    there = set(shards)
    return max(found, key=lambda index: (there.issuperset(index.shards), len(index)), default=None)


def content_digest(index: Index) -> str:
    """Digest of an index's two arrays."""
    digest = blake2b(np.ascontiguousarray(index.prefixes).data, digest_size=20, person=b"frofa-index")
    digest.update(np.ascontiguousarray(index.places).data)
    return digest.hexdigest()


def _is_whole(path: Path) -> bool:
    try:
        return open_index(path).is_whole
    except (StoreError, FileNotFoundError):
        return False
