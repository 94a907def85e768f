"""Keys: which image a feature is of. The other half of what tells features apart is the spec (`frofa.store.spec`).

A key is a digest of 20 bytes, of a file's bytes or, for images in memory, of size and pixels; `frofa.images.reading`
makes it, for custom encoders `frofa.encoders.samples`. So copies and renamed files have the same key, and an image that
was saved anew has another. Keys are text of 40 hexadecimal digits each, or rows of an array of bytes.
"""

import re
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

KEY_BYTES = 20
Keys: TypeAlias = Sequence[str] | npt.NDArray[np.uint8]
KeyArray: TypeAlias = npt.NDArray[np.uint8]
"""Keys as bytes, shape (n, 20)."""
_KEY = re.compile(rf"[0-9a-fA-F]{{{2 * KEY_BYTES}}}")


def as_keys(keys: Keys) -> KeyArray:
    """Turn 40 hexadecimal digits each into rows of bytes, which stay what they are; ValueError for what is no key."""
    if isinstance(keys, np.ndarray) and keys.dtype == np.uint8:
        if keys.ndim != 2 or keys.shape[1] != KEY_BYTES:
            raise ValueError(f"expected keys of shape (n, {KEY_BYTES}). Got {keys.shape}.")
        return keys
    texts = list(keys)
    try:
        read = bytes.fromhex("".join(texts))
    except (ValueError, TypeError):
        read = b""
    # `fromhex` passes over blanks, so that the number of bytes is to be looked at as well.
    if len(read) != KEY_BYTES * len(texts) or any(len(key) != 2 * KEY_BYTES for key in texts):
        wrong = next((key for key in texts if not (isinstance(key, str) and _KEY.fullmatch(key))), None)
        raise ValueError(f"expected keys of {2 * KEY_BYTES} hexadecimal digits. Got {wrong!r}.")
    return np.frombuffer(read, np.uint8).reshape(-1, KEY_BYTES)


def to_hex(keys: KeyArray) -> list[str]:
    """Turn rows of bytes into text."""
    text = np.ascontiguousarray(keys).tobytes().hex()
    return [text[start : start + 2 * KEY_BYTES] for start in range(0, len(text), 2 * KEY_BYTES)]


def prefixes(keys: KeyArray) -> npt.NDArray[np.uint64]:
    """Read the first 8 bytes of each key as a little-endian number, to sort and search by."""
    head: npt.NDArray[Any] = np.ascontiguousarray(keys[:, :8])
    numbers: npt.NDArray[np.uint64] = head.view("<u8")[:, 0]
    return numbers


def first_of_each(keys: KeyArray) -> npt.NDArray[np.intp]:
    """Find where each key comes first; positions, ascending."""
    values = prefixes(keys)
    order = np.argsort(values, kind="stable")
    # Of equal prefixes, all but the first in the order of the keys.
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
