"""What the rows of a study say: choices by validation accuracy, and paired changes with intervals."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from math import inf, isfinite, sqrt
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from frofa.evaluation import Interval, mean_interval
from frofa.study.results import NONE, Candidate, Result

MIN_PAIRS = 3
"""Of paired differences, below which an interval says nothing: two that coincide have one of length zero."""
VARIANTS = ("default", "c", "c2")
PROBES = ("ridge", "logistic", "prototype")
WITH_CLS = "MAP+cls"
FAMILIES = {
    "geometric": ("rotate", "shear x", "shear y", "translate x", "translate y"),
    "crop and drop": ("crop", "resized crop", "inception crop", "patch dropout"),
    "stylistic": ("brightness", "contrast", "equalize", "invert", "posterize", "sharpness", "solarize"),
    "other": ("jpeg", "mixup", "channel dropout", "gaussian noise"),
    "automatic": ("randaugment", "trivialaugment"),
}

Rule = Callable[[Candidate], bool]
"""Which candidates are meant."""
BySeed = Mapping[int, float]
"""One value a seed."""
Verdict = Literal["yes", "no", "not distinguishable"]


class Cell(NamedTuple):
    """Where choices are made separately.

    Attributes
    ----------
    dataset, backbone : str
    shots : int
    """

    dataset: str
    backbone: str
    shots: int


@dataclass(frozen=True)
class Scores:
    """Accuracies of one candidate in one cell, in percent, by seed."""

    candidate: Candidate
    validation: dict[int, float]
    test: dict[int, float]

    @property
    def mean_validation(self) -> float:
        """Mean over seeds, by which choices are made; minus infinity if one is not a number."""
        mean = sum(self.validation.values()) / len(self.validation)
        return round(mean, 6) if isfinite(mean) else -inf


Sets = dict[str, list[Scores]]
"""By dataset: what was measured with one backbone and one number of shots."""


class Change(NamedTuple):
    """A mean of paired differences.

    Attributes
    ----------
    interval : Interval
        95 %, Student's t.
    p : float
        Two-tailed paired t-test; not a number for a single difference.
    pairs, sets : int
        How many differences, of how many sets.
    """

    interval: Interval
    p: float
    pairs: int
    sets: int

    @property
    def verdict(self) -> Verdict:
        """Whether it is above zero, according to the interval; of fewer than three pairs it says nothing."""
        if self.pairs < MIN_PAIRS:
            return "not distinguishable"
        if self.interval.low > 0:
            return "yes"
        return "no" if self.interval.high < 0 else "not distinguishable"


def by_cell(results: Iterable[Result]) -> dict[Cell, list[Scores]]:
    """Rows by set, backbone and shots, then by candidate; of two rows of the same fit, the later counts."""
    cells: dict[Cell, dict[Candidate, Scores]] = {}
    for row in results:
        candidate = row.candidate
        cell = cells.setdefault(Cell(row.dataset, row.backbone, row.shots), {})
        scores = cell.setdefault(candidate, Scores(candidate, {}, {}))
        scores.validation[row.seed], scores.test[row.seed] = row.validation, row.test
    return {cell: list(cells[cell].values()) for cell in sorted(cells)}


def by_backbone(cells: Mapping[Cell, list[Scores]]) -> dict[str, dict[int, Sets]]:
    """The same by backbone, then shots, then set."""
    backbones: dict[str, dict[int, Sets]] = {}
    for cell in sorted(cells, key=lambda cell: (cell.backbone, cell.shots, cell.dataset)):
        backbones.setdefault(cell.backbone, {}).setdefault(cell.shots, {})[cell.dataset] = cells[cell]
    return backbones


def chosen(scores: Iterable[Scores], where: Rule = lambda _: True) -> Scores | None:
    """The candidate with the best mean validation accuracy; test accuracies have no say.

    Parameters
    ----------
    scores : iterable of Scores
        Of one cell.
    where : callable
        Which candidates can be chosen.

    Returns
    -------
    Scores or None
        Among equals, that of the lowest level, then the first; None if there is no candidate. Candidates that lack
        seeds which others have cannot be chosen.
    """
    fitting = [s for s in scores if where(s.candidate)]
    seeds = max((len(s.validation) for s in fitting), default=0)
    complete = [s for s in fitting if len(s.validation) == seeds]
    return min(complete, key=lambda s: (-s.mean_validation, s.candidate.level), default=None)


def augmented(candidate: Candidate) -> bool:
    """A MAP head with augmentation, of the library's default hyperparameters."""
    return candidate.head == "MAP" and candidate.augmentation != NONE and not candidate.setting


