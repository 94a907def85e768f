"""Images with their labels, as they go to other tools and come from them."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from frofa.annotation.records.file import LabelFile
from frofa.annotation.records.history import History
from frofa.annotation.records.rows import (
    HEADER,
    IMPORT,
    LONGEST_LABEL,
    SET_ASIDE,
    Row,
    check_header,
    parse_rows,
    whole_rows,
)
from frofa.utils.text import class_name, in_utf8, one_line

UNSURE, NONE = SET_ASIDE
TRIES = 10
"""Most readings of a record that others change meanwhile."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Guess(NamedTuple):
    """A label that a model takes to be right, and how likely that is."""

    label: str
    probability: float


class Sample(NamedTuple):
    """An image and its label.

    Attributes
    ----------
    path : str
        From the folder of the record, in POSIX form.
    label : str
        ``""`` for none.
    how : str
        Where there is no label, whether somebody has looked: ``unsure`` or ``none`` of the classes, or ``""``.
    when : str
        The time of the decision in ISO 8601, if it is known.
    guess : Guess or None
        What a model takes the image for.
    """

    path: str
    label: str = ""
    how: str = ""
    when: str = ""
    guess: Guess | None = None


class Found(NamedTuple):
    """Samples of another tool's file, and what is to be said of those that are left out, a sentence each."""

    samples: list[Sample]
    notes: list[str]


class Merged(NamedTuple):
    """Numbers of decisions that are new, differ from those that were there, or are the same."""

    n_new: int
    n_changed: int
    n_same: int


def read_record(file: Path) -> list[Sample]:
    """Read the decisions that count of a record of labels, in the order of the images' first rows.

    A ValueError says that the file is no such record. A last row that is cut off is left out.
    """
    data = in_utf8(file.read_bytes())
    start = data.find(b"\n") + 1 or len(data)
    check_header(data[:start] or HEADER, str(file))
    rows = parse_rows(data[start : max(start, whole_rows(data))], str(file), 2)
    history = History(())
    history.add(rows)
    times = {row.path: row.when for row in rows}
    decided = history.decided()
    return [
        Sample(path, decided[path].label, "" if decided[path].label else decided[path].how, times[path])
        for path in dict.fromkeys(row.path for row in rows)
        if path in decided
    ]


def merge(file: Path, samples: Sequence[Sample], tool: str) -> Merged:
    """Append decisions to a record, which is made if it is not there; those that are in it already are not repeated.

    Rows say that they were imported, and from which tool.

    Raises
    ------
    ValueError
        If the file is no record of labels, or others keep changing it.
    OSError
        If it cannot be written; it is as before then.
    """
    for _ in range(TRIES):
        record = LabelFile(file)
        history = History(())
        history.add(record.open())
        new, merged = _differing(history, samples, tool)
        # None says that others have changed the file in between; rows that they appended are no change of these.
        if not new or record.append(new) is not None:
            return merged
    raise ValueError(f"{file} is changed again and again by others: try once more.")


def _differing(history: History, samples: Iterable[Sample], tool: str) -> tuple[list[tuple[str, str, str]], Merged]:
    """Choose the decisions that are not in a record yet, as rows, and count them."""
    rows, n_new, n_changed, n_same = list[tuple[str, str, str]](), 0, 0, 0
    for sample in samples:
        now = history.decision(sample.path)
        how = sample.how if not sample.label else IMPORT + tool
        if now.label == sample.label and (sample.label or now.how == how):
            n_same += 1
            continue
        if now.label or now.how in SET_ASIDE:
            n_changed += 1
        else:
            n_new += 1
        rows.append((sample.path, sample.label, how))
        history.add([Row(sample.path, sample.label, "", how)])
    return rows, Merged(n_new, n_changed, n_same)


def label_of(text: Any) -> str:
    """Check the name of a class out of a file, without blanks around it; a ValueError says what is wrong with it."""
    name = class_name(text.strip()) if isinstance(text, str) else ""
    if not name or len(name) > LONGEST_LABEL or _CONTROL.search(name):
        got = one_line(repr(text), 80)
        raise ValueError(f"expected the name of a class, one line of 1 to {LONGEST_LABEL} characters. Got {got}.")
    return name
