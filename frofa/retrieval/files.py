"""Files of an index: JSON that says what it is of, and arrays beside it, which the JSON names by their digest.

The arrays are written first, so that whoever reads the JSON finds what belongs to it, and a crash leaves the index that
was there. Another spec has another directory, and JSON of another digest of features is refused.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from frofa.exceptions import StoreError
from frofa.utils.files import make_directories, write_atomically
from frofa.utils.json import Fail, check_fields, read_json

FORMAT = 1
DESCRIPTION, LOCK = "index.json", ".lock"
Arrays = Mapping[str, npt.NDArray[Any]]
FIELDS: dict[str, type | tuple[type, ...]] = {
    "format": int,
    "features": str,
    "metric": str,
    "method": str,
    "shape": list,
    "arrays": str,
    "labels": (list, type(None)),
    "search": (dict, type(None)),
}
KINDS = {"u1": "U8", "u2": "U16", "i4": "I32", "i8": "I64", "f4": "F32"}
"""Names of dtypes in the format of the arrays, safetensors."""
LOOKS = 3
"""Looks for arrays that others may have replaced meanwhile."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from saving to a folder, which is made."""
    make_directories(folder)
    with FileLock(folder / LOCK):
        yield


def write_index(folder: Path, description: Mapping[str, Any], arrays: Arrays) -> None:
    """Replace the index in a folder that is `locked`."""
    ready = {name: np.ascontiguousarray(array) for name, array in sorted(arrays.items())}
    name = f"arrays-{_digest(ready)}.safetensors"
    write_atomically(folder / name, lambda file: _write_arrays(file, ready))
    content = json.dumps({"format": FORMAT, "arrays": name, **description}).encode()
    write_atomically(folder / DESCRIPTION, lambda file: file.write(content))
    for old in folder.glob("arrays-*.safetensors"):
        if old.name != name:
            old.unlink(missing_ok=True)


def read_index(folder: Path) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Read the description and the arrays; a StoreError says that there are none, or they are damaged."""
    for look in range(LOOKS):
        description = _read_description(folder)
        try:
            return description, _read_arrays(folder / description["arrays"])
        except FileNotFoundError as error:
            if look == LOOKS - 1:
                raise damaged(folder)(f"it has no {description['arrays']}") from error
    raise AssertionError("unreachable")


def _read_description(folder: Path) -> dict[str, Any]:
    fail = damaged(folder)
    try:
        content = check_fields(read_json(folder / DESCRIPTION, fail), FIELDS, fail)
    except FileNotFoundError as error:
        raise StoreError(f"there is no index in {folder}: save one first.") from error
    if content["format"] != FORMAT:
        raise StoreError(f"{folder} has format {content['format']}; this version of frofa reads format {FORMAT}.")
    name = content["arrays"]
    if Path(name).name != name or not name.startswith("arrays-"):
        raise fail(f"{name!r} is no name of its arrays")
    return content


def _read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    fail = damaged(path.parent)
    try:
        arrays = load_file(path)
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise fail(f"{path.name}: {error}") from error
    if path.name != f"arrays-{_digest(arrays)}.safetensors":
        raise fail(f"{path.name} is not what was written")
    return arrays


def _write_arrays(file: BinaryIO, arrays: Arrays) -> None:
    """Write arrays one after another, without a copy of them all in memory."""
    header, offset = {}, 0
    for name, array in arrays.items():
        stop = offset + array.nbytes
        header[name] = {"dtype": KINDS[array.dtype.str[1:]], "shape": array.shape, "data_offsets": [offset, stop]}
        offset = stop
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the data is aligned
    file.write(len(text).to_bytes(8, "little") + text)
    for array in arrays.values():
        file.write(array.reshape(-1).view(np.uint8).data)


def _digest(arrays: Arrays) -> str:
    hasher = blake2b(digest_size=20, person=b"frofa-index")
    for name, array in sorted(arrays.items()):
        hasher.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
        hasher.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return hasher.hexdigest()


def damaged(folder: Path) -> Fail:
    """Make the function that says of an index what is wrong with it."""
    return lambda why: StoreError(f"the index in {folder} is damaged ({why}): build and save it again.")
