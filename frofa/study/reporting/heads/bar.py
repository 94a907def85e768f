"""The bar for the head that needs no tuning, and whether it is reached: judged by the numbers alone.

Each judgement says pass or miss, by how much, and where. A bar that the study has no results for is left out.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from frofa.study.reporting.answers import in_shots, signed
from frofa.study.reporting.heads.methods import (
    BLEND,
    DEFAULTS,
    FEW_SHOT,
    MAP,
    MAP_AUTO,
    ORACLES,
    Cells,
    Method,
    each_cell,
    gains,
)
from frofa.study.reporting.summary import BySeed, Cell, compare

AHEAD = 3.0
"""Points by which the head must be ahead of the best default."""
MARGIN = 0.5
"""Points by which it may be behind: the noise of a mean over ten support samples."""
CALIBRATED = 5.0
"""Calibration error in percent that it must stay under."""
SECONDS = 1.0
"""Seconds that a fit may take."""
FEW, MANY = 5, 10
"""Shots from which on it must reach oracles and be calibrated, and those from which on token heads must gain."""


class Judgement(NamedTuple):
    """One part of the bar: what is asked, whether it is reached, the numbers, and the places where it is missed."""

    asked: str
    passed: bool
    found: str
    misses: list[str]


def judgements(cells: Cells, seconds: Mapping[str, float]) -> list[Judgement]:
    """All parts of the bar that the study has results for; seconds are those of a fit, by machine."""
    asked: list[Callable[[], Judgement | None]] = [
        lambda: above_defaults(cells),
        lambda: beside_oracles(cells),
        lambda: calibrated(cells),
        lambda: fast(seconds),
        lambda: blends(cells),
        lambda: default_augmentation(cells),
    ]
    return [judgement for ask in asked if (judgement := ask())]


def best_default(cells: Cells) -> Method | None:
    """The default that is best on average over all cells, by test accuracy: the hardest to be ahead of."""
    means = {method: _mean_test(cells, method) for method in DEFAULTS}
    known = {method: mean for method, mean in means.items() if mean == mean}
    return max(known, key=lambda method: known[method], default=None)


def above_defaults(cells: Cells) -> Judgement | None:
    """(a) Points above the best default, on average over sets, backbones and shots."""
    default = best_default(cells)
    found = gains(cells, FEW_SHOT, default) if default else {}
    whole = compare(found.values())
    if not default or not whole:
        return None
    by_shots = {shots: compare(values) for shots, values in _grouped(found, lambda cell: cell.shots).items()}
    shown = ", ".join(f"{signed(change.interval)} at {in_shots(k)}" for k, change in by_shots.items() if change)
    places = _grouped(found, lambda cell: (cell.backbone, cell.shots))
    means = {place: _mean(values) for place, values in places.items()}
    return Judgement(
        f"(a) At least {AHEAD:g} points above the best default, on average.",
        whole.interval.mean >= AHEAD,
        f"The best default is {default.name}, which was chosen by its test accuracy. {FEW_SHOT.name} is "
        f"{signed(whole.interval)} above it: {shown}.",
        [
            f"{backbone}, {in_shots(shots)}: {mean:+.1f}, mean of the sets"
            for (backbone, shots), mean in sorted(means.items(), key=lambda item: item[1])
            if mean < AHEAD
        ],
    )


def beside_oracles(cells: Cells) -> Judgement | None:
    """(b) Never under the best oracle on the same features and views, on any set, and above it on average."""
    every = gains(cells, FEW_SHOT, ORACLES["auto, 6 views"])
    found = _from(every, FEW)
    whole, all_shots = compare(found.values()), compare(every.values())
    if not whole or not all_shots:
        return None
    misses = _below(found, -MARGIN)
    return Judgement(
        f"(b) With {FEW} shots and more, on no set more than {MARGIN:g} points under the best of this study's "
        "probes (ridge, logistic, prototypes) on the same features and views, tuned on the test images; above it on "
        "average.",
        not misses and whole.interval.mean > 0,
        f"On average {signed(whole.interval)} ({signed(all_shots.interval)} with fewer shots counted, too); more than "
        f"{MARGIN:g} points under it in {len(misses)} of {len(found)} cases.",
        misses,
    )


def calibrated(cells: Cells) -> Judgement | None:
    """(c) The expected calibration error on the test images, of all support samples together."""
    pooled, single, floor = (
        _from(each_cell(cells, FEW_SHOT, lambda scores, name=name: scores.column(name)), FEW)  # type: ignore[misc]
        for name in ("calibration_pooled", "calibration", "calibration_floor")
    )
    if not pooled:
        return None
    means, singles = ({cell: _mean([values]) for cell, values in part.items()} for part in (pooled, single))
    misses = sorted((cell for cell in means if means[cell] >= CALIBRATED), key=lambda cell: -means[cell])
    n_single = sum(value >= CALIBRATED for value in singles.values())
    return Judgement(
        f"(c) With {FEW} shots and more, an expected calibration error under {CALIBRATED:g} %, measured on the "
        "predictions of all support samples together.",
        not misses,
        f"{_mean(pooled.values()):.1f} % on average; {CALIBRATED:g} % or more in {len(misses)} of {len(means)} cases. "
        f"Measured on each sample by itself: {_mean(single.values()):.1f} % on average, {CALIBRATED:g} % or more in "
        f"{n_single} cases, where perfect probabilities would have {_mean(floor.values()):.1f} % by chance.",
        [f"{_in_words(cell)}: {means[cell]:.1f} %" for cell in misses],
    )


def fast(seconds: Mapping[str, float]) -> Judgement | None:
    """(d) The seconds of a fit."""
    if not seconds:
        return None
    return Judgement(
        f"(d) Fits 10 classes x 25 shots x 768 channels on two cores in under {SECONDS:g} s.",
        max(seconds.values()) < SECONDS,
        "; ".join(f"{value:.2f} s ({machine})" for machine, value in seconds.items()) + ".",
        [],
    )


def blends(cells: Cells) -> Judgement | None:
    """(e) Token heads: never worse by more than noise, and a gain on average with many shots."""
    found = gains(cells, BLEND, FEW_SHOT)
    by_shots = {shots: compare(values) for shots, values in _grouped(found, lambda cell: cell.shots).items()}
    many = compare(_from(found, MANY).values())
    changes = {cell: compare([values]) for cell, values in found.items()}
    worse = sorted(
        (cell for cell, change in changes.items() if change and change.verdict == "no"), key=lambda c: _mean([found[c]])
    )
    if not found:
        return None
    shown = ", ".join(f"{signed(change.interval)} at {in_shots(k)}" for k, change in by_shots.items() if change)
    gained = f" With {MANY} shots and more: {signed(many.interval)}." if many else ""
    return Judgement(
        f'(e) effort="high" is never worse than "fast" by more than noise, and gains on average with {MANY} shots and '
        "more.",
        not worse and many is not None and many.interval.low > 0,
        f"{shown}.{gained} Worse by more than the interval in {len(worse)} of {len(found)} cases, of which "
        f"{0.025 * len(found):.0f} would be by chance alone."
        + (f" Not fitted: {len(cells) - len(found)} of {len(cells)} cases." if len(found) < len(cells) else ""),
        [f"{_in_words(cell)}: {signed(change.interval)}" for cell in worse if (change := changes[cell])],
    )


def default_augmentation(cells: Cells) -> Judgement | None:
    """The default augmentation of MAP heads against none."""
    found = _from(gains(cells, MAP_AUTO, MAP), FEW)
    whole = compare(found.values())
    if not whole:
        return None
    misses = _below(found, -MARGIN)
    return Judgement(
        f'augment="auto" of MAP heads is nowhere more than {MARGIN:g} points under no augmentation, with {FEW} shots '
        "and more.",
        not misses,
        f"On average {signed(whole.interval)}; more than {MARGIN:g} points under it in {len(misses)} of {len(found)} "
        "cases.",
        misses,
    )


def in_markdown(judgement: Judgement) -> str:
    """The judgement in a paragraph, with a line for each miss."""
    verdict = "Pass" if judgement.passed else "Miss"
    lines = [f"- {miss}" for miss in judgement.misses]
    head = f"**{verdict}.** {judgement.asked} {judgement.found}"
    return "\n".join([head, "", *lines]) if lines else head


def _below(found: Mapping[Cell, BySeed], limit: float) -> list[str]:
    """Describe the cells whose mean is below a limit, the lowest first."""
    means = {cell: _mean([values]) for cell, values in found.items()}
    low = sorted((cell for cell in means if means[cell] < limit), key=lambda cell: means[cell])
    changes = [(cell, compare([found[cell]])) for cell in low]
    return [f"{_in_words(cell)}: {signed(change.interval)}" for cell, change in changes if change]


def _from(found: Mapping[Cell, BySeed], shots: int) -> dict[Cell, BySeed]:
    return {cell: values for cell, values in found.items() if cell.shots >= shots}


def _grouped(found: Mapping[Cell, BySeed], key: Callable[[Cell], Any]) -> dict[Any, list[BySeed]]:
    groups: dict[Any, list[BySeed]] = {}
    for cell, values in found.items():
        groups.setdefault(key(cell), []).append(values)
    return groups


def _mean(values: Iterable[BySeed]) -> float:
    """Mean over cells of their means over seeds."""
    return float(np.mean([np.mean(list(one.values())) for one in values]))


def _mean_test(cells: Cells, method: Method) -> float:
    found = each_cell(cells, method, lambda scores: scores.test)
    return _mean(found.values()) if found and len(found) == len(cells) else float("nan")


def _in_words(cell: Cell) -> str:
    return f"{cell.dataset}, {cell.backbone}, {in_shots(cell.shots)}"
