"""Answers to the questions of a study, in sentences made from its numbers."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from frofa.evaluation import Interval
from frofa.study.reporting.levels import Shape, hump, plateau
from frofa.study.reporting.summary import (
    FAMILIES,
    METHODS,
    BySeed,
    ByShots,
    Cell,
    Change,
    Scores,
    Sets,
    Verdict,
    by_backbone,
    chosen,
    compare,
    family_gain,
    gain,
    minus,
    pooled,
    sequence,
    single,
)
from frofa.study.results import NONE, Candidate


class Case(NamedTuple):
    """An answer for one part of the study."""

    where: str
    verdict: Verdict
    sentence: str


class Answer(NamedTuple):
    """A question, the rule that decides it, the answers by part of the study, and the wording of a no."""

    question: str
    rule: str
    cases: list[Case]
    no: str = "no"


def signed(interval: Interval) -> str:
    """A change in points, such as ``+1.2 ± 0.4``."""
    mean = round(interval.mean, 1) + 0.0  # no minus zero
    return f"{interval._replace(mean=mean):+.1f}"


def in_words(candidate: Candidate) -> str:
    """A candidate in words; an augmented MAP head is called by its augmentation alone."""
    parts = [candidate.augmentation, candidate.variant, f"{candidate.level:g}" if candidate.level else ""]
    head = "" if candidate.head == "MAP" and candidate.augmentation != NONE else candidate.head
    return " ".join(
        part for part in (head, *(parts if candidate.augmentation != NONE else ()), candidate.setting) if part
    )


def in_shots(shots: int) -> str:
    """A number of shots in words."""
    return f"{shots} shot" if shots == 1 else f"{shots} shots"


def answers(cells: Mapping[Cell, list[Scores]]) -> list[Answer]:
    """All questions that the study has an answer to."""
    backbones = by_backbone(cells)
    asked = [
        Answer(
            "Does brightness c show a hump?",
            "Yes means: the best inner level is above level 0 and above the strongest, each by more than the interval.",
            _shape_cases(
                ((where, hump(sets, "brightness", "c")) for where, sets in _places(backbones)),
                "The best inner level ({levels}) differs by {rise} points from level 0 and by {fall} from the "
                "strongest level.",
            ),
        ),
        Answer(
            "Does brightness c2 show a plateau?",
            "Yes means: the strongest level is above level 0 by more than the interval, and not below the best by "
            "more.",
            _shape_cases(
                ((where, plateau(sets, "brightness", "c2")) for where, sets in _places(backbones)),
                "The strongest level differs by {rise} points from level 0, the best level ({levels}) by {fall} from "
                "the strongest.",
            ),
        ),
        _shrinking(backbones),
        _stylistic(backbones),
        _sequences(backbones),
        _probes(cells, "best FroFA", "Does MAP with FroFA beat the best tuned probe?"),
        _probes(cells, "MAP+cls + FroFA", "Does MAP with class token and FroFA beat the best tuned probe?"),
    ]
    return [answer for answer in asked if answer.cases]


def in_markdown(answer: Answer) -> str:
    """A heading, the answer in a sentence, and a line for each case."""
    words = {"yes": "yes", "no": answer.no, "not distinguishable": "not distinguishable"}
    lines = [f"- {case.where}: **{words[case.verdict]}**. {case.sentence}" for case in answer.cases]
    headline = _headline([words[case.verdict] for case in answer.cases])
    return "\n".join([f"### {answer.question}", "", f"{headline} {answer.rule}", "", *lines])


def _headline(words: list[str]) -> str:
    counts = sorted({word: words.count(word) for word in words}.items(), key=lambda item: -item[1])
    first, count = counts[0]
    first = first.capitalize()
    if len(counts) == 1:
        return f"{first}." if count == 1 else f"{first} in {'both' if count == 2 else f'all {count}'} cases."
    return f"{first} in {count} of {len(words)} cases; " + "; ".join(f"{word} in {n}" for word, n in counts[1:]) + "."


Backbones = Mapping[str, ByShots]


def _places(backbones: Backbones) -> Iterator[tuple[str, Sets]]:
    for backbone, by_shots in backbones.items():
        for shots, sets in by_shots.items():
            yield f"{backbone}, {in_shots(shots)}", sets


def _shape_cases(shapes: Iterable[tuple[str, Shape | None]], sentence: str) -> list[Case]:
    cases = []
    for where, shape in shapes:
        if shape:
            low, high = f"{shape.levels[0]:g}", f"{shape.levels[-1]:g}"
            levels = low if low == high else f"{low} to {high}, by set"
            said = sentence.format(levels=levels, rise=signed(shape.rise.interval), fall=signed(shape.fall.interval))
            cases.append(Case(where, shape.verdict, said))
    return cases


def _shrinking(backbones: Backbones) -> Answer:
    cases = [
        case
        for backbone, by_shots in backbones.items()
        for baseline in ("MAP default", "MAP^wd")
        if (case := _trend(backbone, by_shots, baseline))
    ]
    rule = "Yes means: the gain of best FroFA is larger at the fewest shots than at the most by more than the interval."
    return Answer("Do the gains shrink with more shots?", rule, cases, "no, they grow")


def _trend(backbone: str, by_shots: ByShots, baseline: str) -> Case | None:
    # Sets that lack either end would make the two gains means over different sets.
    fewest, most = min(by_shots), max(by_shots)
    by_set = _gains_by_set(by_shots, baseline)
    whole = [gains for gains in by_set.values() if fewest in gains and most in gains]
    drop = compare(minus(gains[fewest], gains[most]) for gains in whole)
    slope = compare(_slope(gains) for gains in whole)
    first, last = (compare(gains[shots] for gains in whole) for shots in (fewest, most))
    if fewest == most or not (drop and slope and first and last):
        return None
    sentence = (
        f"The gain is {signed(first.interval)} at {in_shots(fewest)} and {signed(last.interval)} at {in_shots(most)}; "
        f"the difference is {signed(drop.interval)}, the slope {slope.interval:+.2f} points a doubling of shots."
    )
    return Case(f"{backbone}, against {baseline}", drop.verdict, sentence)


def _gains_by_set(by_shots: ByShots, baseline: str) -> dict[str, dict[int, BySeed]]:
    by_set: dict[str, dict[int, BySeed]] = {}
    for shots, sets in by_shots.items():
        for dataset, scores in sets.items():
            values = gain(scores, METHODS["best FroFA"], METHODS[baseline])
            if values:
                by_set.setdefault(dataset, {})[shots] = values
    return by_set


def _slope(gains: Mapping[int, BySeed]) -> dict[int, float]:
    """Slope of a least-squares fit of the gain on log2(shots), by seed."""
    # With centred x (shots,) and a row of gains (shots,) for each seed, the slope is x @ row / x @ x.
    x = np.log2(sorted(gains))
    x = x - x.mean()
    seeds = sorted(set.intersection(*(set(values) for values in gains.values())))
    rows = {seed: np.array([gains[shots][seed] for shots in sorted(gains)]) for seed in seeds}
    return {seed: float(x @ row / (x @ x)) for seed, row in rows.items()} if len(gains) > 1 else {}


def _stylistic(backbones: Backbones) -> Answer:
    cases = [case for where, sets in _places(backbones) if (case := _style_case(where, sets))]
    rule = (
        f"Yes means: the mean change of the {len(FAMILIES['stylistic'])} stylistic augmentations is above that of the "
        f"{len(FAMILIES['geometric'])} geometric ones by more than the interval; each at its best level and variant."
    )
    return Answer("Are stylistic augmentations better than geometric ones?", rule, cases, "no, geometric ones are")


def _style_case(where: str, sets: Sets) -> Case | None:
    stylistic, geometric, difference = _style_changes(sets, None)
    if not (stylistic and geometric and difference):
        return None
    sentence = (
        f"Stylistic {signed(stylistic.interval)}, geometric {signed(geometric.interval)}, "
        f"difference {signed(difference.interval)}."
    )
    default = _style_changes(sets, ("", "default"))[2]
    if default:
        sentence += f" With the default variant alone, the difference is {signed(default.interval)}."
    return Case(where, difference.verdict, sentence)


def _style_changes(sets: Sets, variants: tuple[str, ...] | None) -> list[Change | None]:
    """Changes by stylistic and by geometric augmentations, and their difference, over the sets that have both."""
    # Gains by seed (a dict each) of both families, and their difference by seed: three changes over the same sets.
    pairs = [[family_gain(scores, name, variants) for name in ("stylistic", "geometric")] for scores in sets.values()]
    triples = [(first, second, minus(first, second)) for first, second in pairs if first and second]
    return [compare(triple[k] for triple in triples) for k in range(3)]


def _sequences(backbones: Backbones) -> Answer:
    changes = [(where, pooled(sets, sequence, single)) for where, sets in _places(backbones)]
    return Answer(
        "Is the best sequence better than the best single augmentation?",
        "Yes means: the best sequence is above the best augmentation alone by more than the interval.",
        [Case(where, c.verdict, f"The difference is {signed(c.interval)}.") for where, c in changes if c],
        "no, the single one is",
    )


def _probes(cells: Mapping[Cell, list[Scores]], method: str, question: str) -> Answer:
    cases = []
    for cell, scores in cells.items():
        head, probe = (chosen(scores, METHODS[name]) for name in (method, "best probe"))
        if head and probe and (change := compare([minus(head.test, probe.test)])):
            names = f"{in_words(head.candidate)} against {in_words(probe.candidate)}"
            where = f"{cell.dataset}, {cell.backbone}, {in_shots(cell.shots)}"
            cases.append(Case(where, change.verdict, f"{signed(change.interval)} ({names})."))
    # Sorting is stable: cells with the same verdict stay in the order of sets, backbones and shots.
    order = ("yes", "no", "not distinguishable")
    cases.sort(key=lambda case: order.index(case.verdict))
    rule = f"Yes means: {method} is above the best probe without augmentation by more than the interval."
    return Answer(question, rule, cases, "no, it loses")
