"""Vocabulary and merges of a SentencePiece model of byte pairs, such as Gemma's ``tokenizer.model``."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from frofa.tokenizing.settings import Special

_PIECE, _NORMALIZER = 1, 3
_CONTROL, _USER_DEFINED = 3, 4
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
"""Kinds of fields in the format of protocol buffers, which the model is written in."""


class Pieces(NamedTuple):
    """Contents of a model: ids by piece, merges in their order, and pieces found in texts before all else."""

    vocabulary: dict[str, int]
    merges: list[tuple[str, str]]
    specials: tuple[Special, ...]


def read_pieces(file: Path) -> Pieces:
    """Read a model; a ValueError names a file that is none.

    The format is ``sentencepiece_model.proto`` of github.com/google/sentencepiece.
    """
    kinds: dict[str, int] = {}
    try:
        for message in checked(file.read_bytes()):
            piece = dict(_fields(message))
            kinds[bytes(piece[1]).decode()] = int(piece.get(3, 1))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is no SentencePiece model: {error}") from error
    vocabulary = {piece: i for i, piece in enumerate(kinds)}
    specials = tuple(
        Special(piece, {"normalized": False, "special": kind == _CONTROL})
        for piece, kind in kinds.items()
        if kind in (_CONTROL, _USER_DEFINED)
    )
    return Pieces(vocabulary, merges_of(vocabulary), specials)


def checked(data: bytes) -> list[bytes]:
    """Return the pieces of a model, each a message of its own; a ValueError says that the model is not whole."""
    try:
        fields = list(_fields(data))
    except IndexError as error:
        raise ValueError("it ends in a field") from error
    pieces = [message for number, message in fields if number == _PIECE and isinstance(message, bytes)]
    # The pieces come first, then how they were trained, then how texts are normalised.
    if not pieces or not any(number == _NORMALIZER for number, _ in fields):
        raise ValueError("it has no pieces, or does not say how texts are normalised")
    return pieces


def merges_of(vocabulary: Mapping[str, int]) -> list[tuple[str, str]]:
    """Every two pieces that make a third one, in the order of what they make.

    Examples
    --------
    >>> from frofa.tokenizing.pieces import merges_of
    >>> merges_of({"a": 0, "b": 1, "ab": 2, "abb": 3})
    [('a', 'b'), ('ab', 'b')]
    """
    merges: list[tuple[str, str]] = []
    for piece in sorted(vocabulary, key=vocabulary.__getitem__):
        # The shorter the first of them, the earlier.
        cuts = ((piece[:i], piece[i:]) for i in range(1, len(piece)))
        merges += [(left, right) for left, right in cuts if left in vocabulary and right in vocabulary]
    return merges


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: their numbers, and their bytes or whole numbers."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == _LENGTH:
            length, at = _varint(data, at)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"a field of kind {kind}")
        if at + length > len(data):
            raise ValueError("it ends in a field")
        yield number, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while data[at] & 0x80:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | data[at] << shift, at + 1
