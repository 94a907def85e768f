"""The files of a store: ``.npy`` arrays whose header is checked, and JSON with a checksum."""

import io
import json
import mmap
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from frofa.exceptions import DamagedStoreError

Array = npt.NDArray[Any]


def seal(content: dict[str, Any]) -> bytes:
    """JSON with a checksum of the rest."""
    return json.dumps({**content, "checksum": _checksum(content)}, indent=1).encode()


def unseal(data: bytes, path: Path) -> dict[str, Any]:
    """Read what `seal` made.

    Raises
    ------
    DamagedStoreError
        If it is not what was written.
    """
    try:
        content = json.loads(data)
        checksum = content.pop("checksum")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedStoreError(path, f"{type(error).__name__}: {error}") from error
    if checksum != _checksum(content):
        raise DamagedStoreError(path, "the checksum is another")
    read: dict[str, Any] = content
    return read


def write_npy(file: BinaryIO, dtype: npt.DTypeLike, shape: tuple[int, ...], parts: Iterable[Array]) -> None:
    """Write a ``.npy`` file of that shape, whose rows come in parts."""
    file.write(_header(np.dtype(dtype), shape))
    for part in parts:
        file.write(np.ascontiguousarray(part, dtype).data)


def header_bytes(dtype: npt.DTypeLike, shape: tuple[int, ...]) -> int:
    """Where the data starts in a ``.npy`` file of any number of rows of this shape."""
    return len(_header(np.dtype(dtype), (0, *shape)))


def open_npy(path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> tuple[Array, int]:
    """Map a ``.npy`` file into memory, read-only; also return where its data starts.

    Raises
    ------
    DamagedStoreError
        If its header does not say this dtype and shape, or its size is not that.
    """
    dtype = np.dtype(dtype)
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            found_shape, fortran, found_dtype = np.lib.format.read_array_header_1_0(file)
        except Exception as error:  # of a damaged header: ValueError, SyntaxError, tokenize's, MemoryError, ...
            raise DamagedStoreError(path, f"{type(error).__name__}: {error}") from error
        offset = file.tell()
        if (version, found_shape, fortran, found_dtype) != ((1, 0), shape, False, dtype):
            raise DamagedStoreError(
                path, f"its header says {found_dtype}, shape {found_shape}; expected {dtype}, shape {shape}"
            )
        size = file.seek(0, 2)
        expected = offset + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        if size != expected:
            raise DamagedStoreError(path, f"it has {size} bytes; expected {expected}")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.ndarray(shape, dtype, buffer=mapped, offset=offset), offset


def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    header = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, description)
    return header.getvalue()


def _checksum(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True)
    return blake2b(canonical.encode(), digest_size=20, person=b"frofa-json").hexdigest()
