"""Accuracies by task and category, side by side, as text and as CSV."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TextIO

import numpy as np
import numpy.typing as npt

from frofa.evaluation import Interval, MultipleChoiceReport, paired_interval, score_choices
from frofa.scifibench.embedding import EmbeddedQuestions

ALL = "all"
COLUMNS = ("subset", "task", "category", "method", "n", "accuracy", "low", "high", "chance", "tied")


class Cell(NamedTuple):
    """Accuracy of one method on the questions of one task, and of one category or all."""

    subset: str
    task: str
    category: str
    method: str
    n: int
    accuracy: Interval
    chance: float
    tied: int


def make_cells(
    embedded: EmbeddedQuestions, scores: Mapping[str, npt.ArrayLike], confidence_level: float = 0.95
) -> list[Cell]:
    """Count right answers by each method's scores (n, m), by subset, task and category."""
    subsets = [(one.subset, one.task) for one in embedded.questions]
    found = list[Cell]()
    for subset, task in sorted(set(subsets), key=subsets.index):
        rows = np.array([row for row, other in enumerate(subsets) if other == (subset, task)], np.intp)
        reports = {
            method: score_choices(
                np.asarray(table)[rows],
                embedded.answer[rows],
                groups=embedded.categories[rows],
                confidence_level=confidence_level,
            )
            for method, table in scores.items()
        }
        for method, report in reports.items():
            found.extend(_cells(subset, task, method, report, embedded.categories[rows]))
    return found


def _cells(
    subset: str, task: str, method: str, report: MultipleChoiceReport, categories: npt.NDArray[np.str_]
) -> Iterable[Cell]:
    yield Cell(subset, task, ALL, method, report.n, report.accuracy, report.chance, int(report.tied.sum()))
    for name, group in report.groups.items():
        tied = int(report.tied[categories == name].sum())
        yield Cell(subset, task, str(name), method, group.n, group.accuracy, group.chance, tied)


def write_csv(cells: Iterable[Cell], stream: TextIO) -> None:
    """Write a row for each cell: shares from 0 to 1, ends of intervals, numbers of questions and of ties."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for cell in cells:
        numbers = [f"{value:.6f}" for value in (*cell.accuracy, cell.chance)]
        writer.writerow([cell.subset, cell.task, cell.category, cell.method, cell.n, *numbers, cell.tied])


def write_answers(embedded: EmbeddedQuestions, scores: Mapping[str, npt.ArrayLike], stream: TextIO) -> None:
    """Write a row for each question: the right letter, and each method's letter and its margin, above 0 if right."""
    reports = {method: score_choices(table, embedded.answer) for method, table in scores.items()}
    writer = csv.writer(stream, lineterminator="\n")
    extra = [name for method in reports for name in (method, f"{method}_margin")]
    writer.writerow(["split", "id", "category", "answer", *extra])
    for row, one in enumerate(embedded.questions):
        given = [(chr(65 + report.predicted[row]), f"{report.margins[row]:.6g}") for report in reports.values()]
        writer.writerow(
            [one.split, one.id, one.category, chr(65 + one.answer), *(part for pair in given for part in pair)]
        )


def table_lines(cells: Sequence[Cell]) -> list[str]:
    """Lay cells out for people: a block a task, a row a category, a column a method, in percent with intervals."""
    lines = []
    blocks = [(cell.subset, cell.task) for cell in cells]
    methods = list(dict.fromkeys(cell.method for cell in cells))
    for subset, task in dict.fromkeys(blocks):
        found = {(one.category, one.method): one for one in cells if (one.subset, one.task) == (subset, task)}
        names = list(dict.fromkeys(category for category, _ in found))
        chance = 100 * found[ALL, methods[0]].chance
        width = max(map(len, names))
        lines += ["", f"{subset} {task}: accuracy in % with interval; chance {chance:.1f}"]
        lines.append(f"{'':<{width}}  {'n':>5}" + "".join(f"  {method:<20}" for method in methods).rstrip())
        for name in names:
            shares = [found[name, method].accuracy for method in methods]
            texts = "".join(f"  {_percent(share):<20}" for share in shares).rstrip()
            lines.append(f"{name:<{width}}  {found[name, methods[0]].n:>5}{texts}")
    return lines[1:]


def difference(
    embedded: EmbeddedQuestions, first: npt.ArrayLike, second: npt.ArrayLike, confidence_level: float = 0.95
) -> Interval:
    """Accuracy by the second scores (n, m) less that by the first ones, on the same questions; ties count as wrong."""
    one, other = (score_choices(scores, embedded.answer).credit == 1 for scores in (first, second))
    return paired_interval(one, other, confidence_level)


def _percent(share: Interval) -> str:
    mean, low, high = (100 * value for value in share)
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"
