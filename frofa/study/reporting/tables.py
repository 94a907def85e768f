"""The tables of a study's report, in Markdown; a table without rows is left out."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from frofa.evaluation import Interval
from frofa.study.reporting.answers import in_shots, in_words, signed
from frofa.study.reporting.levels import pooled_levels
from frofa.study.reporting.summary import (
    FAMILIES,
    METHODS,
    PROBES,
    ByShots,
    CandidateFilter,
    Cell,
    Change,
    Scores,
    augmentation_names,
    by_backbone,
    chosen,
    compare,
    is_sequence,
    minus,
    of_augmentation,
    pooled_accuracy,
    pooled_by_shots,
)
from frofa.study.results import VARIANTS

COMPARED = (
    ("best FroFA", "MAP default"),
    ("best FroFA", "MAP"),
    ("best FroFA", "MAP^wd"),
    ("best probe", "MAP^wd"),
    ("best FroFA", "best probe"),
    ("MAP+cls", "MAP^wd"),
    ("MAP+cls + FroFA", "MAP+cls"),
    ("MAP+cls + FroFA", "best probe"),
    *((f"{probe} + FroFA", probe) for probe in PROBES),
)
"""Pairs of methods, of which the table of gains says how far the first is above the second."""

Cells = Mapping[Cell, list[Scores]]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of the rows that have more than their first column's text; empty without rows."""
    # Rows of names without numbers say nothing; a bar inside a cell would end it.
    kept = [row for row in rows if any(row[1:])]
    if not kept:
        return ""
    lines = [header, ["---"] * len(header), *kept]
    return "\n".join("| " + " | ".join(text.replace("|", r"\|") for text in line) + " |" for line in lines)


def change_text(change: Change | None) -> str:
    """A change with its interval, bold where the interval excludes zero."""
    if not change:
        return ""
    text = signed(change.interval)
    return text if change.verdict == "not distinguishable" else f"**{text}**"


def p_text(change: Change | None) -> str:
    """A p-value; empty for a single pair."""
    if not change or change.pairs < 2:
        return ""
    return "< 0.001" if change.p < 0.001 else f"{change.p:.3f}"


def titled(title: str, *parts: str) -> str:
    """A heading with the parts that are not empty below it; empty without any."""
    kept = [part for part in parts if part]
    return "\n\n".join([title, *kept]) if kept else ""


def section(title: str, intro: str, parts: Sequence[str]) -> str:
    """A heading and an introduction with parts below them; empty if all parts are."""
    return titled(title, intro, *parts) if any(parts) else ""


def each_backbone(cells: Cells, title: str, intro: str, body: Callable[[ByShots], str]) -> str:
    """A section with a part for each backbone; empty if all parts are."""
    backbones = by_backbone(cells)
    return section(title, intro, [titled(f"### {name}", body(by_shots)) for name, by_shots in backbones.items()])


def accuracies(cells: Cells) -> str:
    """Methods by shots for each set and backbone, and their mean over the sets."""
    parts = []
    for backbone, by_shots in by_backbone(cells).items():
        names = sorted({name for sets in by_shots.values() for name in sets})
        for name in names:
            of_set = {shots: {name: sets[name]} for shots, sets in by_shots.items() if name in sets}
            parts.append(_accuracy_table(f"### {name}, {backbone}", of_set))
        if len(names) > 1:
            whole = {shots: sets for shots, sets in by_shots.items() if len(sets) == len(names)}
            parts.append(_accuracy_table(f"### Mean over {len(names)} sets, {backbone}", whole))
    intro = "Top-1 accuracy on the test images, %; intervals over seeds, also of a mean over sets."
    return section("## Accuracy", intro, parts)


def _accuracy_table(title: str, by_shots: ByShots) -> str:
    def text(interval: Interval | None) -> str:
        return f"{interval:.1f}" if interval else ""

    rows = [
        [name, *(text(pooled_accuracy(sets, method)) for sets in by_shots.values())] for name, method in METHODS.items()
    ]
    return titled(title, _shots_table("method", by_shots, rows))


def _shots_table(first: str, by_shots: ByShots, rows: Iterable[Sequence[str]]) -> str:
    """A table with a column for each number of shots, after the first column."""
    return table([first, *map(in_shots, by_shots)], rows)