def of_augmentation(name: str, variants: Collection[str] | None = None) -> Rule:
    """MAP heads with one augmentation, at all levels, of some variants or all."""
    return lambda c: augmented(c) and c.augmentation == name and (variants is None or c.variant in variants)


def augmentation_names(candidates: Iterable[Candidate]) -> list[str]:
    """Names of the augmentations of MAP heads: the known ones by family, then others, then sequences."""
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


def _plain(head: str) -> Rule:
    return lambda c: c.head == head and c.augmentation == NONE


def _with_frofa(head: str) -> Rule:
    return lambda c: c.head == head and c.augmentation != NONE


def _no_weight_decay(candidate: Candidate) -> bool:
    values = dict(part.partition("=")[::2] for part in candidate.setting.split())
    return float(values.get("weight_decay", "nan")) == 0


METHODS: dict[str, Rule] = {
    "MAP default": lambda c: _plain("MAP")(c) and not c.setting,
    "MAP": lambda c: _plain("MAP")(c) and _no_weight_decay(c),
    "MAP^wd": _plain("MAP"),
    "best FroFA": augmented,
    "MAP+cls": _plain(WITH_CLS),
    "MAP+cls + FroFA": _with_frofa(WITH_CLS),
    **{probe: _plain(probe) for probe in PROBES},
    "best probe": lambda c: c.head in PROBES and c.augmentation == NONE,
    **{f"{probe} + FroFA": _with_frofa(probe) for probe in PROBES},
}
"""The named methods: each is the best of these candidates by validation accuracy."""


def minus(treated: BySeed, baseline: BySeed) -> dict[int, float]:
    """Paired differences: of the seeds that both have."""
    return {seed: treated[seed] - baseline[seed] for seed in sorted(treated.keys() & baseline.keys())}


def average(values: Collection[BySeed]) -> dict[int, float]:
    """Mean of several quantities by seed, of the seeds that all have."""
    if not values:
        return {}
    seeds = sorted(set.intersection(*(set(v) for v in values)))
    return {seed: float(np.mean([v[seed] for v in values])) for seed in seeds}


def gain(scores: Iterable[Scores], treated: Rule, baseline: Rule) -> dict[int, float]:
    """What one choice gains over another in test accuracy, by seed; empty if there is no candidate of one."""
    scores = list(scores)
    first, second = chosen(scores, treated), chosen(scores, baseline)
    return minus(first.test, second.test) if first and second else {}


def compare(gains: Iterable[BySeed]) -> Change | None:
    """Pool paired differences of one set, or of several.

    Parameters
    ----------
    gains : iterable of mapping of int to float
        For each set, differences by seed.

    Returns
    -------
    Change or None
        The mean is that of the sets' means over seeds; the interval's width and the test are those of all
        differences of all sets, set x seed, in one sample. None without any difference.
    """
    sets = [np.array(list(values.values())) for values in gains if values]
    if not sets:
        return None
    everything = np.concatenate(sets)
    mean, half = float(np.mean([values.mean() for values in sets])), mean_interval(everything).half_width
    interval = Interval(mean, mean - half, mean + half)
    return Change(interval, _p_value(mean, everything), len(everything), len(sets))


def _p_value(mean: float, differences: np.typing.NDArray[np.float64]) -> float:
    if len(differences) < 2:
        return float("nan")
    error = float(np.std(differences, ddof=1)) / sqrt(len(differences))
    if not error:
        return float(mean == 0)
    return float(2 * stats.t.sf(abs(mean / error), len(differences) - 1))


def pooled(sets: Sets, treated: Rule, baseline: Rule) -> Change | None:
    """Change from one choice to another over all sets; the choice is made in each set separately."""
    return compare(gain(scores, treated, baseline) for scores in sets.values())


def pooled_accuracy(sets: Sets, rule: Rule) -> Interval | None:
    """Mean test accuracy over the sets, with an interval over seeds; None if a set lacks it."""
    found = [chosen(scores, rule) for scores in sets.values()]
    by_seed = average([s.test for s in found if s])
    return mean_interval(list(by_seed.values())) if by_seed and all(found) else None


def family_gain(scores: list[Scores], family: str, variants: Collection[str] | None = None) -> dict[int, float]:
    """Mean gain over MAP default of a family's augmentations, each at its best level and variant, by seed."""
    rules = [of_augmentation(name, variants) for name in FAMILIES[family]]
    gains = [gain(scores, rule, METHODS["MAP default"]) for rule in rules]
    return average([values for values in gains if values])
