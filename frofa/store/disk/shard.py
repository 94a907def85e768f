"""A shard: features of some images in a directory that never changes once it is there."""

import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache, partial
from hashlib import blake2b
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from frofa.compute.memory import row_chunks
from frofa.exceptions import DamagedStoreError
from frofa.store.disk.format import Array, damaged, open_npy, read_sealed, seal, write_npy
from frofa.store.keys import KEY_BYTES, KeyArray
from frofa.store.spec import FORMAT, FeatureSpec
from frofa.utils.files import create_directory, make_directory

RowNumbers: TypeAlias = npt.NDArray[np.int64]
ROW = np.dtype([("key", "u1", (KEY_BYTES,)), ("crc32", "<u4")])
"""A row of ``rows.npy``: an image's key, and the CRC-32 of the key's bytes followed by the feature's."""
SHARDS = "shards"
CHECK_BYTES = 2**24
"""Bytes of features that are checked or copied together."""
FEW_KEYS = 256
"""Rows up to which keys are read one by one, which touches least of a large file ("opening" in benchmarks/store.py)."""
APPENDED, COMPACTED = "b", "a"
"""First letters of a shard's name: compacted ones come first in the order of the names, which is that of the rows."""
MAX_AXES = 32
"""The axes that an array of NumPy's can have, before its version 2."""
_NAME = re.compile(r"[ab]-\d{8}-[0-9a-f]{16}")
_FIELDS = {"spec": dict, "shape": list, "dtype": str, "rows": str}


@dataclass(frozen=True)
class Shard:
    """A shard on disk, as its description says.

    `shape` is the number of images, then the shape of a feature; `dtype` that of the file; `rows_digest` that of
    ``rows.npy``.
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
        return self._rows[0]

    @cached_property
    def features(self) -> Array:
        """Mapped features, read-only."""
        return self._features[0]

    @property
    def offset(self) -> int:
        """Bytes before the features in their file."""
        return self._features[1]

    @cached_property
    def _rows(self) -> tuple[Array, int]:
        return open_npy(self.path / "rows.npy", ROW, self.shape[:1])

    @cached_property
    def _features(self) -> tuple[Array, int]:
        return open_npy(self.path / "features.npy", self.dtype, self.shape)

    def check_sizes(self) -> None:
        """Map both files, and see that neither was cut since: a read behind the end of a file ends the process."""
        for name, (array, offset) in (("rows.npy", self._rows), ("features.npy", self._features)):
            size = (self.path / name).stat().st_size
            if size != offset + array.nbytes:
                raise DamagedStoreError(self.path / name, f"it has {size} bytes; expected {offset + array.nbytes}")

    def keys_at(self, rows: RowNumbers) -> KeyArray:
        """The keys of these rows, not yet checked."""
        if len(rows) <= FEW_KEYS:
            # Of a large file, the system maps millions of bytes for each page that is touched, which counts as memory.
            with suppress(FileNotFoundError), (self.path / "rows.npy").open("rb", buffering=0) as file:
                return self._read_keys(file, rows)
        keys: KeyArray = self.rows["key"][rows]
        return keys

    def _read_keys(self, file: FileIO, rows: RowNumbers) -> KeyArray:
        keys = np.empty((len(rows), KEY_BYTES), np.uint8)
        for key, row in zip(keys, rows.tolist(), strict=True):
            file.seek(self._rows[1] + ROW.itemsize * row)
            if file.readinto(key.data) != KEY_BYTES:
                raise DamagedStoreError(self.path / "rows.npy", "it ends early")
        return keys

    def __reduce__(self) -> tuple[Any, ...]:
        return Shard, (self.path, self.shape, self.dtype, self.rows_digest)  # not what is mapped

    def checked_keys(self) -> KeyArray:
        """The keys (n, 20), after a check that they are what was written; StoreError if not."""
        if not self._rows_are_whole:
            raise DamagedStoreError(self.path / "rows.npy", "the checksum is another")
        keys: KeyArray = self.rows["key"]
        return keys

    @cached_property
    def _rows_are_whole(self) -> bool:
        return _rows_digest(self.rows) == self.rows_digest

    def whole_rows(self, rows: RowNumbers) -> npt.NDArray[np.bool_]:
        """Tell which of these rows have the key and the feature that were written."""
        return whole_rows(self.rows, self.features, rows)


def row_table(keys: KeyArray, features: Array) -> Array:
    """Make ``rows.npy`` for these features, shape (n,) of `ROW`."""
    table = np.empty(len(keys), ROW)
    table["key"] = keys
    # One row of bytes an image: shape (n, bytes of a feature), and the keys (n, 20).
    flat = np.ascontiguousarray(features).reshape(len(keys), -1).view(np.uint8)
    heads = np.ascontiguousarray(keys)
    table["crc32"] = [zlib.crc32(row, zlib.crc32(key)) for key, row in zip(heads, flat, strict=True)]  # type: ignore[arg-type]
    return table


def whole_rows(table: Array, features: Array, rows: RowNumbers) -> npt.NDArray[np.bool_]:
    """Tell which of these rows have the checksum that the table, of `ROW`, says; some at a time are read."""
    whole = np.empty(len(rows), bool)
    for part in row_chunks(len(rows), CHECK_BYTES, features[:1].nbytes):
        written = table[rows[part]]
        whole[part] = row_table(written["key"], features[rows[part]])["crc32"] == written["crc32"]
    return whole


def take_rows(features: Array, rows: RowNumbers) -> Iterator[Array]:
    """Copy rows out of mapped features, some at a time."""
    return (features[rows[part]] for part in row_chunks(len(rows), CHECK_BYTES, features[:1].nbytes))


def write_shard(
    directory: Path,
    spec: FeatureSpec,
    table: Array,
    feature: tuple[tuple[int, ...], npt.DTypeLike],
    parts: Iterable[Array],
    stem: str | None = None,
) -> Shard:
    """Add a shard to a spec's directory; it is on disk when this returns.

    `table` is what `row_table` makes, `feature` the shape and dtype of a row as stored; `parts` are the features, some
    rows at a time. The name begins with `stem`, by default so that the shard is the last of those appended; a digest of
    the keys follows, so that the same content has the same name.

    FileNotFoundError if another process removes the directory meanwhile. No part of it is made again.
    """
    shape, dtype = (len(table), *feature[0]), np.dtype(feature[1])
    rows_digest = _rows_digest(table)
    description = {"format": FORMAT, "spec": asdict(spec), "shape": shape, "dtype": dtype.str, "rows": rows_digest}
    contents: dict[str, Callable[[BinaryIO], object]] = {
        "features.npy": partial(write_npy, dtype=dtype, shape=shape, parts=parts),
        "rows.npy": partial(write_npy, dtype=ROW, shape=table.shape, parts=[table]),
        "shard.json": lambda file: file.write(seal(description)),
    }
    if stem is None:
        # Two writers may take the same number: their names differ by the digest, unless they wrote the same.
        stem = f"{APPENDED}-{next_number(shard_names(directory), APPENDED):08d}"
    path = directory / SHARDS / f"{stem}-{rows_digest[:16]}"
    make_directory(path.parent)
    create_directory(path, contents)
    return Shard(path, shape, dtype, rows_digest)


def open_shard(path: Path) -> Shard:
    """Read a shard's description; DamagedStoreError if it is damaged, or the shard is another spec's."""
    content = read_sealed(path / "shard.json", FORMAT, _FIELDS)
    spec, digest = _spec_of(path, content)
    if digest != path.parent.parent.name:
        raise DamagedStoreError(path, f"it is a shard of spec {digest}")
    # The dtype is said twice, by the spec and by the shard: nothing is read by one that the other denies.
    dtype = np.dtype(spec.stored_dtype)
    if content["dtype"] != dtype.str:
        raise DamagedStoreError(path / "shard.json", f"expected dtype {dtype.str}. Got {content['dtype']}")
    return Shard(path, _checked_shape(path, content["shape"], dtype), dtype, content["rows"])


def spec_of_shard(path: Path) -> FeatureSpec:
    """Read the spec whose features a shard holds; errors as in `open_shard`."""
    return _spec_of(path, read_sealed(path / "shard.json", FORMAT, _FIELDS))[0]


def is_shard_name(name: object) -> bool:
    """Tell whether a name is one that shards have."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def shard_names(directory: Path) -> list[str]:
    """List the shards of a spec's directory in the order of their rows."""
    try:
        return sorted(entry.name for entry in (directory / SHARDS).iterdir() if is_shard_name(entry.name))
    except FileNotFoundError:
        return []
    except NotADirectoryError as error:
        raise DamagedStoreError(directory / SHARDS, "it is not a directory") from error


