"""Words that are told to be labels but for their spelling."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

_SEPARATORS = re.compile(r"[\s_-]+")


def match_words(given: Sequence[Sequence[str]], labels: Sequence[Any]) -> list[int] | None:
    """Find the words of each of K labels among lists of words, if these are the labels but for their spelling.

    Case, ``_``, ``-`` and blanks do not count. Of several words for a class, the first that is a label tells which.
    There may be words for further classes.

    Returns
    -------
    list of K int, or None
        Positions among the words; None if these are no labels, or are labels in their own places alone.

    Raises
    ------
    ValueError
        If some of K words are labels, in other places than theirs, and others are not: the order is then neither told
        by the words nor that of the labels.
    """
    places = positions_of(given, labels)
    found: list[Any] = [place for place in places if place is not None]
    if found and sorted(found) == list(range(len(labels))):
        rows = {place: row for row, place in enumerate(places)}
        return [rows[i] for i in range(len(labels))]
    if len(given) != len(labels) or all(place in (None, i) for i, place in enumerate(places)):
        return None
    strange = [words[0] for words, place in zip(given, places, strict=True) if place is None]
    twice = [words[0] for words, place in zip(given, places, strict=True) if found.count(place) > 1]
    lacking = [label for i, label in enumerate(labels) if i not in found]
    told = [f"labels without a word: {listed(lacking)}"]
    told += [f"no labels: {listed(strange)}"] if strange else []
    told += [f"of one label: {listed(twice)}"] if twice else []
    raise ValueError(
        "class_names in a sequence must be the labels, in any order, or other words in the order of the sorted labels. "
        f"Got some of each, out of place; {'; '.join(told)}. A dict, {{label: words}}, says whose they are."
    )


def positions_of(given: Sequence[Sequence[str]], labels: Sequence[Any]) -> list[int | None]:
    """Find the position among labels of each list of words, by the first word that is a label; None if none is."""
    exact = {label: i for i, label in enumerate(labels) if isinstance(label, str)}
    folded = {_folded(label): i for label, i in exact.items()}
    if len(folded) < len(exact):  # labels that differ in nothing else
        folded = {}
    places: list[int | None] = []
    for words in given:
        found = [exact.get(word, folded.get(_folded(word))) for word in words]
        places.append(next((place for place in found if place is not None), None))
    return places


def _folded(word: str) -> str:
    return _SEPARATORS.sub("", unicodedata.normalize("NFKC", word).casefold())


def listed(values: Any) -> str:
    """List the first five values."""
    found = [repr(value.item() if isinstance(value, np.generic) else value) for value in values]
    return ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
