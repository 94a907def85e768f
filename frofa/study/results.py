"""Results of a study: one row a fit, and the tidy CSV file that holds them."""

import contextlib
import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TextIO, TypeAlias

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
    Features are what it takes in the comparison of heads, such as ``"auto"``, of so many views; empty in the study of
    augmentations, where MAP heads take tokens and probes pooled features.
    """

    head: str
    augmentation: str = NONE
    variant: str = ""
    level: float = 0.0
    setting: str = ""
    features: str = ""
    views: int = 1


@dataclass(frozen=True)
class StudyResult(Candidate):
    """A candidate that was fitted to one support sample, and its top-1 accuracies in percent.

    The seed is the number of the support sample, from 0; `validation` is accuracy on a part of the training images.
    Where probabilities are looked at: their mean negative log-likelihood in nats and expected calibration error in
    percent on the test images, the error that perfect probabilities would have on so few images, and that of the heads
    of all support samples together. The accuracy that the head itself expects, from the support sample alone; and the
    seconds of the fit, or its share of those of the fits that were done together. What is not known is not a number.
    """

    dataset: str = ""
    backbone: str = ""
    shots: int = 0
    seed: int = 0
    validation: float = float("nan")
    test: float = float("nan")
    log_loss: float = float("nan")
    calibration: float = float("nan")
    calibration_floor: float = float("nan")
    calibration_pooled: float = float("nan")
    out_of_fold: float = float("nan")
    seconds: float = float("nan")

    @property
    def candidate(self) -> Candidate:
        """The candidate alone, without place and accuracies."""
        return Candidate(*(getattr(self, field.name) for field in fields(Candidate)))


COLUMNS = [field.name for field in fields(StudyResult)]
_DECIMALS = {
    "validation": 2,
    "test": 2,
    "log_loss": 4,
    "calibration": 2,
    "calibration_floor": 2,
    "calibration_pooled": 2,
    "out_of_fold": 2,
    "seconds": 4,
}


def write_rows(file: TextIO, results: Iterable[StudyResult], *, header: bool) -> None:
    """Append results to an open CSV file."""
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(map(_row, results))


def _row(result: StudyResult) -> dict[str, Any]:
    row = asdict(result)
    numbers = {name: f"{row[name]:.{decimals}f}" for name, decimals in _DECIMALS.items()}
    # What is not a number is an empty field, as in most CSV files; a level has no more digits than it needs.
    return {**row, "level": f"{result.level:g}", **{k: "" if v == "nan" else v for k, v in numbers.items()}}


def read_results(path: Path) -> list[StudyResult]:
    """Read the results of a file, without a last line that was cut off by a kill; ValueError if it is another file.

    A file may lack columns of which all have their default values, as those of earlier versions do.
    """
    # A row that is not ended is not whole, even where all of its fields seem to be there: a digit may be lacking.
    lines = path.read_text("utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    reader = csv.DictReader(whole)
    needed = {"head", "dataset", "backbone", "shots", "seed", "validation", "test"}
    if whole and not needed <= set(reader.fieldnames or ()) <= set(COLUMNS):
        raise ValueError(
            f"{path} is no file of study results: expected the columns {COLUMNS}. Got {reader.fieldnames}."
        )
    # The fields are str, int and float: each type reads its own text.
    kinds: dict[str, Any] = {field.name: field.type for field in fields(StudyResult)}
    return [
        StudyResult(**{name: kinds[name](value) for name, value in row.items() if value or kinds[name] is str})
        for row in reader
    ]


Append: TypeAlias = Callable[[Iterable[StudyResult]], None]
"""A function that writes results to the file, which are on disk when it returns."""
Key = tuple[str, str, int, int, Candidate]
"""A fit among all others: dataset, backbone, shots, seed, candidate."""


@contextlib.contextmanager
def appending(path: Path) -> Iterator[tuple[set[Key], Append]]:
    """Keys of the fits in a results file, and a function that appends to it; a line cut off by a kill is removed."""
    done = read_results(path) if path.exists() else []
    if path.exists():
        content = path.read_bytes()
        # A killed run may have left half a row, which the next one would be joined to.
        if not content.endswith(b"\n"):
            content = content[: content.rfind(b"\n") + 1]
            path.write_bytes(content)
        if content and content.partition(b"\n")[0].decode().split(",") != COLUMNS:
            # A file of an earlier version gets the columns that it lacks.
            with path.open("w", encoding="utf-8", newline="") as file:
                write_rows(file, done, header=True)
    with path.open("a", encoding="utf-8", newline="") as file:
        if file.tell() == 0:
            write_rows(file, [], header=True)

        def append(results: Iterable[StudyResult]) -> None:
            write_rows(file, results, header=False)
            file.flush()

        yield {(r.dataset, r.backbone, r.shots, r.seed, r.candidate) for r in done}, append
