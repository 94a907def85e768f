"""Requests that are done, and classes in their order, beside a record: what is sent again after a kill is done once.

The record has all decisions; this file only knows who asked for which, and may be deleted.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from frofa.utils.files import write_atomically
from frofa.utils.json import parse_json

MOST_BYTES = 2**22
"""Size from which the older half of the file is dropped."""


class Done(NamedTuple):
    """A request that was, or was about to be, written: by whom, its number, the time and number of its rows."""

    client: str
    number: int
    when: str
    n_rows: int


class Classes(NamedTuple):
    """Classes in the order of their keys, and those that are no more, as they have another name."""

    order: list[str]
    gone: list[str]


class RequestLog:
    """A file of JSON, one object a line; lines that are cut off or were edited count for nothing.

    Parameters
    ----------
    record : Path
        The record of labels, beside which it is.
    """

    def __init__(self, record: Path):
        self.file = record.with_name(f".{record.name}.requests")

    def read(self) -> tuple[list[Done], Classes]:
        """Read all requests, and the last list of classes."""
        try:
            lines = self.file.read_bytes().splitlines()
        except FileNotFoundError:
            return [], Classes([], [])
        done, classes = [], Classes([], [])
        for line in lines:
            entry = _parsed(line)
            if isinstance(entry, Done):
                done.append(entry)
            elif entry is not None:
                classes = entry
        return done, classes

    def note(self, entry: Done | Classes) -> None:
        """Write a request before its rows, so that none is written that is not known; or the classes.

        A kill loses nothing of it; it is not synced, as after a power failure no page waits for an answer.
        """
        self._shorten()
        # With a line break before it, too: the line before may be cut off.
        line = f"\n{json.dumps(entry._asdict())}\n".encode()
        descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)

    def _shorten(self) -> None:
        if not self.file.exists() or self.file.stat().st_size < MOST_BYTES:
            return
        done, classes = self.read()
        kept: list[Done | Classes] = [*done[len(done) // 2 :], classes]
        data = "".join(f"{json.dumps(one._asdict())}\n" for one in kept).encode()
        write_atomically(self.file, lambda file: file.write(data))


def _parsed(line: bytes) -> Done | Classes | None:
    try:
        entry = parse_json(line, ValueError)
    except ValueError:
        return None
    if not isinstance(entry, dict):
        return None
    fields: list[Any] = [entry.get(name) for name in Done._fields]
    if [type(field) for field in fields] == [str, int, str, int]:
        return Done(*fields)
    lists: list[Any] = [entry.get(name) for name in Classes._fields]
    if all(map(_is_texts, lists)):
        return Classes(*lists)
    return None


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
