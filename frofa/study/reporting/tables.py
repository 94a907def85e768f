"""The tables of a study's report, in Markdown; a table without rows is left out."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from frofa.evaluation import Interval
from frofa.study.reporting.answers import describe, signed
from frofa.study.reporting.levels import pooled_levels
from frofa.study.reporting.summary import (
    FAMILIES,
    METHODS,
    PROBES,
    VARIANTS,
    Cell,
    Change,
    Rule,
    Scores,
    Sets,
    augmentation_names,
    by_backbone,
    chosen,
    compare,
    is_sequence,
    minus,
    of_augmentation,
    pooled,
    pooled_accuracy,
)

GAINS = (
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
"""Pairs of methods: what the first gains over the second."""

Cells = Mapping[Cell, list[Scores]]
ByShots = Mapping[int, Sets]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of the rows that have more than their first column's text; empty without rows."""
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
    """A heading with what is not empty below it; empty if all is."""
    kept = [part for part in parts if part]
    return "\n\n".join([title, *kept]) if kept else ""


def each_backbone(cells: Cells, title: str, intro: str, body: Callable[[ByShots], str]) -> str:
    """A section with a part for each backbone; empty if all parts are."""
    parts = [titled(f"### {backbone}", body(by_shots)) for backbone, by_shots in by_backbone(cells).items()]
    return titled(title, intro, *parts) if any(parts) else ""


def accuracies(cells: Cells) -> str:
    """Methods by shots for each set and backbone, and their mean over the sets."""
    parts = []
    for backbone, by_shots in by_backbone(cells).items():
        names = sorted({name for sets in by_shots.values() for name in sets})
        parts += [_accuracy_table(f"### {name}, {backbone}", _only(by_shots, name)) for name in names]
        if len(names) > 1:
            parts.append(_accuracy_table(f"### Mean over {len(names)} sets, {backbone}", _whole(by_shots, len(names))))
    return (
        titled(
            "## Accuracy",
            "Top-1 accuracy on the test images, %; intervals over seeds, also of a mean over sets.",
            *parts,
        )
        if any(parts)
        else ""
    )


def _only(by_shots: ByShots, name: str) -> ByShots:
    return {shots: {name: sets[name]} for shots, sets in by_shots.items() if name in sets}


def _whole(by_shots: ByShots, n_sets: int) -> ByShots:
    return {shots: sets for shots, sets in by_shots.items() if len(sets) == n_sets}


def _accuracy_table(title: str, by_shots: ByShots) -> str:
    def text(interval: Interval | None) -> str:
        return f"{interval:.1f}" if interval else ""

    rows = [
        [name, *(text(pooled_accuracy(sets, rule)) for sets in by_shots.values())] for name, rule in METHODS.items()
    ]
    return titled(title, table(["method", *_headings(by_shots)], rows))


def _headings(by_shots: ByShots) -> list[str]:
    return [f"{shots} shot" if shots == 1 else f"{shots} shots" for shots in by_shots]


def _changes(by_shots: ByShots, rules: Mapping[str, Rule], baseline: str) -> list[list[str]]:
    """For each rule, its label and its changes by shots."""
    return [
        [label, *(change_text(pooled(sets, rule, METHODS[baseline])) for sets in by_shots.values())]
        for label, rule in rules.items()
    ]


def _names(by_shots: ByShots) -> list[str]:
    return augmentation_names(s.candidate for sets in by_shots.values() for scores in sets.values() for s in scores)


def augmentations(cells: Cells, baseline: str) -> str:
    """Each augmentation's change against a baseline, at its best level and variant."""
    family = {name: f" ({family})" for family, names in FAMILIES.items() for name in names}

    def body(by_shots: ByShots) -> str:
        names = [name for name in _names(by_shots) if not is_sequence(name)]
        rules = {f"{name}{family.get(name, '')}": of_augmentation(name) for name in names}
        return table(["augmentation", *_headings(by_shots)], _changes(by_shots, rules, baseline))

    intro = f"Change against {baseline}, in points. Level and variant are chosen by validation accuracy."
    return each_backbone(cells, f"## Each augmentation against {baseline}", intro, body)


def variants(cells: Cells) -> str:
    """Changes by variant, of the augmentations that have several."""

    def body(by_shots: ByShots) -> str:
        rules = {f"{name} {v}": of_augmentation(name, [v]) for name in _names(by_shots) for v in VARIANTS}
        rows = [row for row in _changes(by_shots, rules, "MAP default") if any(row[1:])]
        labels = [row[0].rpartition(" ")[0] for row in rows]
        several = [row for row, label in zip(rows, labels, strict=True) if labels.count(label) > 1]
        return table(["augmentation, variant", *_headings(by_shots)], several)

    return each_backbone(cells, "## Variants", "Change against MAP default, in points, at the best level.", body)


def sequences(cells: Cells) -> str:
    """Changes of sequences of augmentations."""

    def body(by_shots: ByShots) -> str:
        rules = {name: of_augmentation(name) for name in _names(by_shots) if is_sequence(name)}
        return table(["sequence", *_headings(by_shots)], _changes(by_shots, rules, "MAP default"))

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
    return table([f"level, variant {variant}", *_headings(by_shots)], rows)


def gains(cells: Cells) -> str:
    """What methods gain over others, by shots."""

    def body(by_shots: ByShots) -> str:
        pairs = {f"{a} against {b}": (METHODS[a], METHODS[b]) for a, b in GAINS}
        rows = [[label, *(change_text(pooled(s, *pair)) for s in by_shots.values())] for label, pair in pairs.items()]
        return table(["change", *_headings(by_shots)], rows)

    return each_backbone(cells, "## Gains by shots", "In points.", body)


def choices(cells: Cells) -> str:
    """The best augmentation of each set, backbone and shots, with its changes and their p-values."""
    rows = []
    for cell, scores in cells.items():
        best = chosen(scores, METHODS["best FroFA"])
        baselines = [chosen(scores, METHODS[name]) for name in ("MAP default", "MAP^wd")]
        changes = [compare([minus(best.test, b.test)]) if best and b else None for b in baselines]
        texts = [text(change) for change in changes for text in (change_text, p_text)]
        name = describe(best.candidate) if best else ""
        rows.append([f"{cell.dataset}, {cell.backbone}, {_headings({cell.shots: {}})[0]}", name, *texts])
    header = ["set, backbone, shots", "best FroFA", "against MAP default", "p", "against MAP^wd", "p"]
    return titled("## What was chosen", table(header, rows))
