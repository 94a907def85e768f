"""Text for messages, and names."""

import unicodedata


def one_line(error: object, longest: int = 300) -> str:
    """The text of an error in one line, without its last full stop, cut where it is long."""
    text = " ".join(str(error).split()).rstrip(".")
    text = text or type(error).__name__
    return text if len(text) <= longest else f"{text[:longest]}..."


def class_name(text: str) -> str:
    r"""The one spelling of a class: Unicode's composed form (NFC), whatever file system or editor wrote it.

    Examples
    --------
    >>> class_name("cafe\u0301") == class_name("caf\u00e9")
    True
    """
    return unicodedata.normalize("NFC", text)
