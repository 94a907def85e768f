"""What a check finds."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

Status: TypeAlias = Literal["ok", "note", "skipped", "failed"]


class Outcome(NamedTuple):
    """What a check returns: ``"note"`` is no fault but worth a look; ``"skipped"`` says why it does not apply."""

    status: Status
    message: str


def ok(message: str) -> Outcome:
    """All is well."""
    return Outcome("ok", message)


def note(message: str) -> Outcome:
    """No fault, but worth a look."""
    return Outcome("note", message)


def skipped(message: str) -> Outcome:
    """The check does not apply; why."""
    return Outcome("skipped", message)


def failed(message: str) -> Outcome:
    """Something is off."""
    return Outcome("failed", message)


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes
    ----------
    check : str
        Name of the check, such as ``"eval mode"``.
    status : {"ok", "note", "skipped", "failed"}
    message : str
    """

    check: str
    status: Status
    message: str

    def __str__(self) -> str:
        return f"{self.status:<8} {self.check}: {self.message}"
