"""Which columns of a table are paths and labels, by their names."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

PATH, LABEL = "path", "label"
"""What the columns are called that are taken before others."""
PATHS = (PATH, "paths", "file", "files", "filename", "file_name", "filepath", "file_path", "image", "image_path")
LABELS = (LABEL, "labels", "class", "classes", "class_name", "category", "target")
"""Other names by which they are known, in capitals or not."""


class Chosen(NamedTuple):
    """The columns of paths and labels, and what is to be noted of others."""

    path: object
    label: object | None
    notes: list[str]


def choose_columns(
    what: str, columns: Sequence[object], path_column: str | None, label_column: str | None, *, labelled: bool = True
) -> Chosen:
    """The columns of paths and labels; no label where none were asked for and none are there, or not `labelled`.

    A column that is asked for by name is that one. Else it is ``path`` and ``label``, in whatever capitals; else the
    one that has another usual name, of `PATHS` and `LABELS`.

    Raises
    ------
    ValueError
        If a column that was asked for is not there, none is known to have paths, several might be meant, or two have
        one name.
    """
    path = find_column(what, columns, path_column, PATHS, "path_column")
    if path is None:
        raise ValueError(f"{what} has no column {PATH!r}. Got columns {listed(columns)}: choose one by path_column.")
    if not labelled:
        return Chosen(path, None, [])
    label = find_column(what, columns, label_column, LABELS, "label_column")
    if label == path and label_column is None:
        label = None
    others = [name for name in columns if name != path]
    return Chosen(path, label, [] if label is not None or not others else [_note_unused(what, others)])


def find_column(
    what: str, columns: Sequence[object], asked: str | None, known: Sequence[str], option: str
) -> object | None:
    """The column that is asked for, or else the one that is known by its name; None if none is.

    Raises
    ------
    ValueError
        If the one that was asked for is not there, or there are several.
    """
    found = _candidates(columns, [asked] if asked is not None else known)
    if asked is not None and not found:
        raise ValueError(f"{what} has no column {asked!r}. Got columns {listed(columns)}: choose one by {option}.")
    if len(found) > 1:
        twice = len(set(found)) < len(found)
        which = "two columns of one name" if twice else f"several columns that may be the {option}"
        advice = "rename one" if twice else f"choose one by {option}"
        raise ValueError(f"{what} has {which}: {listed(found)}. Got columns {listed(columns)}: {advice}.")
    return found[0] if found else None


def has_column(columns: Sequence[object], asked: str | None, known: Sequence[str]) -> bool:
    """Whether `find_column` would find one, or several."""
    return bool(_candidates(columns, [asked] if asked is not None else known))


def _candidates(columns: Sequence[object], names: Sequence[str]) -> list[object]:
    """The columns of the first name; or of that name in other capitals; or of any of the names."""
    rules: list[Callable[[object], bool]] = [
        lambda column: column == names[0],
        lambda column: _folded(column) == _folded(names[0]),
        lambda column: _folded(column) in names,
    ]
    return next((found for rule in rules if (found := list(filter(rule, columns)))), [])


def _note_unused(what: str, others: Sequence[object]) -> str:
    return (
        f"{what} gives no labels: none of its other columns, {listed(others)}, is called {LABEL!r} or one of "
        f"{', '.join(LABELS[1:])}; label_column (--label-column) chooses one"
    )


def listed(columns: Sequence[object]) -> str:
    """Names of columns, as errors show them."""
    shown = [repr(str(name)) for name in columns]
    rest = f", and {len(shown) - 20} more" if len(shown) > 20 else ""
    return ", ".join(shown[:20]) + rest if shown else "none"


def _folded(name: object) -> str:
    return str(name).strip().casefold().replace(" ", "_").replace("-", "_")
