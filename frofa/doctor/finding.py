"""Outcomes of checks, and findings that name the check."""

from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, TypeAlias

Status: TypeAlias = Literal["ok", "note", "skipped", "failed"]


class Outcome(NamedTuple):
    """The result of a check: ``"note"`` is no fault but worth a look, ``"skipped"`` says why it does not apply."""

    status: Status
    message: str


ok = partial(Outcome, "ok")
note = partial(Outcome, "note")
skipped = partial(Outcome, "skipped")
failed = partial(Outcome, "failed")


def ok_up_to(most: float, difference: float, message: str, fault: str) -> Outcome:
    """The message, and the fault behind it where the difference is larger or not a number."""
    return ok(message) if difference <= most else failed(f"{message}: {fault}")


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes
    ----------
    check : str
        Name of the check, such as ``"eval mode"``.
    status : {"ok", "note", "skipped", "failed"}
        As in `Outcome`.
    message : str
        One line for people to read.
    """

    check: str
    status: Status
    message: str

    def __str__(self) -> str:
        return f"{self.status:<8} {self.check}: {self.message}"