def next_number(names: Iterable[str], letter: str) -> int:
    """The number after those of all shards whose names begin with this letter."""
    return 1 + max((int(name.split("-")[1]) for name in names if name.startswith(letter)), default=-1)


def _checked_shape(path: Path, shape: list[Any], dtype: np.dtype[Any]) -> tuple[int, ...]:
    # Whole numbers that are no booleans, of an array that the address space holds.
    right = 0 < len(shape) <= MAX_AXES and all(type(size) is int and size > 0 for size in shape)
    if not right or math.prod(shape) * dtype.itemsize >= 2**63:
        raise DamagedStoreError(path / "shard.json", "its shape is none that features can have")
    return tuple(shape)


def _spec_of(path: Path, content: dict[str, Any]) -> tuple[FeatureSpec, str]:
    try:
        return _known_spec(**content["spec"])
    except TypeError:  # a list or an object, which has no hash: the error below names it
        spec = FeatureSpec.from_fields(content["spec"], damaged(path / "shard.json"))
        return spec, spec.digest
    except ValueError as error:
        raise DamagedStoreError(path / "shard.json", str(error)) from error


@lru_cache(64, typed=True)
def _known_spec(**fields: Any) -> tuple[FeatureSpec, str]:
    """A spec and its digest, which thousands of shards share."""
    spec = FeatureSpec(**fields)
    return spec, spec.digest


def _rows_digest(table: Array) -> str:
    return blake2b(np.ascontiguousarray(table).data, digest_size=20, person=b"frofa-rows").hexdigest()
