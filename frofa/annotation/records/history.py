"""Decisions in their order: what counts of each image now, what was before, and what can be undone."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from frofa.annotation.records.rows import LABELLING, SET_ASIDE, UNDO, Row

UNDOABLE = (*LABELLING, *SET_ASIDE)


class Decision(NamedTuple):
    """A decision on an image: its label, ``""`` for none, and how it was made."""

    label: str
    how: str


NOBODY: Mapping[str, str] = MappingProxyType({})
NOTHING = Decision("", UNDO)


@dataclass(eq=False)
class Request:
    """Rows that were written together, at one time; `client` is who asked for them, where that is known."""

    when: str
    client: str | None = None
    standing: set[int] = field(default_factory=set)


class History:
    """All rows of a record, and what they come to.

    Of each path there is a pile of decisions, the last of which counts. A row of ``undo`` takes the last one off, if
    what is below it is the label that the row says; else it is a decision like others.

    Parameters
    ----------
    counted : container of str
        The paths that are counted; rows of others are kept all the same.

    Attributes
    ----------
    rows : list of Row
    classes : dict of str to int
        The number of images of each class, in the order in which classes appeared.
    set_aside : dict of str to int
        The number of images of ``unsure`` and ``none``.
    """

    def __init__(self, counted: Container[str]):
        self.rows: list[Row] = []
        self._counted = counted
        self.classes: dict[str, int] = {}
        self._piles: dict[str, list[int]] = {}
        self._requests: list[Request] = []
        self._of_row: dict[int, Request] = {}
        self.set_aside = dict.fromkeys(SET_ASIDE, 0)

    def add(self, rows: Iterable[Row], clients: Mapping[str, str] = NOBODY) -> None:
        """Add rows behind the others, those of one time as one request, of the client that `clients` has for it."""
        for row in rows:
            number = len(self.rows)
            self.rows.append(row)
            pile = self._piles.setdefault(row.path, [])
            before = self.decision(row.path)
            if row.how == UNDO and pile and self._below(pile).label == row.label:
                self._take_off(pile)
            else:
                pile.append(number)
                self._put(number, row, clients.get(row.when))
            if row.label:
                self.classes.setdefault(row.label, 0)
            if row.path in self._counted:
                self._count(before, self.decision(row.path))

    def decision(self, path: str) -> Decision:
        """Give the decision that counts of a path."""
        pile = self._piles.get(path)
        return self._of(pile[-1]) if pile else NOTHING

    def is_confirmed(self, path: str) -> bool:
        """Tell whether the label of a path was given twice in a row."""
        pile = self._piles.get(path, [])
        return len(pile) > 1 and self._of(pile[-1]).label == self._below(pile).label != ""

    def decided(self) -> dict[str, Decision]:
        """Give the decision on each path that has a label or is set aside."""
        found = {path: self._of(pile[-1]) for path, pile in self._piles.items() if pile}
        return {path: one for path, one in found.items() if one.label or one.how in SET_ASIDE}

    def changed(self, since: int) -> list[str]:
        """Paths of the rows from this number on, each once."""
        return list(dict.fromkeys(row.path for row in self.rows[since:]))

    @property
    def n_undoable(self) -> int:
        """Number of requests that can be taken back."""
        return len(self._requests)

    def to_undo(self, client: str | None) -> dict[str, str]:
        """Labels to restore, by path, to take back the last request of a client, or of anybody if it has none.

        Images that others have decided on since are left alone.
        """
        own = [request for request in self._requests if client is not None and request.client == client]
        for request in reversed(own or self._requests):
            last = [number for number in sorted(request.standing) if self._is_last(number)]
            if last:
                paths = [self.rows[number].path for number in last]
                return {path: self._below(self._piles[path]).label for path in paths}
        return {}

    def _put(self, number: int, row: Row, client: str | None) -> None:
        """Count a row as part of what can be undone."""
        if row.how not in UNDOABLE:
            return
        if not self._requests or self._requests[-1].when != row.when:
            self._requests.append(Request(row.when, client))
        self._requests[-1].standing.add(number)
        self._of_row[number] = self._requests[-1]

    def _take_off(self, pile: list[int]) -> None:
        number = pile.pop()
        request = self._of_row.pop(number, None)
        if request is not None:
            request.standing.discard(number)
            if not request.standing:
                self._requests.remove(request)

    def _is_last(self, number: int) -> bool:
        return self._piles[self.rows[number].path][-1] == number

    def _of(self, number: int) -> Decision:
        row = self.rows[number]
        return Decision(row.label, row.how)

    def _below(self, pile: Sequence[int]) -> Decision:
        return self._of(pile[-2]) if len(pile) > 1 else NOTHING

    def _count(self, before: Decision, after: Decision) -> None:
        for decision, change in ((before, -1), (after, 1)):
            if decision.label:
                self.classes[decision.label] += change
            elif decision.how in SET_ASIDE:
                self.set_aside[decision.how] += change
