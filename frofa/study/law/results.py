"""Accuracies by backbone, sparsity and shots: one row a fit, in a CSV file that appears whole."""

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from frofa.utils.files import write_atomically


@dataclass(frozen=True)
class LawResult:
    """Top-1 accuracy, from 0 to 1, of a head on the test images, fitted to so many images a class.

    Of `n_weights` weights of the backbone, `n_kept` are not zero; `sparsity` is what was asked for, of the linear
    layers in its blocks. The fingerprint is that of the images and the weights.
    """

    dataset: str
    backbone: str
    sparsity: float
    n_weights: int
    n_kept: int
    shots: int
    seed: int
    n_classes: int
    n_test: int
    accuracy: float
    fingerprint: str

    @property
    def place(self) -> tuple[str, str, float]:
        """Set, backbone and sparsity, which share their features."""
        return self.dataset, self.backbone, self.sparsity


def write_law_results(path: Path, results: Iterable[LawResult]) -> None:
    """Write all results, in place of those that the file had."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(LawResult)], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**asdict(one), "accuracy": f"{one.accuracy:.5f}"} for one in results)
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))


def read_law_results(path: Path) -> list[LawResult]:
    """Read the results of a file, none where there is no file; another file is a ValueError."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        columns = [field.name for field in fields(LawResult)]
        if reader.fieldnames != columns:
            raise ValueError(f"{path} is no file of a law: expected the columns {columns}. Got {reader.fieldnames}.")
        kinds: dict[str, Any] = {field.name: field.type for field in fields(LawResult)}
        return [LawResult(**{name: kinds[name](value) for name, value in row.items()}) for row in reader]
