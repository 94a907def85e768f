"""Choices by validation accuracy, and paired changes with intervals, from the rows of a study."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from math import inf, isfinite, sqrt
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from frofa.evaluation import Interval, mean_interval
from frofa.study.results import NONE, WITH_CLS, Candidate, StudyResult

MIN_PAIRS = 3
"""The fewest paired differences that a verdict takes: the interval of two that coincide has no length."""
PROBES = ("ridge", "logistic", "prototype")
FAMILIES = {
    "geometric": ("rotate", "shear x", "shear y", "translate x", "translate y"),
    "crop and drop": ("crop", "resized crop", "inception crop", "patch dropout"),
    "stylistic": ("brightness", "contrast", "equalize", "invert", "posterize", "sharpness", "solarize"),
    "other": ("jpeg", "mixup", "channel dropout", "gaussian noise"),
    "automatic": ("randaugment", "trivialaugment"),
}

CandidateFilter = Callable[[Candidate], bool]
"""A condition on candidates."""
BySeed = Mapping[int, float]
"""One value for each seed."""
Verdict = Literal["yes", "no", "not distinguishable"]


class Cell(NamedTuple):
    """An image set, backbone and number of shots: choices are made in each of them separately."""

    dataset: str
    backbone: str
    shots: int


@dataclass(frozen=True)
class Scores:
    """Accuracies of one candidate in one cell, in percent, by seed; and all else of its rows."""

    candidate: Candidate
    validation: dict[int, float]
    test: dict[int, float]
    rows: dict[int, StudyResult] = field(default_factory=dict, compare=False, repr=False)

    @property
    def mean_validation(self) -> float:
        """Mean over seeds, by which choices are made; minus infinity if one is not a number."""
        mean = sum(self.validation.values()) / len(self.validation)
        return round(mean, 6) if isfinite(mean) else -inf

    @property
    def mean_test(self) -> float:
        """Mean over seeds of test accuracy, by which no choice is made but an oracle's."""
        return sum(self.test.values()) / len(self.test)

    def column(self, name: str) -> dict[int, float]:
        """Another column of the results by seed."""
        return {seed: getattr(row, name) for seed, row in self.rows.items()}


Sets = dict[str, list[Scores]]
"""Scores with one backbone and one number of shots, by dataset."""
ByShots = Mapping[int, Sets]
"""Scores with one backbone, by number of shots."""


class Change(NamedTuple):
    """A mean of so many paired differences of so many sets, with its 95 % interval (Student's t).

    `p` is that of a two-tailed paired t-test; not a number for a single difference.
    """

    interval: Interval
    p: float
    pairs: int
    sets: int

    @property
    def verdict(self) -> Verdict:
        """Whether the mean is above zero by more than the interval; fewer than three pairs decide nothing."""
        if self.pairs < MIN_PAIRS:
            return "not distinguishable"
        if self.interval.low > 0:
            return "yes"
        return "no" if self.interval.high < 0 else "not distinguishable"


def by_cell(results: Iterable[StudyResult]) -> dict[Cell, list[Scores]]:
    """Rows by set, backbone and shots, then by candidate; of two rows of the same fit, the later counts."""
    cells: dict[Cell, dict[Candidate, Scores]] = {}
    for row in results:
        candidate = row.candidate
        cell = cells.setdefault(Cell(row.dataset, row.backbone, row.shots), {})
        scores = cell.setdefault(candidate, Scores(candidate, {}, {}))
        scores.validation[row.seed], scores.test[row.seed], scores.rows[row.seed] = row.validation, row.test, row
    return {cell: list(cells[cell].values()) for cell in sorted(cells)}


def by_backbone(cells: Mapping[Cell, list[Scores]]) -> dict[str, dict[int, Sets]]:
    """Order cells by backbone, then shots, then set."""
    backbones: dict[str, dict[int, Sets]] = {}
    for cell in sorted(cells, key=lambda cell: (cell.backbone, cell.shots, cell.dataset)):
        backbones.setdefault(cell.backbone, {}).setdefault(cell.shots, {})[cell.dataset] = cells[cell]
    return backbones


