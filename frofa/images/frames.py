"""Frames and columns of pandas, polars, pyarrow and their like, known by what they can do: none is imported here."""

from typing import Any


def is_frame(value: object) -> bool:
    """Tell whether a value is a table of named columns."""
    return hasattr(value, "columns") and (hasattr(value, "to_numpy") or hasattr(value, "to_pydict"))


def is_column(value: object) -> bool:
    """Tell whether a value is a column, such as a Series."""
    return hasattr(value, "to_pylist") or (hasattr(value, "to_list") and hasattr(value, "to_numpy"))


def column_names(frame: Any) -> list[Any]:
    """List the names of a frame's columns, in order."""
    return list(frame.column_names if hasattr(frame, "to_pydict") else frame.columns)


def only_column(frame: Any, what: str) -> list[Any]:
    """List the values of a frame's one column; a ValueError says what was expected if there are others."""
    names = column_names(frame)
    if len(names) != 1:
        listed = ", ".join(repr(str(name)) for name in names) or "none"
        raise ValueError(f"expected one column of {what}. Got {len(names)} columns, {listed}: pass one, frame[NAME].")
    return values_of(frame[names[0]])


def values_of(values: Any) -> list[Any]:
    """List the values of a column or another sequence; those of a column as Python's own objects, where possible."""
    for method in ("to_pylist", "to_list"):
        if hasattr(values, method):
            return list(getattr(values, method)())
    return list(values)
