"""Accuracy against the level of an augmentation: the curve, and whether it is a hump or a plateau."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from frofa.study.reporting.summary import (
    METHODS,
    Change,
    Scores,
    Sets,
    Verdict,
    chosen,
    compare,
    minus,
    of_augmentation,
)


class LevelPoint(NamedTuple):
    """One level: mean test accuracy over the sets, and the paired change against level 0."""

    level: float
    accuracy: float
    change: Change


class Shape(NamedTuple):
    """A judgement of a curve: the verdict, and what it rests on.

    Its levels are the best by validation accuracy, one a set; the rise is the change from level 0 up, the fall the loss
    from the best level to the strongest.
    """

    verdict: Verdict
    levels: list[float]
    rise: Change
    fall: Change


class _Marks(NamedTuple):
    """Scores at three levels of one set's curve."""

    zero: Scores
    best: Scores
    strongest: Scores


def level_curve(scores: Iterable[Scores], augmentation: str, variant: str) -> dict[float, Scores]:
    """A variant's scores by ascending level; level 0 is MAP default. Empty if the variant or level 0 is missing."""
    scores = list(scores)
    is_meant = of_augmentation(augmentation, [variant])
    curve = {s.candidate.level: s for s in scores if is_meant(s.candidate) and s.candidate.level > 0}
    baseline = chosen(scores, METHODS["MAP default"])
    return dict(sorted({0.0: baseline, **curve}.items())) if baseline and curve else {}


def pooled_levels(sets: Sets, augmentation: str, variant: str) -> list[LevelPoint]:
    """The curve over all sets that have every level which some set has; empty if there is none."""
    # A set that lacks a level would change which sets the mean is over from level to level: it is left out of all.
    curves = [level_curve(scores, augmentation, variant) for scores in sets.values()]
    levels = sorted(set().union(*curves))
    whole = [curve for curve in curves if curve and len(curve) == len(levels)]
    points = []
    for level in levels:
        accuracies = [np.mean(list(curve[level].test.values())) for curve in whole]
        change = compare(minus(curve[level].test, curve[0.0].test) for curve in whole)
        if change:
            points.append(LevelPoint(level, float(np.mean(accuracies)), change))
    return points


def hump(sets: Sets, augmentation: str, variant: str) -> Shape | None:
    """Judge whether the best inner level is above both ends, level 0 and the strongest, by more than the intervals.

    The verdict is yes if both differences are above zero, no if one is below. None if no set has an inner level.
    """
    marks = _marks(sets, augmentation, variant, slice(1, -1))
    rise = compare(minus(curve.best.test, curve.zero.test) for curve in marks)
    fall = compare(minus(curve.best.test, curve.strongest.test) for curve in marks)
    if not rise or not fall:
        return None
    # A hump is above both ends: one difference below zero refutes it, and one within its interval leaves it open.
    verdicts = {rise.verdict, fall.verdict}
    verdict: Verdict = "no" if "no" in verdicts else "yes" if verdicts == {"yes"} else "not distinguishable"
    return Shape(verdict, _best_levels(marks), rise, fall)


def plateau(sets: Sets, augmentation: str, variant: str) -> Shape | None:
    """Judge whether the strongest level is above level 0, and not below the best, by more than the intervals.

    The verdict is no if it is below level 0, or below the best level. None if no set has two levels above 0.
    """
    marks = _marks(sets, augmentation, variant, slice(1, None))
    rise = compare(minus(curve.strongest.test, curve.zero.test) for curve in marks)
    fall = compare(minus(curve.best.test, curve.strongest.test) for curve in marks)
    if not rise or not fall:
        return None
    # A fall that is above zero by more than its interval ends the plateau; otherwise the rise decides.
    return Shape("no" if fall.verdict == "yes" else rise.verdict, _best_levels(marks), rise, fall)


def _marks(sets: Sets, augmentation: str, variant: str, candidates: slice) -> list[_Marks]:
    """The marks of each set with two levels above 0; the best is chosen among a slice of the curve."""
    curves = [list(level_curve(scores, augmentation, variant).values()) for scores in sets.values()]
    return [
        _Marks(curve[0], best, curve[-1])
        for curve in curves
        if len(curve) > 2 and (best := chosen(curve[candidates])) is not None
    ]


def _best_levels(marks: Iterable[_Marks]) -> list[float]:
    return sorted({curve.best.candidate.level for curve in marks})
