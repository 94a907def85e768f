"""Keys of images: 20-byte digests, as text or as rows of an array."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

KEY_BYTES = 20
Keys: TypeAlias = Sequence[str] | npt.NDArray[np.uint8]
KeyArray: TypeAlias = npt.NDArray[np.uint8]
"""Shape (n, 20)."""


def as_keys(keys: Keys) -> KeyArray:
    """Turn 40 hexadecimal digits each into rows of bytes; rows of bytes stay what they are.

    Raises
    ------
    ValueError
        If one is not a key.
    """
    if isinstance(keys, np.ndarray) and keys.dtype == np.uint8:
        if keys.ndim != 2 or keys.shape[1] != KEY_BYTES:
            raise ValueError(f"expected keys of shape (n, {KEY_BYTES}). Got {keys.shape}.")
        return keys
    try:
        if wrong := [key for key in keys if len(key) != 2 * KEY_BYTES]:
            raise ValueError(f"Got {wrong[0]!r}")
        return np.frombuffer(bytes.fromhex("".join(keys)), np.uint8).reshape(-1, KEY_BYTES)
    except (ValueError, TypeError) as error:
        raise ValueError(f"expected keys of {2 * KEY_BYTES} hexadecimal digits: {error}.") from None


def to_hex(keys: KeyArray) -> list[str]:
    """The same keys as text."""
    text = np.ascontiguousarray(keys).tobytes().hex()
    return [text[start : start + 2 * KEY_BYTES] for start in range(0, len(text), 2 * KEY_BYTES)]


def prefixes(keys: KeyArray) -> npt.NDArray[np.uint64]:
    """The first 8 bytes of each, as a little-endian number to sort and search by."""
    head: npt.NDArray[Any] = np.ascontiguousarray(keys[:, :8])
    numbers: npt.NDArray[np.uint64] = head.view("<u8")[:, 0]
    return numbers


def first_of_each(keys: KeyArray) -> npt.NDArray[np.intp]:
    """Positions of the first of each key, ascending."""
    values = prefixes(keys)
    order = np.argsort(values, kind="stable")
    repeated = np.zeros(len(keys), bool)
    repeated[1:] = values[order[1:]] == values[order[:-1]]
    if not repeated.any():
        return np.arange(len(keys))
    # Almost always the same key again; else two keys with the same prefix, which are told apart in full.
    suspects = order[repeated | np.append(repeated[1:], False)]
    suspects.sort()
    whole = np.ascontiguousarray(keys[suspects]).view(f"V{KEY_BYTES}")[:, 0]
    _, first = np.unique(whole, return_index=True)
    kept = np.ones(len(keys), bool)
    kept[suspects] = False
    kept[suspects[first]] = True
    return np.flatnonzero(kept)
