"""The files of a store: ``.npy`` arrays whose header is checked, and JSON with a checksum."""

import errno
import io
import json
import math
import os
from collections.abc import Iterable, Mapping
from functools import lru_cache, partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch

from frofa.exceptions import DamagedStoreError
from frofa.utils.json import Fail, check_fields, read_json

Array = npt.NDArray[Any]
HEAD = 2**12
"""Bytes in which the header of a ``.npy`` file ends."""


def seal(content: dict[str, Any]) -> bytes:
    """Make JSON with a checksum of the rest."""
    return json.dumps({**content, "checksum": _checksum(content)}, indent=1).encode()


def read_sealed(path: Path, version: int, kinds: Mapping[str, type]) -> dict[str, Any]:
    """Read a file that `seal` made, of this format and with these fields of these types; else a DamagedStoreError."""
    content = unseal(read_json(path, damaged(path)), path, {"format": int, **kinds})
    if content["format"] != version:
        raise DamagedStoreError(path, f"format {content['format']}")
    return content


def unseal(content: object, path: Path, kinds: Mapping[str, type]) -> dict[str, Any]:
    """Take what was sealed out of the JSON of a file; DamagedStoreError if it was changed, or lacks such a field."""
    fields = check_fields(content, {"checksum": str, **kinds}, damaged(path))
    # The checksum is of all other fields, those that this version does not know included.
    rest = {name: value for name, value in fields.items() if name != "checksum"}
    if fields["checksum"] != _checksum(rest):
        raise DamagedStoreError(path, "the checksum is another")
    return rest


def damaged(path: Path) -> Fail:
    """Make what makes the error of a damaged file out of what is wrong with it."""
    return partial(DamagedStoreError, path)


def write_npy(file: BinaryIO, dtype: npt.DTypeLike, shape: tuple[int, ...], parts: Iterable[Array]) -> None:
    """Write a ``.npy`` file of that shape, whose rows come in parts."""
    dtype = np.dtype(dtype)
    file.write(npy_header(dtype, tuple(shape)))
    for part in parts:
        file.write(np.ascontiguousarray(part, dtype).data)


def header_bytes(dtype: npt.DTypeLike, shape: tuple[int, ...]) -> int:
    """Count the bytes before the data in a ``.npy`` file of any number of rows of this shape."""
    return len(npy_header(np.dtype(dtype), (0, *shape)))


def open_npy(path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> tuple[Array, int]:
    """Map a ``.npy`` file into memory, read-only; also return where its data starts.

    DamagedStoreError if its header does not say this dtype and shape, or its size is not that.
    """
    dtype = np.dtype(dtype)
    if path.is_dir():
        raise DamagedStoreError(path, "it is not a file")
    with path.open("rb", buffering=0) as file:  # the map is not touched: of a page, the system maps millions of bytes
        size = os.fstat(file.fileno()).st_size
        offset = _check_header(path, file.read(HEAD), size, dtype, shape)
    # The array keeps the map alive; read-only, as a write to it would be seen by this process alone.
    data = map_file(path, size).numpy()
    data.flags.writeable = False
    return np.ndarray(shape, dtype, buffer=data, offset=offset), offset


@lru_cache(1024)
def npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """The header of a ``.npy`` file of this dtype and shape, as this version of NumPy writes it."""
    file = io.BytesIO()
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


def map_file(path: Path, size: int | None = None) -> torch.Tensor:
    """Map a file of this size into memory as bytes: what is written to the tensor stays in this process.

    By torch, since a map of Python's keeps a file descriptor for as long as it lives: a store may have thousands of
    shards, a process 1,024 descriptors.
    """
    if size is None:
        size = path.stat().st_size
    if not size:
        raise DamagedStoreError(path, "it is empty")
    try:
        storage: Any = torch.UntypedStorage.from_file(str(path), False, size)  # private
    except RuntimeError as error:
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "it was removed", str(path)) from error
        raise OSError(errno.ENOMEM, f"cannot map it into memory: {error}", str(path)) from error
    return torch.empty(0, dtype=torch.uint8).set_(storage)


def _check_header(path: Path, head: bytes, size: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    expected = npy_header(dtype, shape)
    offset = len(expected)
    if not head.startswith(expected):  # reading it as Python's literal takes longer than all else
        offset = _parse_header(path, head, dtype, shape)
    wanted = offset + dtype.itemsize * math.prod(shape)
    if size != wanted:
        raise DamagedStoreError(path, f"it has {size} bytes; expected {wanted}")
    return offset


def _parse_header(path: Path, head: bytes, dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    file = io.BytesIO(head)
    try:
        version = np.lib.format.read_magic(file)
        found_shape, fortran, found_dtype = np.lib.format.read_array_header_1_0(file)
    except Exception as error:  # of a damaged header: ValueError, SyntaxError, tokenize's, MemoryError, ...
        raise DamagedStoreError(path, f"{type(error).__name__}: {error}") from error
    if (version, found_shape, fortran, found_dtype) != ((1, 0), shape, False, dtype):
        raise DamagedStoreError(
            path, f"its header says {found_dtype}, shape {found_shape}; expected {dtype}, shape {shape}"
        )
    return file.tell()


def _checksum(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True)
    return blake2b(canonical.encode(), digest_size=20, person=b"frofa-json").hexdigest()
