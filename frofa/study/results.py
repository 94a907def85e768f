"""Results of a study: one row a fit, and the tidy CSV file that holds them."""

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TextIO

NONE = "none"
"""Name of the augmentation in the rows of heads without one."""
WITH_CLS = "MAP+cls"
"""Name of a MAP head that sees the class token, too."""
VARIANTS: tuple[Literal["default", "c", "c2"], ...] = ("default", "c", "c2")
"""Variants of stylistic augmentations, as in `frofa.augmentations.Brightness`."""


@dataclass(frozen=True)
class Candidate:
    """A head (``"MAP"``, ``"MAP+cls"``, or a probe such as ``"ridge"``) with its augmentation and hyperparameters.

    The augmentation may be a sequence (``"brightness c2 > posterize c"``); its variant is empty where there are none,
    its level that of `Augmentation.at_level`. The setting has what is not the library's default (``"lr=0.01"``).
    """

    head: str
    augmentation: str = NONE
    variant: str = ""
    level: float = 0.0
    setting: str = ""


@dataclass(frozen=True)
class StudyResult(Candidate):
    """A candidate that was fitted to one support sample, and its top-1 accuracies in percent.

    The seed is the number of the support sample, from 0; `validation` is accuracy on a part of the training images.
    """

    dataset: str = ""
    backbone: str = ""
    shots: int = 0
    seed: int = 0
    validation: float = float("nan")
    test: float = float("nan")

    @property
    def candidate(self) -> Candidate:
        """The candidate alone, without place and accuracies."""
        return Candidate(*(getattr(self, field.name) for field in fields(Candidate)))


COLUMNS = [field.name for field in fields(StudyResult)]


def write_rows(file: TextIO, results: Iterable[StudyResult], *, header: bool) -> None:
    """Append results to an open CSV file."""
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows({**asdict(r), "validation": f"{r.validation:.2f}", "test": f"{r.test:.2f}"} for r in results)


def read_results(path: Path) -> list[StudyResult]:
    """Read the results of a file, without a last line that was cut off by a kill; ValueError if it is another file."""
    # A row that is not ended is not whole, even where all of its fields seem to be there: a digit may be lacking.
    lines = path.read_text("utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    reader = csv.DictReader(whole)
    if whole and reader.fieldnames != COLUMNS:
        raise ValueError(
            f"{path} is no file of study results: expected the columns {COLUMNS}. Got {reader.fieldnames}."
        )
    # The fields are str, int and float: each type reads its own text.
    kinds: dict[str, Any] = {field.name: field.type for field in fields(StudyResult)}
    return [StudyResult(**{name: kinds[name](value) for name, value in row.items()}) for row in reader]
