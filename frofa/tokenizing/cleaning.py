"""Cleaning of texts before they are cut into tokens: the rules of SigLIP and of open_clip."""

import html
import re
import string
import unicodedata
from collections.abc import Callable, Mapping
from functools import partial

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ENTITY = re.compile(r"&#?[0-9A-Za-z]{1,24};")
_LATE_CONTROLS = re.compile("[\x80-\x9f]")
_TERMINAL = re.compile(r"\x1b\[[\d;]*[a-zA-Z]")
_BREAKS = re.compile("\r\n|[\r\u2028\u2029\x85]")
_LIGATURES = (0x132, 0x133, 0x149, *range(0x1C4, 0x1CD), *range(0x1F1, 0x1F4), *range(0xFB00, 0xFB07))
_WIDE = (0x3000, *range(0xFF01, 0xFFF0))
_CONTROLS = (*range(0x09), 0x0B, *range(0x0E, 0x20), 0x7F, *range(0x206A, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFD))
_PLAIN: dict[int, str | None] = {
    **{code: unicodedata.normalize("NFKC", chr(code)) for code in _WIDE + _LIGATURES},
    0xFB05: "\u017ft",
    **dict.fromkeys((0x02BC, *range(0x2018, 0x201C)), "'"),
    **dict.fromkeys(range(0x201C, 0x2020), '"'),
}
_NO_CONTROLS = dict.fromkeys(_CONTROLS)


def canonicalise(text: str, *, lower_case: bool = True) -> str:
    r"""Write a text as SigLIP was trained: lower case, no ASCII punctuation, single spaces.

    As in big_vision's ``prompt_engineering.py``, and `SiglipTokenizer` of transformers.

    Examples
    --------
    >>> from frofa.tokenizing.cleaning import canonicalise
    >>> canonicalise("  A photo: of a\tCAT! ")
    'a photo of a cat'
    """
    text = text.lower() if lower_case else text
    return re.sub(r"\s+", " ", text.translate(_PUNCTUATION)).strip()


def cleaning(name: str) -> Callable[[str], str]:
    """Return one of open_clip's ways to clean texts; a ValueError lists them.

    ``"lower"`` is for CLIP, ``"canonicalize"`` for SigLIP, ``"whitespace"`` for others. open_clip mends texts first, by
    `ftfy`. All of that is done here but its guesses at text that a wrong encoding has decoded ("Ã©" for "é").

    Examples
    --------
    >>> from frofa.tokenizing.cleaning import cleaning
    >>> cleaning("lower")("  A &amp; “B”\u2028 ﬁsh"), cleaning("canonicalize")("a_Cat!")
    ('a & "b" fish', 'a cat')
    """
    if name not in _WAYS:
        raise ValueError(f"texts can be cleaned by {', '.join(map(repr, _WAYS))}. Got {name!r}")
    return _WAYS[name]


def tidy(text: str) -> str:
    """Mend what is surely unwanted in a text: entities of HTML, ligatures, curled quotes, wide letters, controls.

    As `ftfy.fix_text` does (github.com/rspeer/python-ftfy), but for text that a wrong encoding has decoded.
    """
    # Line by line: a tag on one says nothing of entities on others.
    return "".join(map(_tidy_line, re.split("(?<=\n)", text)))


def _tidy_line(line: str) -> str:
    has_tags = "<" in line
    while True:
        before = line
        if not has_tags:
            line = _ENTITY.sub(lambda match: html.unescape(match.group()), line)
        # Characters that are no text in Latin-1 are those of Windows, where it has them.
        line = _LATE_CONTROLS.sub(lambda match: match.group().encode("latin-1").decode("cp1252", "replace"), line)
        line = _BREAKS.sub("\n", line.translate(_PLAIN))
        line = unicodedata.normalize("NFC", _TERMINAL.sub("", line).translate(_NO_CONTROLS))
        if line == before:
            return line


def _of_open_clip(text: str, *, canonical: bool, lower_case: bool) -> str:
    text = html.unescape(html.unescape(tidy(text)))
    if canonical:
        text = text.replace("_", " ").translate(_PUNCTUATION)
    text = " ".join(text.split())
    return text.lower() if lower_case else text


_WAYS: Mapping[str, Callable[[str], str]] = {
    "lower": partial(_of_open_clip, canonical=False, lower_case=True),
    "canonicalize": partial(_of_open_clip, canonical=True, lower_case=True),
    "whitespace": partial(_of_open_clip, canonical=False, lower_case=False),
}