def chosen(scores: Iterable[Scores], where: CandidateFilter = lambda _: True) -> Scores | None:
    """The candidate of a cell with the best mean validation accuracy; test accuracies have no say.

    Among equals, that of the lowest level is chosen, then the first. Candidates that lack seeds which others have
    cannot be chosen.
    """
    # The number of seeds that any candidate has is that of a finished fit: those with fewer are not done yet.
    fitting = [s for s in scores if where(s.candidate)]
    seeds = max((len(s.validation) for s in fitting), default=0)
    complete = [s for s in fitting if len(s.validation) == seeds]
    return min(complete, key=lambda s: (-s.mean_validation, s.candidate.level), default=None)


def augmented(candidate: Candidate) -> bool:
    """A MAP head with augmentation, of the library's default hyperparameters."""
    return candidate.head == "MAP" and candidate.augmentation != NONE and not candidate.setting


def of_augmentation(name: str, variants: Collection[str] | None = None) -> CandidateFilter:
    """MAP heads with one augmentation, at all levels, of some variants or all."""
    return lambda c: augmented(c) and c.augmentation == name and (variants is None or c.variant in variants)


def augmentation_names(by_shots: ByShots) -> list[str]:
    """Names of the augmentations of MAP heads: the known ones by family, then others, then sequences."""
    candidates = {s.candidate for sets in by_shots.values() for scores in sets.values() for s in scores}
    names = {c.augmentation for c in candidates if augmented(c)}
    known = [name for family in FAMILIES.values() for name in family if name in names]
    return known + sorted(names.difference(known), key=lambda name: (is_sequence(name), name))


def is_sequence(augmentation: str) -> bool:
    """Whether several augmentations are applied one after the other."""
    return ">" in augmentation


def sequence(candidate: Candidate) -> bool:
    """A MAP head with a sequence of augmentations."""
    return augmented(candidate) and is_sequence(candidate.augmentation)


def single(candidate: Candidate) -> bool:
    """A MAP head with one augmentation: no sequence, no automatic policy."""
    name = candidate.augmentation
    return augmented(candidate) and not is_sequence(name) and name not in FAMILIES["automatic"]


def _plain(*heads: str) -> CandidateFilter:
    return lambda c: c.head in heads and c.augmentation == NONE


def _with_frofa(head: str) -> CandidateFilter:
    return lambda c: c.head == head and c.augmentation != NONE


def _no_weight_decay(candidate: Candidate) -> bool:
    values = dict(part.partition("=")[::2] for part in candidate.setting.split())
    return float(values.get("weight_decay", "nan")) == 0


_METHODS: dict[str, tuple[CandidateFilter, str]] = {
    "MAP default": (
        lambda c: _plain("MAP")(c) and not c.setting,
        "the MAP head with the library's hyperparameters, no augmentation",
    ),
    "MAP": (
        lambda c: _plain("MAP")(c) and _no_weight_decay(c),
        "MAP heads without augmentation and without weight decay",
    ),
    "MAP^wd": (_plain("MAP"), "all MAP heads without augmentation"),
    "best FroFA": (augmented, "all MAP heads with augmentation, all with the library's hyperparameters"),
    "MAP+cls": (_plain(WITH_CLS), "MAP heads that see the class token too, no augmentation"),
    "MAP+cls + FroFA": (_with_frofa(WITH_CLS), "the same with augmentation"),
    **{probe: (_plain(probe), f"the settings of the {probe} probe, no augmentation") for probe in PROBES},
    "best probe": (_plain(*PROBES), "all probes without augmentation"),
    **{
        f"{probe} + FroFA": (_with_frofa(probe), f"the settings of the {probe} probe with augmentation")
        for probe in PROBES
    },
}
METHODS = {name: candidates for name, (candidates, _) in _METHODS.items()}
"""The named methods: each is the best of these candidates by validation accuracy."""
MEANINGS = {name: meaning for name, (_, meaning) in _METHODS.items()}
"""The candidates of each method, in words."""


