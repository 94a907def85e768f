"""Tables of paths and labels: CSV files and frames of pandas, polars or pyarrow."""

import csv
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from frofa.images.columns import LABEL, PATH, PATHS, ColumnsAsked, choose_columns, has_column
from frofa.images.frames import column_names, values_of
from frofa.images.image_set import ImageSet, as_image_list, image_set
from frofa.images.listing import count, is_image_name
from frofa.utils.text import in_utf8

RECORD = ("path", "label", "when", "how")
"""Columns of a record of labels, as `frofa label` writes it: a row for each decision, the last one of a path counts."""


class PathTable(NamedTuple):
    """Paths and labels of a CSV file: ``""`` where a row has no label, None if no column has labels."""

    paths: list[str]
    labels: list[str] | None
    notes: list[str]


def read_table(file: Path, asked: ColumnsAsked) -> PathTable:
    """Read the path and, if labels are wanted, the label of each row.

    The first line names the columns. It also shows what stands between them: of commas, semicolons and tabs (in
    ``.tsv`` files, tabs first) those that give a column of paths, and of these the ones that give the most columns.
    Blanks around names and labels are ignored, and those before paths where the names have some. A table of one or two
    columns whose first line names an image in one of them has no names: that column is paths, the other one labels.
    A record of labels has exactly the columns of `RECORD`: each path is given once, with the label of its last row.

    A ValueError says that a column that was asked for is not there, columns cannot be told apart, or a row has no path,
    or more fields than there are columns.
    """
    try:
        text = in_utf8(file.read_bytes()).decode("utf-8", "surrogateescape")
        separator = _separator(text, "\t,;" if file.suffix.lower() == ".tsv" else ",;\t", asked.path)
        # Blanks behind separators are part of the table's style if its names have them; else they belong to paths.
        blanks = any(name.startswith(" ") for name in _first_row(text, separator)[1:])
        rows = list(_rows(text, separator, skipinitialspace=blanks))
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{file} is not a table: {error}") from error
    first = [field.strip() for field in rows[0][1]] if rows else []
    columns: list[object] = [*first]
    # A table without names of columns: the first line is a row like the others.
    if asked.path is None and asked.label is None and _is_data(first):
        columns = [PATH if is_image_name(field) else LABEL for field in first]
    else:
        rows = rows[1:]
    path, label, notes = choose_columns(str(file), columns, asked)
    if not rows:
        raise ValueError(f"{file} has no rows.")
    at_path = columns.index(path)
    for line, row in rows:
        _check_row(f"{file}, line {line},", row, columns, at_path)
    if tuple(columns) == RECORD and label is not None:
        return _last_decisions([row for _, row in rows], notes)
    labels = None if label is None else [_field(row, columns.index(label)).strip() for _, row in rows]
    return PathTable([row[at_path] for _, row in rows], labels, notes)


def _last_decisions(rows: Sequence[Sequence[str]], notes: list[str]) -> PathTable:
    """Take each path of a record of labels once, with its last label; a last row that was cut off is none."""
    torn = len(rows) > 0 and len(rows[-1]) < len(RECORD)
    if torn:
        rows, notes = rows[:-1], [*notes, "the last row of the record was cut off, and is left out"]
    last = {row[0]: row for row in rows if len(row) > 1}
    # Of an image whose only label was taken back, the record says nothing.
    said = {path: row[1].strip() for path, row in last.items() if row[1].strip() or row[-1].strip() != "undo"}
    return PathTable([*said], [*said.values()], notes)


def _rows(text: str, separator: str, *, skipinitialspace: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and fields of each row that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=skipinitialspace)
    for row in reader:
        if any(field.strip() for field in row):
            yield reader.line_num, row


def _first_row(text: str, separator: str) -> list[str]:
    return next((row for _, row in _rows(text, separator)), [])


def _separator(text: str, separators: str, path_column: str | None) -> str:
    """Choose the separator that makes a column of paths of the first line, and the most columns of all."""

    def fit(separator: str) -> tuple[bool, int]:
        first = [field.strip() for field in _first_row(text, separator)]
        return has_column(first, path_column, PATHS) or (path_column is None and _is_data(first)), len(first)

    return max(separators, key=fit)


def _is_data(first: Sequence[str]) -> bool:
    """Tell whether a table's first line is not names of columns, but an image, perhaps with its label."""
    return len(first) <= 2 and sum(map(is_image_name, first)) == 1 and not has_column(first, None, PATHS)


def _check_row(where: str, row: Sequence[str], columns: Sequence[object], path: int) -> None:
    if not _field(row, path):
        raise ValueError(f"{where} has nothing in the column {columns[path]!r}.")
    if any(field.strip() for field in row[len(columns) :]):
        raise ValueError(f"{where} has {len(row)} fields for {len(columns)} columns: quote what has a separator.")


def _field(row: Sequence[str], position: int) -> str:
    return row[position] if position < len(row) else ""


def load_table(file: Path, base: Path | None, asked: ColumnsAsked) -> ImageSet:
    """Find the images that a CSV file lists, in its order.

    Relative paths are looked up in `base`, where one is given, and else in the directory of the file.
    """
    table = read_table(file, asked)
    beside = "" if file.parent == Path() else str(file.parent)
    if base is None:
        return image_set([os.path.join(beside, path) for path in table.paths], table.labels, table.notes)  # noqa: PTH118
    paths = [_locate(path, base, beside) for path in table.paths]
    # With the separator at the end, so that /data/images2 is not inside /data/images.
    inside = os.path.join(os.path.abspath(base), "")  # noqa: PTH100, PTH118
    n_outside = sum(not os.path.abspath(path).startswith(inside) for path in paths)  # noqa: PTH100
    notes = [f"{count(n_outside, 'image')} of {file} outside {base}"] if n_outside else []
    return image_set(paths, table.labels, [*table.notes, *notes])


def _locate(path: str, base: Path, beside: str) -> str:
    first, second = os.path.join(base, path), os.path.join(beside, path)  # noqa: PTH118 (a path of many)
    return second if not os.path.lexists(first) and os.path.lexists(second) else first


def load_frame(frame: Any, asked: ColumnsAsked) -> ImageSet:
    """Find the images of a frame of pandas, polars or pyarrow, in its order; a single column needs no name."""
    names = column_names(frame)
    if len(names) == 1 and asked.path is None and asked.label is None:
        return image_set(as_image_list(frame))
    path, label, notes = choose_columns(f"the {type(frame).__name__}", names, asked)
    labels = None if label is None else values_of(frame[label])
    return image_set(as_image_list(values_of(frame[path])), labels, notes)
