"""SciFIBench's published files: parquet shards, as Hugging Face has them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from frofa.scifibench.questions import COLUMNS, Question, Task, question_of
from frofa.utils.optional import require

SHARD = re.compile(r"(?P<split>.+?)-(?P<number>\d{5})-of-(?P<total>\d{5})(?:-[0-9a-f]+)?")
NUMBER = re.compile(r"\d+")
TASKS: tuple[Task, ...] = ("Figure2Caption", "Caption2Figure")
ROWS = 64
"""Rows that are turned into Python's objects at a time."""
POINTER = b"version https://git-lfs"
"""The beginning of what stands for a file that Git LFS has not fetched."""


@dataclass(frozen=True)
class Split:
    """Files of a split, none of them read yet.

    Attributes
    ----------
    name : str
        Such as ``"CS_Figure2Caption"``.
    task : {"Figure2Caption", "Caption2Figure"} or None
        What its name says; None if it says nothing, and each row is what its images say.
    subset : str
        Such as ``"CS"``; splits whose names have no subset are of the first release, which was CS alone.
    files : tuple of Path
        Shards in their order.
    """

    name: str
    task: Task | None
    subset: str
    files: tuple[Path, ...]

    def read(self) -> list[Question]:
        """Read all questions, figures encoded as they are; a ValueError names the file and row that is wrong."""
        return [question for file in self.files for question in read_shard(file, self.name, self.task)]


def find_splits(path: Path) -> tuple[list[Split], list[str]]:
    """Find the splits in a file or below a folder, and say what was left out and why.

    File names are those of Hugging Face: ``SPLIT-00000-of-00001.parquet``, or ``SPLIT/0000.parquet`` where its server
    has converted them. Splits of the first release, ``Figure2Caption`` and ``Caption2Figure``, are left out beside
    ``CS_Figure2Caption`` and ``CS_Caption2Figure``, which have the same questions.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}.")
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"expected parquet files of SciFIBench. Got none in {path}.")
    grouped: dict[str, list[Path]] = {}
    for file in files:
        grouped.setdefault(_split_of(file), []).append(file)
    old = [task for task in TASKS if task in grouped and f"CS_{task}" in grouped]
    notes = [f"{task} left out: CS_{task} has the same questions" for task in old]
    splits = [_split(name, shards, whole=path.is_dir()) for name, shards in grouped.items() if name not in old]
    return sorted(splits, key=_place), notes


def read_shard(file: Path, split: str, task: Task | None) -> Iterator[Question]:
    """Read the questions of a parquet file, a few rows at a time."""
    parquet = require("pyarrow.parquet", "parquet")
    invalid = require("pyarrow", "parquet").ArrowException
    with file.open("rb") as stream:
        if stream.read(len(POINTER)) == POINTER:
            raise ValueError(f"{file} is a pointer to a file that was not fetched: run 'git lfs pull' there.")
    try:
        table = parquet.ParquetFile(file)
        _check_columns(file, table.schema_arrow.names)
        position = 0
        for batch in table.iter_batches(ROWS, columns=list(COLUMNS)):
            for row in batch.to_pylist():
                yield question_of(row, split, task, file, position)
                position += 1
    except (invalid, OSError) as error:
        raise ValueError(f"{file} is damaged, or not a parquet file: {error}") from error


def _check_columns(file: Path, names: Sequence[str]) -> None:
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise ValueError(f"{file} must have the columns {', '.join(COLUMNS)}. Got {', '.join(names) or 'none'}.")


def _split_of(file: Path) -> str:
    match = SHARD.fullmatch(file.stem)
    if match:
        return match["split"]
    return file.parent.name if NUMBER.fullmatch(file.stem) else file.stem


def _split(name: str, files: Sequence[Path], *, whole: bool) -> Split:
    """Make a split of its shards, which must be one set; of a `whole` folder, all of them must be there."""
    numbered = [(*_number(file), file) for file in files]
    if len({(file.parent, total) for _, total, file in numbered}) > 1:
        listed = ", ".join(map(str, files[:4]))
        raise ValueError(f"expected the shards of {name} in one folder, and of one set. Got {listed}.")
    numbers, total = [number for number, _, _ in numbered], numbered[0][1] or len(files)
    if whole and sorted(numbers) != [*range(total)]:
        missing = sorted({*range(total)} - {*numbers})
        what = f"shard {missing[0]} is missing" if missing else "some are there twice"
        raise ValueError(f"expected {total} shards of {name} in {files[0].parent}. Got {len(files)}: {what}.")
    task = next((one for one in TASKS if one.lower() in name.lower()), None)
    subset = re.sub(task, "", name, flags=re.IGNORECASE).strip("_- ") or "CS" if task else name
    return Split(name, task, subset, tuple(file for _, _, file in sorted(numbered)))


def _number(file: Path) -> tuple[int, int]:
    """Give the number of a shard, and how many there are, 0 if its name does not say so."""
    match = SHARD.fullmatch(file.stem)
    if match:
        return int(match["number"]), int(match["total"])
    return int(file.stem) if NUMBER.fullmatch(file.stem) else 0, 0


def _place(split: Split) -> tuple[str, int, str]:
    return split.subset, TASKS.index(split.task) if split.task else len(TASKS), split.name
