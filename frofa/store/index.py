"""Where a key is: a sorted table over the shards of a spec, mapped into memory.

An index is a convenience. What it says is checked against the shard, and without one, or with a damaged one, the keys
of the shards are read instead.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

from frofa._files import create_directory, remove_directory
from frofa.exceptions import DamagedStoreError, StoreError
from frofa.store.format import open_npy, seal, unseal, write_npy
from frofa.store.keys import prefixes
from frofa.store.shard import Shard
from frofa.store.spec import FORMAT

INDEX = "index"
Prefixes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Index:
    """Keys by the first 8 bytes, ascending; of equal ones the first in the order of the rows comes first.

    Attributes
    ----------
    prefixes : ndarray of uint64, shape (n,)
    places : ndarray of uint32, shape (n, 2)
        The shard's position in `shards`, and the row in it.
    shards : sequence of str
        Names.
    """

    prefixes: Prefixes
    places: Places
    shards: Sequence[str]

    def __len__(self) -> int:
        return len(self.prefixes)

    def find(self, wanted: Prefixes) -> npt.NDArray[np.int64]:
        """The first position that has each prefix, or -1."""
        if not len(self):
            return np.full(len(wanted), -1, np.int64)
        at = np.searchsorted(self.prefixes, wanted)
        found = self.prefixes[np.minimum(at, len(self) - 1)] == wanted
        return np.where(found & (at < len(self)), at, -1)


def build_index(shards: Sequence[Shard]) -> Index:
    """Sort the keys of these shards.

    Raises
    ------
    StoreError
        If the keys of one are damaged.
    """
    if not shards:
        return Index(np.empty(0, "<u8"), np.empty((0, 2), "<u4"), [])
    values = np.concatenate([prefixes(shard.checked_keys()) for shard in shards])
    places = np.empty((len(values), 2), "<u4")
    places[:, 0] = np.repeat(np.arange(len(shards)), [len(shard) for shard in shards])
    places[:, 1] = np.concatenate([np.arange(len(shard), dtype="<u4") for shard in shards])
    order = np.argsort(values, kind="stable")
    return Index(values[order], places[order], [shard.path.name for shard in shards])


def write_index(directory: Path, index: Index) -> None:
    """Put an index into a spec's directory, in the place of those that are there."""
    home = directory / INDEX
    home.mkdir(exist_ok=True)
    names = json.dumps(list(index.shards)).encode()
    name = blake2b(names, digest_size=8).hexdigest()
    description = {"format": FORMAT, "n": len(index), "shards": list(index.shards)}
    create_directory(
        home / name,
        {
            "prefixes.npy": partial(write_npy, dtype="<u8", shape=(len(index),), parts=[index.prefixes]),
            "places.npy": partial(write_npy, dtype="<u4", shape=(len(index), 2), parts=[index.places]),
            "index.json": lambda file: file.write(seal(description)),
        },
    )
    for other in home.iterdir():
        if not other.name.startswith(".") and other.name != name:
            remove_directory(other)


def index_names(directory: Path) -> list[str]:
    """The indices of a spec's directory: one, or two while it is replaced."""
    try:
        return sorted(entry.name for entry in (directory / INDEX).iterdir() if not entry.name.startswith("."))
    except FileNotFoundError:
        return []


def open_index(path: Path) -> Index:
    """Map an index into memory.

    Raises
    ------
    StoreError
        If its description or a header is damaged.
    FileNotFoundError
        If it is gone.
    """
    file = path / "index.json"
    content = unseal(file.read_bytes(), file)
    if content.get("format") != FORMAT:
        raise DamagedStoreError(file, f"format {content.get('format')}")
    n = content["n"]
    values = open_npy(path / "prefixes.npy", "<u8", (n,))
    places = open_npy(path / "places.npy", "<u4", (n, 2))
    return Index(values, places, content["shards"])


def largest_index(directory: Path) -> Index | None:
    """The index of most keys that is whole, if there is one."""
    found = []
    for name in index_names(directory):
        try:
            found.append(open_index(directory / INDEX / name))
        except (StoreError, FileNotFoundError):  # 'frofa store verify' reports it
            continue
    return max(found, key=len, default=None)
