"""The tables of a comparison of heads, in Markdown."""

from collections.abc import Iterable, Mapping

import numpy as np

from frofa.evaluation import Interval, mean_interval
from frofa.study.reporting.answers import in_shots, in_words, signed
from frofa.study.reporting.heads.methods import (
    BLEND,
    FEW_SHOT,
    METHODS,
    ORACLES,
    SHRINKAGE,
    TUNED,
    Cells,
    Method,
    each_cell,
    gains,
)
from frofa.study.reporting.summary import BySeed, Cell, Scores, average, compare
from frofa.study.reporting.tables import change_text, section, table, titled

BEST_TUNED, BEST_ORACLE = TUNED["auto, 6 views"], ORACLES["auto, 6 views"]
FIXED = tuple(method for method in METHODS if method.choice == "nothing")
"""Methods that are one head: those that are chosen have probabilities in some cells and none in others."""


def accuracies(cells: Cells) -> str:
    """Accuracy of each method by shots, with the mean over the sets, over all backbones and for each."""
    intro = "Top-1 accuracy on the test images, %, mean over the sets; intervals over support samples."
    return section("## Accuracy by shots", intro, [_accuracy_table(name, part) for name, part in _backbones(cells)])


def each_set(cells: Cells) -> str:
    """Accuracy of each method by shots, for each set and backbone."""
    parts = []
    for dataset, backbone in sorted({(cell.dataset, cell.backbone) for cell in cells}):
        part = {cell: s for cell, s in cells.items() if (cell.dataset, cell.backbone) == (dataset, backbone)}
        parts.append(_accuracy_table(f"{dataset}, {backbone}", part))
    return section("## Accuracy on each set", "Top-1 accuracy on the test images, %.", parts)


def against(cells: Cells, baseline: Method) -> str:
    """Paired changes of each method against a baseline by shots."""
    parts = []
    for name, part in _backbones(cells):
        rows = []
        for method in METHODS:
            found = gains(part, method, baseline) if method is not baseline else {}
            changes = [compare(_at(found, k)) if _is_whole(found, part, k) else None for k in _shots(part)]
            rows.append([method.name, *map(change_text, changes)])
        parts.append(titled(f"### {name}", table(_header("method", part), rows)))
    intro = f"Paired change against {baseline.name}, in points: {baseline.meaning}, in each case by itself."
    return section(f"## Against the {baseline.name}", intro, parts)


def by_set(cells: Cells, treated: Method, baseline: Method) -> str:
    """A table of one paired change: sets and backbones by shots."""
    found = gains(cells, treated, baseline)
    places = sorted({(cell.dataset, cell.backbone) for cell in found})
    rows = []
    for dataset, backbone in places:
        here = {
            cell.shots: compare([found[cell]]) for cell in found if (cell.dataset, cell.backbone) == (dataset, backbone)
        }
        rows.append([f"{dataset}, {backbone}", *(change_text(here.get(k)) for k in _shots(cells))])
    title = f"## {treated.name} against {baseline.name}, set by set"
    return titled(title, "In points." if rows else "", table(_header("set, backbone", cells), rows))


def calibration(cells: Cells) -> str:
    """Expected calibration error by shots."""
    intro = (
        "Expected calibration error on the test images, %, 15 bins, mean over sets and backbones: on the predictions "
        "of all support samples together; in parentheses, on those of each by itself, and what perfect probabilities "
        "would have there by chance, as there are few test images. Then the mean negative log-likelihood, in nats."
    )
    errors, losses = [], []
    for method in FIXED:
        pooled, single, floor, loss = (
            each_cell(cells, method, lambda scores, name=name: scores.column(name))  # type: ignore[misc]
            for name in ("calibration_pooled", "calibration", "calibration_floor", "log_loss")
        )
        rows: tuple[list[str], list[str]] = ([method.name], [method.name])
        for k in _shots(cells):
            columns = (pooled, single, floor, loss)
            means = [_over_cells(_at(part, k)) if _is_whole(part, cells, k) else None for part in columns]
            shown = [mean.mean for mean in means if mean]
            rows[0].append("{:.1f} ({:.1f}, {:.1f})".format(*shown) if len(shown) == len(means) else "")
            rows[1].append(f"{shown[3]:.3f}" if len(shown) == len(means) else "")
        errors.append(rows[0])
        losses.append(rows[1])
    header = _header("method", cells)
    return section("## Calibration", intro, [table(header, errors), table(header, losses)])


