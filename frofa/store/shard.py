"""A shard: features of some images in a directory that never changes once it is there."""

import re
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch

from frofa._files import create_directory
from frofa.exceptions import DamagedStoreError
from frofa.store.format import Array, data_offset, map_file, open_npy, seal, unseal, write_npy
from frofa.store.keys import KEY_BYTES, KeyArray
from frofa.store.spec import FORMAT

ROW = np.dtype([("key", "u1", (KEY_BYTES,)), ("crc32", "<u4")])
"""What ``rows.npy`` says of each image: its key, and the CRC-32 of the key's bytes followed by the feature's."""
SHARDS = "shards"
FEW = 256
"""Rows up to which keys are read one by one."""
APPENDED, COMPACTED = "b", "a"
_NAME = re.compile(r"[ab]-\d{8,}-[0-9a-f]{16}")
"""First letters of a shard's name: compacted ones come first in the order of the names, which is that of the rows."""


@dataclass(frozen=True)
class Shard:
    """A shard that is there.

    Attributes
    ----------
    path : Path
    shape : tuple of int
        Number of images, then the shape of a feature.
    dtype : dtype
        Of the file.
    rows_digest : str
        Of ``rows.npy``.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    rows_digest: str

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def row_bytes(self) -> int:
        """Bytes of a feature."""
        return self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))

    @cached_property
    def rows(self) -> Array:
        """Keys and digests, mapped, not yet checked: shape (n,), of `ROW`."""
        return open_npy(self.path / "rows.npy", ROW, self.shape[:1], self.rows_file)

    @cached_property
    def rows_file(self) -> torch.Tensor:
        """The file of `rows`, mapped as it is; from then on its removal does no harm."""
        return map_file(self.path / "rows.npy")

    @cached_property
    def features(self) -> Array:
        """Mapped features, read-only."""
        return open_npy(self.path / "features.npy", self.dtype, self.shape)

    @cached_property
    def offset(self) -> int:
        """Where the features start in their file, in bytes."""
        return data_offset(self.path / "features.npy", self.dtype, self.shape)

    def keys_at(self, rows: npt.NDArray[np.int64]) -> KeyArray:
        """The keys of these rows, not yet checked."""
        if len(rows) <= FEW and "rows" not in vars(self):
            # Of a large file, the system may map millions of bytes for each page that is touched.
            try:
                return self._read_keys(rows)
            except FileNotFoundError:
                if "rows_file" not in vars(self):
                    raise
        keys: KeyArray = self.rows["key"][rows]
        return keys

    def _read_keys(self, rows: npt.NDArray[np.int64]) -> KeyArray:
        path = self.path / "rows.npy"
        with path.open("rb", buffering=0) as file:
            start = data_offset(path, ROW, self.shape[:1])
            found = b""
            for row in rows.tolist():
                file.seek(start + ROW.itemsize * row)
                found += file.read(KEY_BYTES)
        return np.frombuffer(found, np.uint8).reshape(-1, KEY_BYTES)

    def __reduce__(self) -> tuple[Any, ...]:
        return Shard, (self.path, self.shape, self.dtype, self.rows_digest)  # not what is mapped

    def checked_keys(self) -> KeyArray:
        """The keys (n, 20), after a check that they are what was written.

        Raises
        ------
        StoreError
            If not.
        """
        if _rows_digest(self.rows) != self.rows_digest:
            raise DamagedStoreError(self.path / "rows.npy", "the checksum is another")
        keys: KeyArray = self.rows["key"]
        return keys

    def whole_rows(self, start: int, stop: int) -> npt.NDArray[np.bool_]:
        """Which of these rows have the key and the feature that were written."""
        rows = self.rows[start:stop]
        whole: npt.NDArray[np.bool_] = row_table(rows["key"], self.features[start:stop])["crc32"] == rows["crc32"]
        return whole


def row_table(keys: KeyArray, features: Array) -> Array:
    """``rows.npy`` for these features, shape (n,) of `ROW`."""
    table = np.empty(len(keys), ROW)
    table["key"] = keys
    flat = np.ascontiguousarray(features).reshape(len(keys), -1).view(np.uint8)
    heads = np.ascontiguousarray(keys)
    table["crc32"] = [zlib.crc32(row, zlib.crc32(key)) for key, row in zip(heads, flat, strict=True)]  # type: ignore[arg-type]
    return table


def write_shard(
    directory: Path, stem: str, table: Array, shape: tuple[int, ...], dtype: Any, parts: Iterable[Array]
) -> Shard:
    """Add a shard to a spec's directory; it is on disk when this returns.

    Parameters
    ----------
    directory : Path
    stem : str
        What its name begins with; a digest of the keys follows, so that the same content has the same name.
    table : ndarray of `ROW`
    shape : tuple of int
        Of the features, all rows together.
    dtype : dtype
    parts : iterable of ndarray
        The features, some rows at a time.
    """
    rows_digest = _rows_digest(table)
    description = {"format": FORMAT, "shape": shape, "dtype": np.dtype(dtype).str, "rows": rows_digest}
    contents: dict[str, Callable[[BinaryIO], object]] = {
        "features.npy": partial(write_npy, dtype=dtype, shape=shape, parts=parts),
        "rows.npy": partial(write_npy, dtype=ROW, shape=table.shape, parts=[table]),
        "shard.json": lambda file: file.write(seal(description)),
    }
    path = directory / SHARDS / f"{stem}-{rows_digest[:16]}"
    path.parent.mkdir(exist_ok=True)
    create_directory(path, contents)
    return Shard(path, shape, np.dtype(dtype), rows_digest)


def open_shard(path: Path) -> Shard:
    """Read a shard's description.

    Raises
    ------
    StoreError
        If it is damaged.
    FileNotFoundError
        If it is gone.
    """
    file = path / "shard.json"
    content = unseal(file.read_bytes(), file)
    if content.get("format") != FORMAT:
        raise DamagedStoreError(file, f"format {content.get('format')}")
    return Shard(path, tuple(content["shape"]), np.dtype(content["dtype"]), content["rows"])


def shard_names(directory: Path) -> list[str]:
    """The shards of a spec's directory in the order of their rows."""
    try:
        return sorted(entry.name for entry in (directory / SHARDS).iterdir() if _NAME.fullmatch(entry.name))
    except FileNotFoundError:
        return []


def next_stem(names: list[str]) -> str:
    """What the name of a new shard begins with, so that it comes after all others."""
    numbers = [int(name.split("-")[1]) for name in names if name.startswith(APPENDED)]
    return f"{APPENDED}-{max(numbers, default=-1) + 1:08d}"


def _rows_digest(table: Array) -> str:
    return blake2b(np.ascontiguousarray(table).data, digest_size=20, person=b"frofa-rows").hexdigest()
