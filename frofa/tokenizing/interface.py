"""The interface of tokenizers, and the checks and the padding that all of them share."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@runtime_checkable
class Tokenizer(Protocol):
    """Turns texts into what a text tower reads.

    `context` is the number of tokens of every text, padded or cut; `pad_id` what it is padded with. `digest` is of
    everything that ids depend on: the same digest is the same ids for every text.
    """

    @property
    def context(self) -> int:
        """Tokens of a text."""

    @property
    def pad_id(self) -> int:
        """The token that short texts are padded with."""

    @property
    def digest(self) -> str:
        """Digest of vocabulary, normalisation, special tokens, context and padding."""

    def __call__(self, texts: Sequence[str], /) -> tuple[Ids, Mask]:
        """Return ids int64 (n, context), and where they are no padding, bool (n, context)."""


def check_texts(texts: Sequence[str]) -> list[str]:
    """List texts; a TypeError or ValueError says which of them is no text that can be written as UTF-8.

    Examples
    --------
    >>> from frofa.tokenizing.interface import check_texts
    >>> check_texts(("a cat", ""))
    ['a cat', '']
    >>> check_texts(["a cat", None])
    Traceback (most recent call last):
    TypeError: texts must be strings. Got NoneType at position 1.
    """
    if isinstance(texts, (str, bytes)):
        raise TypeError(f"texts must be a sequence of strings. Got one {type(texts).__name__}: write [text].")
    found = list(texts)
    for i, text in enumerate(found):
        if not isinstance(text, str):
            raise TypeError(f"texts must be strings. Got {type(text).__name__} at position {i}.")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the text at position {i} holds half a surrogate pair (U+{ord(text[error.start]):04X} at character "
                f"{error.start}), which is no character. Decode its source with errors='replace'."
            ) from None
    return [str(text) for text in found]  # NumPy's strings too


def padded(rows: Sequence[Sequence[int]], context: int, pad_id: int, *, left: bool = False) -> tuple[Ids, Mask]:
    """Pad rows of at most `context` ids to ids (n, context) and mask (n, context).

    Examples
    --------
    >>> from frofa.tokenizing.interface import padded
    >>> padded([[5, 6], []], 3, 0)[0].tolist()
    [[5, 6, 0], [0, 0, 0]]
    """
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    places = np.arange(context)
    mask = places >= context - lengths[:, None] if left else places < lengths[:, None]
    ids = np.full((len(rows), context), pad_id, np.int64)
    # Row by row, as a mask reads its places: (sum of lengths,).
    ids[mask] = np.fromiter((token for row in rows for token in row), np.int64, int(lengths.sum()))
    return ids, mask


def check_context(context: int, least: int) -> int:
    """Return the context; a ValueError says that it has no room for a token beside the special ones."""
    if isinstance(context, bool) or not isinstance(context, int) or context < least:
        raise ValueError(f"context must be an int of at least {least} tokens. Got {context!r}.")
    return context


def digest_of(*parts: object) -> str:
    """Digest of strings, bytes and plain values, in order, in 40 characters."""
    hasher = blake2b(digest_size=20, person=b"frofa-tokens")
    for part in parts:
        data = part if isinstance(part, bytes) else repr(part).encode()
        # With its length before it, no two sequences of parts are the same bytes.
        hasher.update(len(data).to_bytes(8, "little") + data)
    return hasher.hexdigest()
