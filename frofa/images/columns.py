"""The columns of paths and labels of a table, found by their names."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

PATH, LABEL = "path", "label"
"""Names of the columns that are taken before others."""
PATHS = (PATH, "paths", "file", "files", "filename", "file_name", "filepath", "file_path", "image", "image_path")
LABELS = (LABEL, "labels", "class", "classes", "class_name", "category", "target")
"""Usual names of these columns, in small letters and with underscores."""


class ColumnsAsked(NamedTuple):
    """Names of the columns that the user asks for, None where the usual names count, and whether labels are wanted."""

    path: str | None = None
    label: str | None = None
    labelled: bool = True


def choose_columns(
    what: str, columns: Sequence[object], asked: ColumnsAsked
) -> tuple[object, object | None, list[str]]:
    """Choose the columns of paths and of labels (None without labels), and note if no column is known to have labels.

    A column that is asked for by name is that one. Else it is ``path`` and ``label``, in whatever capitals; else the
    one that has another usual name, of `PATHS` and `LABELS`. A ValueError says that there is no such column, or that
    several may be meant.
    """
    path = find_column(what, columns, asked.path, PATHS, "path_column")
    if path is None:
        raise ValueError(f"{what} has no column {PATH!r}. Got columns {listed(columns)}: choose one by path_column.")
    if not asked.labelled:
        return path, None, []
    label = find_column(what, columns, asked.label, LABELS, "label_column")
    if label == path and asked.label is None:
        label = None
    others = [name for name in columns if name != path]
    if label is not None or not others:
        return path, label, []
    note = (
        f"{what} gives no labels: none of its other columns, {listed(others)}, is called {LABEL!r} or one of "
        f"{', '.join(LABELS[1:])}; label_column (--label-column) chooses one"
    )
    return path, None, [note]


def find_column(
    what: str, columns: Sequence[object], asked: str | None, known: Sequence[str], option: str
) -> object | None:
    """Find the column that is asked for, or else the one of a known name; None if there is none.

    A ValueError says that the one asked for is not there, or that there are several.
    """
    found = _candidates(columns, asked, known)
    if asked is not None and not found:
        raise ValueError(f"{what} has no column {asked!r}. Got columns {listed(columns)}: choose one by {option}.")
    if len(found) > 1:
        twice = len(set(found)) < len(found)
        which = "two columns of one name" if twice else f"several columns that may be the {option}"
        advice = "rename one" if twice else f"choose one by {option}"
        raise ValueError(f"{what} has {which}: {listed(found)}. Got columns {listed(columns)}: {advice}.")
    return found[0] if found else None


def has_column(columns: Sequence[object], asked: str | None, known: Sequence[str]) -> bool:
    """Tell whether `find_column` would find a column, or several."""
    return bool(_candidates(columns, asked, known))


def _candidates(columns: Sequence[object], asked: str | None, known: Sequence[str]) -> list[object]:
    """Columns of the first name that may be meant; or of that name in other capitals; or of any of the names."""
    names = known if asked is None else [asked]
    rules: list[Callable[[object], bool]] = [
        lambda column: column == names[0],
        lambda column: _folded(column) == _folded(names[0]),
        lambda column: _folded(column) in names,
    ]
    # The first rule that fits any column decides: an exact name before one in other capitals.
    return next((found for rule in rules if (found := list(filter(rule, columns)))), [])


def listed(columns: Sequence[object]) -> str:
    """Quote the names of columns as errors show them, the first twenty of many."""
    shown = [repr(str(name)) for name in columns]
    rest = f", and {len(shown) - 20} more" if len(shown) > 20 else ""
    return ", ".join(shown[:20]) + rest if shown else "none"


def _folded(name: object) -> str:
    return str(name).strip().casefold().replace(" ", "_").replace("-", "_")