def expectations(cells: Cells) -> str:
    """Accuracy that heads expect of themselves, less that which they reach on the test images."""
    intro = (
        "Out-of-fold accuracy on the support sample less test accuracy, in points, mean over sets and backbones; in "
        "parentheses, the mean distance of the two for one support sample."
    )
    rows = []
    for method in (FEW_SHOT, BLEND, *SHRINKAGE.values()):
        differences = each_cell(cells, method, _optimism)
        texts = []
        for k in _shots(cells):
            values = _at(differences, k) if _is_whole(differences, cells, k) else []
            mean = _over_cells(values)
            distance = np.mean([abs(d) for one in values for d in one.values()]) if values else 0
            texts.append(f"{signed(mean)} ({distance:.1f})" if mean else "")
        rows.append([method.name, *texts])
    return section("## What heads expect of themselves", intro, [table(_header("method", cells), rows)])


def _optimism(scores: Scores) -> BySeed:
    expected = scores.column("out_of_fold")
    return {seed: expected[seed] - test for seed, test in scores.test.items()}


def seconds(cells: Cells) -> str:
    """Seconds of a fit."""
    intro = "Seconds a fit, mean over sets and backbones: its share of the fits of all support samples, done together."
    rows = []
    for method in FIXED:
        found = each_cell(cells, method, lambda scores: scores.column("seconds"))
        means = [_over_cells(_at(found, k)) if _is_whole(found, cells, k) else None for k in _shots(cells)]
        rows.append([method.name, *(f"{mean.mean:.3f}" if mean else "" for mean in means)])
    return section("## Seconds", intro, [table(_header("method", cells), rows)])


def oracle_choices(cells: Cells) -> str:
    """Count how often each setting was the best, by validation and by test accuracy."""
    methods = (BEST_TUNED, BEST_ORACLE)
    counts: dict[str, list[int]] = {}
    for column, method in enumerate(methods):
        for scores in cells.values():
            if picked := method.pick(scores):
                counts.setdefault(in_words(picked.candidate), [0, 0])[column] += 1
    rows = [[name, *map(str, pair)] for name, pair in sorted(counts.items(), key=lambda item: -sum(item[1]))]
    intro = "In how many cases (set, backbone, shots) each probe was the best, by validation and by test accuracy."
    header = ["probe", *(method.name for method in methods)]
    return section("## Which probes were the best", intro, [table(header, rows)])


def _backbones(cells: Cells) -> list[tuple[str, Cells]]:
    names = sorted({cell.backbone for cell in cells})
    parts: list[tuple[str, Cells]] = [
        (name, {cell: s for cell, s in cells.items() if cell.backbone == name}) for name in names
    ]
    return [(f"Mean over {len(names)} backbones", cells), *parts] if len(names) > 1 else parts


def _accuracy_table(title: str, cells: Cells) -> str:
    rows = []
    for method in METHODS:
        found = each_cell(cells, method, lambda scores: scores.test)
        whole = [_over_cells(_at(found, k)) if _is_whole(found, cells, k) else None for k in _shots(cells)]
        rows.append([method.name, *(f"{interval:.1f}" if interval else "" for interval in whole)])
    return titled(f"### {title}", table(_header("method", cells), rows))


def _is_whole(found: Mapping[Cell, BySeed], cells: Cells, shots: int) -> bool:
    """Tell whether all cells of a number of shots have a value: means over other sets cannot be compared."""
    return all(cell in found for cell in cells if cell.shots == shots)


def _over_cells(values: list[BySeed]) -> Interval | None:
    """Mean over cells, with an interval over seeds."""
    by_seed = average(values)
    return mean_interval(list(by_seed.values())) if by_seed else None


def _at(found: Mapping[Cell, BySeed], shots: int) -> list[BySeed]:
    return [values for cell, values in found.items() if cell.shots == shots]


def _shots(cells: Iterable[Cell]) -> list[int]:
    return sorted({cell.shots for cell in cells})


def _header(first: str, cells: Iterable[Cell]) -> list[str]:
    return [first, *map(in_shots, _shots(cells))]
