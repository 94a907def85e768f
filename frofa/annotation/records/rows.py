"""Rows of a record of labels: one decision each, and how they look in a CSV file."""

import csv
import datetime as dt
import io
import re
from contextlib import suppress
from typing import NamedTuple

from frofa.images.listing import count

COLUMNS = ("path", "label", "when", "how")
HEADER = b"path,label,when,how\n"
LABELLING = ("key", "guess", "cluster")
"""Ways in which people give labels: by a key, or by accepting one guess or those of a whole group."""
SET_ASIDE = ("unsure", "none")
"""Ways in which people say that an image gets no label: they are not sure, or it is none of the classes."""
UNDO, FOLDER = "undo", "folder"
IMPORT = "import:"
"""The beginning of how labels of other tools came; the tool's name follows."""
LONGEST_LABEL = 200
_QUOTED = re.compile(r'[",\r\n]|^\s|\s$')
_ROW_INSIDE = re.compile(rb",\d{4}-\d\d-\d\dT")


class Row(NamedTuple):
    """One decision: the label of an image, ``""`` for none, when it was made (ISO 8601, UTC), and how."""

    path: str
    label: str
    when: str
    how: str


def row_bytes(row: Row) -> bytes:
    r"""Write a row as a line of CSV, in UTF-8; bytes of names that are no UTF-8 stay what they are.

    Examples
    --------
    >>> from frofa.annotation.records.rows import Row, row_bytes
    >>> row_bytes(Row("a, b.jpg", "cat", "2026-01-02T03:04:05.678Z", "key"))
    b'"a, b.jpg",cat,2026-01-02T03:04:05.678Z,key\n'
    """
    fields = ('"' + field.replace('"', '""') + '"' if _QUOTED.search(field) else field for field in row)
    return (",".join(fields) + "\n").encode("utf-8", "surrogateescape")


def whole_rows(data: bytes) -> int:
    """Count the bytes of the rows that are whole: up to the last line break that stands in no quoted field."""
    end, quotes = data.rfind(b"\n") + 1, data.count(b'"')
    quotes -= data.count(b'"', end)
    while end and quotes % 2:
        before = data.rfind(b"\n", 0, end - 1) + 1
        quotes -= data.count(b'"', before, end)
        end = before
    return end


def is_torn(rest: bytes) -> bool:
    """Tell whether what follows the last whole row is a row that was cut off, and not rows behind an open quote."""
    return b"\n" not in rest or not _ROW_INSIDE.search(rest)


def parse_rows(data: bytes, where: str, first_line: int = 1) -> list[Row]:
    """Parse whole rows, without the header.

    A ValueError says that a row has more or fewer than four fields, or nothing for a path.
    """
    text = data.decode("utf-8", "surrogateescape")
    # A carriage return may be part of a file's name: lines end with what csv finds, and io does not translate it.
    reader = csv.reader(io.StringIO(text, newline=""))
    rows = []
    try:
        for fields in reader:
            if not any(fields):
                continue
            if len(fields) != len(COLUMNS) or not fields[0]:
                at = f"{where}, line {first_line + reader.line_num - 1}"
                got = f"{count(len(fields), 'field')}: {fields!r:.200}"
                raise ValueError(f"{at}: expected {','.join(COLUMNS)}. Got {got}")
            rows.append(Row(*fields))
    except csv.Error as error:
        raise ValueError(f"{where} is no table: {error}.") from error
    return rows


def check_header(header: bytes, where: str) -> None:
    """Check the first line of a file, without a byte order mark; a ValueError says what it is."""
    if header.rstrip(b"\r\n") != HEADER.rstrip(b"\n"):
        got = header.decode("utf-8", "replace").strip()
        raise ValueError(
            f"{where} is no record of labels: expected the columns {','.join(COLUMNS)} in its first line. "
            f"Got {got[:200]!r}: choose another file for the labels."
        )


def utc_now(after: str = "") -> str:
    """Give the time as ISO 8601 in UTC with milliseconds, at least one of them later than `after`, where it is one."""
    now = dt.datetime.now(dt.timezone.utc)
    # A time that was edited by hand may be anything.
    with suppress(ValueError, TypeError, OverflowError):
        now = max(now, dt.datetime.fromisoformat(after.replace("Z", "+00:00")) + dt.timedelta(milliseconds=1))
    return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
