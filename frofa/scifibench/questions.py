"""Questions of SciFIBench, and the rows that they are read from."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from frofa.images.items import LazyImage

Task: TypeAlias = Literal["Figure2Caption", "Caption2Figure"]
COLUMNS = ("ID", "Question", "Options", "Answer", "Category", "Images")
OPTION = re.compile(r"\s*([A-Z])\)(.*)", re.DOTALL)
CAPTION = re.compile(r"^\s*caption\s*:", re.IGNORECASE)
ASKED = re.compile(r"\s*which\s+(?:image|figure)\b[^?.]*\bcaption\b[^?.]*\?\s*$", re.IGNORECASE)
"""The end of the question of a Caption2Figure row; its beginning is `CAPTION`."""


@dataclass(frozen=True, slots=True, eq=False)
class Figure(LazyImage):
    """An encoded image of a row; its name is file, row and, where there are several, place, each from 0."""

    name: str
    data: bytes

    def describe(self) -> str:
        """Name the figure as errors do, such as ``CS_Figure2Caption-00000-of-00001.parquet, row 40``."""
        return self.name

    @property
    def n_bytes(self) -> int:
        """Bytes of the encoded image."""
        return len(self.data)

    def read(self) -> bytes:
        """Return the encoded image."""
        return self.data


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A question: one figure and captions to choose from, or one caption and figures.

    Attributes
    ----------
    split : str
        Name of the split, such as ``"CS_Figure2Caption"``.
    task : {"Figure2Caption", "Caption2Figure"}
        What is asked for.
    id : int
        Number within the split.
    category : str
        Field that the figure comes from, such as ``"other cs"``.
    captions : tuple of str
        The caption, or those to choose from.
    figures : tuple of Figure
        The figure, or those to choose from.
    answer : int
        Position of the right choice, from 0.
    """

    split: str
    task: Task
    id: int
    category: str
    captions: tuple[str, ...]
    figures: tuple[Figure, ...]
    answer: int


def question_of(row: Mapping[str, Any], split: str, task: Task | None, file: Path, position: int) -> Question:
    """Make a question of a row; without a task, it is what the number of images says.

    A ValueError names file, row and column, and says what was expected.
    """
    try:
        return _question_of(row, split, task, file, f"{file.name}, row {position}")
    except ValueError as error:
        number = f" (ID {row['ID']})" if row.get("ID") is not None else ""
        raise ValueError(f"{file}, row {position}{number}: {error}") from error


def _question_of(row: Mapping[str, Any], split: str, task: Task | None, file: Path, name: str) -> Question:
    figures = _figures(row["Images"], file.parent, name)
    task = task or ("Figure2Caption" if len(figures) == 1 else "Caption2Figure")
    if task == "Figure2Caption":
        options = _options(row["Options"])
        captions = tuple(_not_empty(text, f"Options has no caption behind {chr(65 + i)})") for i, text in options)
        _check_number(figures, 1, "Images", "figure to describe")
        n_choices = len(captions)
    else:
        captions = (caption_of(_text(row, "Question")),)
        # What the options of figures say beside their letters is nowhere written down, and nothing depends on it.
        options = _options(row["Options"] or [], lettered=False)
        if options:
            _check_number(figures, len(options), "Images", "figures, one for each of Options,")
        n_choices = len(figures)
    if n_choices < 2:
        raise ValueError(f"expected two choices at least. Got {n_choices}.")
    answer = _answer(_text(row, "Answer"), n_choices)
    return Question(split, task, _number(row["ID"]), _text(row, "Category"), captions, figures, answer)


def caption_of(question: str) -> str:
    """Take the caption out of a question about figures; all of it, if it is put in other words.

    Examples
    --------
    >>> caption_of("Caption: loss over time . Which image best matches the caption?")
    'loss over time .'
    """
    text = ASKED.sub("", CAPTION.sub("", question, count=1)).strip()
    return _not_empty(text, "Question has no caption")


def _options(values: Any, *, lettered: bool = True) -> list[tuple[int, str]]:
    """Positions and texts of options; letters, which need not be there unless `lettered`, follow each other from A."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ValueError(f"Options must be a list of texts. Got {_shown(values)}.")
    found = []
    for place, value in enumerate(values):
        match = OPTION.fullmatch(value) if isinstance(value, str) else None
        if (match is None and lettered) or (match is not None and ord(match[1]) - 65 != place):
            raise ValueError(f"Options must begin with {chr(65 + place)}) in this place. Got {_shown(value)}.")
        found.append((place, match[2].strip() if match else ""))
    return found


def _figures(values: Any, directory: Path, name: str) -> tuple[Figure, ...]:
    if not isinstance(values, Sequence) or isinstance(values, (str, bytes)) or not values:
        raise ValueError(f"Images must be a list of images, one at least. Got {_shown(values)}.")
    places = [name if len(values) == 1 else f"{name}, image {place}" for place in range(len(values))]
    return tuple(Figure(place, _encoded(value, directory)) for place, value in zip(places, values, strict=True))


def _encoded(value: Any, directory: Path) -> bytes:
    """Bytes of an image as Hugging Face keeps it: with its content, or with the path of a file beside the table."""
    data = value.get("bytes") if isinstance(value, Mapping) else value
    if isinstance(data, bytes) and data:
        return data
    path = value.get("path") if isinstance(value, Mapping) else None
    if isinstance(path, str) and path:
        try:
            return (directory / path).read_bytes()
        except OSError as error:
            raise ValueError(f"Images has no bytes, and the file {path} cannot be read: {error.strerror}.") from error
    raise ValueError(f"Images must have the bytes or the path of each image. Got {_shown(value)}.")


def _answer(text: str, n_choices: int) -> int:
    letter = text.removesuffix(")").strip().upper()
    last = chr(64 + n_choices)
    if len(letter) != 1 or not "A" <= letter <= last:
        raise ValueError(f"Answer must be a letter from A to {last}. Got {_shown(text)}.")
    return ord(letter) - 65


def _check_number(figures: Sequence[Figure], expected: int, column: str, what: str) -> None:
    if len(figures) != expected:
        raise ValueError(f"{column} must have {expected} {what} in this task. Got {len(figures)}.")


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row[column]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{column} must be a text that is not empty. Got {_shown(value)}.")
    return value.strip()


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"ID must be a whole number. Got {_shown(value)}.")
    return value


def _not_empty(text: str, message: str) -> str:
    if not text:
        raise ValueError(f"{message}.")
    return text


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