def minus(treated: BySeed, baseline: BySeed) -> dict[int, float]:
    """Paired differences: of the seeds that both have."""
    return {seed: treated[seed] - baseline[seed] for seed in sorted(treated.keys() & baseline.keys())}


def average(values: Collection[BySeed]) -> dict[int, float]:
    """Mean of several quantities by seed, of the seeds that all have."""
    if not values:
        return {}
    seeds = sorted(set.intersection(*(set(v) for v in values)))
    return {seed: float(np.mean([v[seed] for v in values])) for seed in seeds}


def gain(scores: Iterable[Scores], treated: CandidateFilter, baseline: CandidateFilter) -> dict[int, float]:
    """Gain of one choice over another in test accuracy, by seed; empty where one has no candidate."""
    scores = list(scores)
    first, second = chosen(scores, treated), chosen(scores, baseline)
    return minus(first.test, second.test) if first and second else {}


def compare(gains: Iterable[BySeed]) -> Change | None:
    """Pool paired differences by seed of one set, or of several; None without any.

    The mean is that of the sets' means over seeds; the interval's width and the test are those of all differences of
    all sets, set x seed, in one sample.
    """
    # Differences (seeds,) of each set; sets may differ in their numbers of seeds.
    sets = [np.array(list(values.values())) for values in gains if values]
    if not sets:
        return None
    everything = np.concatenate(sets)
    # Sets count alike in the mean, however many seeds they have; in the interval, each difference does.
    mean, half = float(np.mean([values.mean() for values in sets])), mean_interval(everything).half_width
    interval = Interval(mean, mean - half, mean + half)
    return Change(interval, _p_value(mean, everything), len(everything), len(sets))


def _p_value(mean: float, differences: np.typing.NDArray[np.float64]) -> float:
    # A paired t-test about the mean of means, which scipy's test, about the mean of all, does not have.
    if len(differences) < 2:
        return float("nan")
    error = float(np.std(differences, ddof=1)) / sqrt(len(differences))
    if not error:
        return float(mean == 0)
    return float(2 * stats.t.sf(abs(mean / error), len(differences) - 1))


def pooled(sets: Sets, treated: CandidateFilter, baseline: CandidateFilter) -> Change | None:
    """Change from one choice to another over all sets; the choice is made in each set separately."""
    return compare(gain(scores, treated, baseline) for scores in sets.values())


def pooled_by_shots(by_shots: ByShots, treated: CandidateFilter, baseline: CandidateFilter) -> dict[int, Change]:
    """The change over all sets at each number of shots that has one."""
    found = {shots: pooled(sets, treated, baseline) for shots, sets in by_shots.items()}
    return {shots: change for shots, change in found.items() if change}


def pooled_accuracy(sets: Sets, method: CandidateFilter) -> Interval | None:
    """Mean test accuracy over the sets, with an interval over seeds; None if a set lacks it."""
    # Seeds are averaged over sets first, so that the interval is that of the mean, over seeds alone.
    found = [chosen(scores, method) for scores in sets.values()]
    by_seed = average([s.test for s in found if s])
    return mean_interval(list(by_seed.values())) if by_seed and all(found) else None


def family_gain(scores: list[Scores], family: str, variants: Collection[str] | None = None) -> dict[int, float]:
    """Mean gain over MAP default of a family's augmentations, each at its best level and variant, by seed."""
    treated = [of_augmentation(name, variants) for name in FAMILIES[family]]
    gains = [gain(scores, each, METHODS["MAP default"]) for each in treated]
    return average([values for values in gains if values])