def _changes(by_shots: ByShots, treated: Mapping[str, CandidateFilter], baseline: str) -> list[list[str]]:
    """Rows of a label, and the changes against the baseline by shots."""
    rows = []
    for label, candidates in treated.items():
        changes = pooled_by_shots(by_shots, candidates, METHODS[baseline])
        rows.append([label, *(change_text(changes.get(shots)) for shots in by_shots)])
    return rows


def augmentations(cells: Cells, baseline: str) -> str:
    """Each augmentation's change against a baseline, at its best level and variant."""
    family = {name: f" ({family})" for family, names in FAMILIES.items() for name in names}

    def body(by_shots: ByShots) -> str:
        names = [name for name in augmentation_names(by_shots) if not is_sequence(name)]
        treated = {f"{name}{family.get(name, '')}": of_augmentation(name) for name in names}
        return _shots_table("augmentation", by_shots, _changes(by_shots, treated, baseline))

    intro = f"Change against {baseline}, in points. Level and variant are chosen by validation accuracy."
    return each_backbone(cells, f"## Each augmentation against {baseline}", intro, body)


def variants(cells: Cells) -> str:
    """Changes by variant, for the augmentations that have several."""

    def body(by_shots: ByShots) -> str:
        treated = {f"{name} {v}": of_augmentation(name, [v]) for name in augmentation_names(by_shots) for v in VARIANTS}
        # The variant is the last word of a row's label; augmentations with one variant are in the table above.
        rows = [row for row in _changes(by_shots, treated, "MAP default") if any(row[1:])]
        labels = [row[0].rpartition(" ")[0] for row in rows]
        several = [row for row, label in zip(rows, labels, strict=True) if labels.count(label) > 1]
        return _shots_table("augmentation, variant", by_shots, several)

    return each_backbone(cells, "## Variants", "Change against MAP default, in points, at the best level.", body)


def sequences(cells: Cells) -> str:
    """Changes by sequence of augmentations."""

    def body(by_shots: ByShots) -> str:
        treated = {name: of_augmentation(name) for name in augmentation_names(by_shots) if is_sequence(name)}
        return _shots_table("sequence", by_shots, _changes(by_shots, treated, "MAP default"))

    return each_backbone(cells, "## Sequences", "Change against MAP default, in points, at the best level.", body)


def brightness(cells: Cells) -> str:
    """Accuracy by level of brightness, a table a variant."""

    def body(by_shots: ByShots) -> str:
        return "\n\n".join(part for v in VARIANTS if (part := _level_table(by_shots, v)))

    intro = "Test accuracy, %, and its paired change against level 0, which is MAP default."
    return each_backbone(cells, "## Brightness by level", intro, body)


def _level_table(by_shots: ByShots, variant: str) -> str:
    columns = [
        {point.level: point for point in pooled_levels(sets, "brightness", variant)} for sets in by_shots.values()
    ]
    rows = []
    for level in sorted(set().union(*columns)):
        points = [column.get(level) for column in columns]
        changes = [f" ({change_text(point.change)})" if point and level else "" for point in points]
        texts = [f"{p.accuracy:.1f}{change}" if p else "" for p, change in zip(points, changes, strict=True)]
        rows.append([f"{level:g}", *texts])
    return _shots_table(f"level, variant {variant}", by_shots, rows)


def gains(cells: Cells) -> str:
    """Gains of methods over others, by shots."""

    def body(by_shots: ByShots) -> str:
        rows = []
        for method, baseline in COMPARED:
            rows += _changes(by_shots, {f"{method} against {baseline}": METHODS[method]}, baseline)
        return _shots_table("change", by_shots, rows)

    return each_backbone(cells, "## Gains by shots", "In points.", body)


def choices(cells: Cells) -> str:
    """The best augmentation of each set, backbone and shots, with its changes and their p-values."""
    rows = []
    for cell, scores in cells.items():
        best = chosen(scores, METHODS["best FroFA"])
        baselines = [chosen(scores, METHODS[name]) for name in ("MAP default", "MAP^wd")]
        changes = [compare([minus(best.test, b.test)]) if best and b else None for b in baselines]
        texts = [text(change) for change in changes for text in (change_text, p_text)]
        name = in_words(best.candidate) if best else ""
        rows.append([f"{cell.dataset}, {cell.backbone}, {in_shots(cell.shots)}", name, *texts])
    header = ["set, backbone, shots", "best FroFA", "against MAP default", "p", "against MAP^wd", "p"]
    return titled("## What was chosen", table(header, rows))
