"""Tables of paths and labels: CSV files and pandas DataFrames."""

import csv
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from frofa.images import ImageItem, as_image_list
from frofa.inputs._image_set import ImageSet, image_set

PATH, LABEL = "path", "label"
"""Names of columns where none are given."""

Rows = list[tuple[str, str]]


def read_table(file: Path, path_column: str | None, label_column: str | None) -> Rows:
    """Read path and label of each row; the label is ``""`` if the table has no column of labels.

    The first line names the columns; ``.tsv`` files have tabs between them, others commas.

    Raises
    ------
    ValueError
        If a column that was asked for is not there, or a row has no path.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as opened:
            reader = csv.DictReader(opened, delimiter="\t" if file.suffix.lower() == ".tsv" else ",", restval="")
            columns = list(reader.fieldnames or [])
            path, label = choose_columns(str(file), columns, path_column, label_column)
            rows = []
            for row in reader:
                if not row[path]:
                    raise ValueError(f"{file}, line {reader.line_num}, has nothing in the column {path!r}.")
                rows.append((row[path], row[label] if label else ""))
    except csv.Error as error:
        raise ValueError(f"{file} is not a table: {error}") from error
    if not rows:
        raise ValueError(f"{file} has no rows.")
    return rows


def choose_columns(
    what: str, columns: Sequence[object], path_column: str | None, label_column: str | None
) -> tuple[str, str | None]:
    """The columns of paths and labels; None where no labels were asked for and none are there."""
    for column, option in ((path_column or PATH, "path_column"), (label_column, "label_column")):
        if column is not None and column not in columns:
            listed = ", ".join(repr(str(name)) for name in columns) or "none"
            raise ValueError(f"{what} has no column {column!r}. Got columns {listed}: choose one by {option}.")
    if label_column is None and LABEL in columns:
        label_column = LABEL
    return path_column or PATH, label_column


def load_table(file: Path, base: Path | None, path_column: str | None, label_column: str | None) -> ImageSet:
    """The images that a CSV file lists, in its order.

    Relative paths are looked up in `base`, where one is given, and else in the directory of the file.
    """
    rows = read_table(file, path_column, label_column)
    paths = [_locate(path, base, file.parent) for path, _ in rows]
    return image_set(paths, [label for _, label in rows])


def _locate(path: str, base: Path | None, beside: Path) -> str:
    if base is None:
        return os.path.join(beside, path)  # noqa: PTH118 (a path of many)
    first, second = os.path.join(base, path), os.path.join(beside, path)  # noqa: PTH118
    return second if not os.path.lexists(first) and os.path.lexists(second) else first


def label_members(
    file: Path, find: Callable[[str], ImageItem], path_column: str | None, label_column: str | None
) -> ImageSet:
    """The images that a CSV file lists, in its order, each as `find` gives it for its path."""
    rows = read_table(file, path_column, label_column)
    return image_set([find(path) for path, _ in rows], [label for _, label in rows])


def load_frame(frame: Any, path_column: str | None, label_column: str | None) -> ImageSet:
    """The images of a pandas DataFrame, in its order; a single column needs no name."""
    columns = list(frame.columns)
    if len(columns) == 1 and path_column is None and label_column is None:
        return image_set(as_image_list(frame))
    path, label = choose_columns("the DataFrame", columns, path_column, label_column)
    return image_set(as_image_list(frame[path]), None if label is None else frame[label].tolist())
