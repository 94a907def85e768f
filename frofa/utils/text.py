"""Text for messages, names, and text from outside in any of Unicode's encodings."""

import codecs
import unicodedata
from collections.abc import Iterable

_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def one_line(error: object, longest: int = 300) -> str:
    """Put the text of an error in one line, without its last full stop, cut where it is long."""
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return text if len(text) <= longest else f"{text[:longest]}..."


def shorten(labels: Iterable[object]) -> str:
    """List labels by name, in order, ten at most."""
    names = sorted(str(label) for label in labels)
    return ", ".join(names[:10]) + (f", ... ({len(names) - 10} more)" if len(names) > 10 else "")


def chance(probability: float) -> str:
    """Write a probability in percent without rounding it to certainty.

    Examples
    --------
    >>> chance(0.834), chance(0.997), chance(0.003)
    ('83 %', 'over 99 %', 'under 1 %')
    """
    if probability < 0.01:
        return "under 1 %"
    return "over 99 %" if probability > 0.99 else f"{100 * probability:.0f} %"


def class_name(text: str) -> str:
    r"""Spell the name of a class in Unicode's composed form (NFC), whatever file system or editor wrote it.

    Examples
    --------
    >>> class_name("cafe\u0301") == class_name("caf\u00e9")
    True
    """
    return unicodedata.normalize("NFC", text)


def in_utf8(data: bytes) -> bytes:
    r"""Turn text of the encoding that its byte order mark says into UTF-8 without one; other text stays as it is.

    A ValueError says that the mark is that of UTF-16, and the rest is something else.

    Examples
    --------
    >>> in_utf8("\ufeffpath".encode("utf-16-le")), in_utf8(b"\xef\xbb\xbfpath"), in_utf8(b"path")
    (b'path', b'path', b'path')
    """
    encoding = _UTF16.get(data[:2])
    if encoding is None:
        return data.removeprefix(codecs.BOM_UTF8)
    try:
        return data[2:].decode(encoding).encode()
    except UnicodeDecodeError as error:
        raise ValueError(f"a byte order mark says that it is UTF-16, but it is not: {error}") from error
