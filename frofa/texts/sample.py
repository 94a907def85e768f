"""Texts as items of a run, with the keys that a store has for them."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from frofa.images.items import Sample

SHOWN = 60
"""Characters of a text that a message shows."""


class TextSample(Sample):
    """A text in memory, and its number among the texts of a run."""

    __slots__ = ("number", "text")

    def __init__(self, text: str, number: int):
        self.text, self.number = text, number

    def describe(self) -> str:
        """Show the text, or its beginning."""
        return repr(self.text if len(self.text) <= SHOWN else self.text[:SHOWN] + "...")

    def content(self) -> tuple["TextSample", str]:
        """Return the text itself, and the digest of its UTF-8 bytes."""
        return self, text_key(self.text)

    def read(self) -> str:
        """Return the text."""
        return self.text


def text_key(text: str) -> str:
    """Key of a text in a store: the digest of its UTF-8 bytes, 40 hexadecimal digits."""
    return blake2b(text.encode(), digest_size=20, person=b"frofa-text").hexdigest()


def as_texts(X: Any) -> list[TextSample]:
    """Check texts: a list, an array (n,) or (n, 1), a column, or a data frame of one column.

    Raises
    ------
    TypeError
        If it is a single text, or something in it is no text.
    ValueError
        If there is none, if there are several columns, or half of a pair of surrogates, which no UTF-8 has.
    """
    if isinstance(X, (str, bytes)):
        raise TypeError(f"expected several texts: a list of str. Got {X!r:.80}: pass a list of one.")
    if hasattr(X, "to_numpy"):
        X = X.to_numpy()
    if isinstance(X, np.ndarray):
        if X.ndim == 2 and X.shape[1] == 1:
            X = X[:, 0]
        if X.ndim != 1:
            raise ValueError(f"expected texts (n,), or one column of them. Got shape {X.shape}.")
        X = X.tolist()
    if not isinstance(X, Sequence):
        raise TypeError(f"expected a list, an array or a column of texts. Got {type(X).__name__}.")
    if not len(X):
        raise ValueError("expected at least one text. Got none.")
    return [TextSample(_checked(text, position), position) for position, text in enumerate(X)]


def _checked(text: Any, position: int) -> str:
    if not isinstance(text, str):
        raise TypeError(f"expected texts, str. Got {type(text).__name__} ({text!r:.80}) at position {position}.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"expected texts that UTF-8 can hold. Got a lone surrogate, {text[error.start]!r}, at position {position}, "
            f"character {error.start}."
        ) from None
    return str(text)
