"""The methods of a comparison of heads: which candidates each of them is, and by what one of these is chosen."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from frofa.study.reporting.summary import BySeed, CandidateFilter, Cell, Scores, chosen, minus
from frofa.study.results import NONE, Candidate

FAST, HIGH = "FewShot fast", "FewShot high"
PROBES = ("ridge", "logistic", "prototype")
Choice = Literal["nothing", "validation", "oracle"]


@dataclass(frozen=True)
class Method:
    """A head as it is, or the best of several by validation or, as an oracle, by test accuracy."""

    name: str
    fits: CandidateFilter
    choice: Choice
    meaning: str

    def pick(self, scores: Iterable[Scores]) -> Scores | None:
        """Choose in one cell; None where there is no candidate. Only an oracle looks at test accuracies."""
        if self.choice != "oracle":
            return chosen(scores, self.fits)
        fitting = [one for one in scores if self.fits(one.candidate)]
        seeds = max((len(one.test) for one in fitting), default=0)
        return max((one for one in fitting if len(one.test) == seeds), key=lambda one: one.mean_test, default=None)


def _is(head: str, features: str, views: int = 1, setting: str = "", augmentation: str = NONE) -> CandidateFilter:
    def fits(c: Candidate) -> bool:
        named = c.head, c.features, c.views, c.setting, c.augmentation
        return named == (head, features, views, setting, augmentation)

    return fits


def _grid(features: str, views: int) -> CandidateFilter:
    """The probes that are tuned on some features: all but those with default settings."""
    return lambda c: c.head in PROBES and (c.features, c.views) == (features, views) and c.setting != "default"


_TUNED_ON = {"pooled": ("pooled", 1), "auto": ("auto", 1), "auto, 6 views": ("auto", 6)}

DEFAULTS = (
    Method("ridge", _is("ridge", "pooled", setting="default"), "nothing", "RidgeProbeClassifier() on pooled"),
    Method("logistic", _is("logistic", "pooled", setting="default"), "nothing", "LogisticProbeClassifier() on pooled"),
    Method("prototype", _is("prototype", "pooled", setting="default"), "nothing", "PrototypeClassifier() on pooled"),
    Method("MAP + FroFA", _is("MAP", "tokens", augmentation="auto"), "nothing", 'MAPClassifier(augment="auto")'),
)
"""Heads that one gets without tuning, and without those that this study is about."""
MAP = Method("MAP", _is("MAP", "tokens"), "nothing", "MAPClassifier(augment=None)")
MAP_AUTO = DEFAULTS[3]
MAP_C2 = Method(
    "MAP + brightness c2 0.3",
    _is("MAP", "tokens", augmentation="brightness"),
    "nothing",
    'MAPClassifier(augment=Brightness(0.3, "c2"))',
)
TUNED = {
    name: Method(f"tuned probe, {name}", _grid(*where), "validation", f"the best probe by validation accuracy, {name}")
    for name, where in _TUNED_ON.items()
}
ORACLES = {
    name: Method(f"oracle probe, {name}", _grid(*where), "oracle", f"the best probe by TEST accuracy, {name}")
    for name, where in _TUNED_ON.items()
}
SHRINKAGE = {
    name: Method(f"shrinkage, {name}", _is("shrinkage", *where), "nothing", f"ShrinkageProbeClassifier(), {name}")
    for name, where in _TUNED_ON.items()
    if name != "auto, 6 views"  # there, it is what follows
}
FEW_SHOT = Method(FAST, _is(FAST, "auto", 6), "nothing", 'FewShotClassifier(effort="fast"), auto, 6 views')
BLEND = Method(
    HIGH, _is(HIGH, "auto+tokens", 6), "nothing", 'FewShotClassifier(effort="high"), auto and tokens, 6 views'
)
METHODS = (
    *(FEW_SHOT, BLEND),
    *SHRINKAGE.values(),
    *DEFAULTS,
    *(MAP, MAP_C2),
    *TUNED.values(),
    *ORACLES.values(),
)
"""All methods, in the order of the tables."""

Cells = Mapping[Cell, list[Scores]]


def gains(cells: Cells, treated: Method, baseline: Method) -> dict[Cell, BySeed]:
    """Paired differences in test accuracy, by cell; cells that lack one of the two are left out."""
    found: dict[Cell, BySeed] = {}
    for cell, scores in cells.items():
        first, second = treated.pick(scores), baseline.pick(scores)
        if first and second and (difference := minus(first.test, second.test)):
            found[cell] = difference
    return found


def each_cell(cells: Cells, method: Method, value: Callable[[Scores], BySeed]) -> dict[Cell, BySeed]:
    """A quantity of a method by cell and seed; cells without it are left out."""
    picked = {cell: method.pick(scores) for cell, scores in cells.items()}
    values = {cell: value(scores) for cell, scores in picked.items() if scores}
    return {cell: known for cell, found in values.items() if (known := {k: v for k, v in found.items() if v == v})}
