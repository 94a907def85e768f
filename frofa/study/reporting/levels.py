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
    """A judgement of a curve, and what it rests on.

    Attributes
    ----------
    verdict : Verdict
    levels : list of float
        The best levels by validation accuracy, one a set.
    rise, fall : Change
        From level 0 up, and what is lost from the best level to the strongest.
    """

    verdict: Verdict
    levels: list[float]
    rise: Change
    fall: Change


def level_curve(scores: Iterable[Scores], augmentation: str, variant: str) -> dict[float, Scores]:
    """A variant's scores by ascending level; level 0 is MAP default. Empty if the variant or level 0 is missing."""
    scores = list(scores)
    rule = of_augmentation(augmentation, [variant])
    curve = {s.candidate.level: s for s in scores if rule(s.candidate) and s.candidate.level > 0}
    baseline = chosen(scores, METHODS["MAP default"])
    return dict(sorted({0.0: baseline, **curve}.items())) if baseline and curve else {}


def pooled_levels(sets: Sets, augmentation: str, variant: str) -> list[LevelPoint]:
    """The curve over all sets that have every level which some set has; empty if there is none."""
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
    """Whether the best inner level is above both ends, level 0 and the strongest, by more than the intervals.

    Returns
    -------
    Shape or None
        Yes if both differences are above zero, no if one is below. None if no set has an inner level.
    """
    curves = [curve for curve in _curves(sets, augmentation, variant) if len(curve) > 2]
    best = [_best(list(curve.values())[1:-1]) for curve in curves]
    rise = compare(minus(top.test, curve[0.0].test) for curve, top in zip(curves, best, strict=True))
    fall = compare(minus(top.test, curve[max(curve)].test) for curve, top in zip(curves, best, strict=True))
    if not rise or not fall:
        return None
    verdicts = {rise.verdict, fall.verdict}
    verdict: Verdict = "no" if "no" in verdicts else "yes" if verdicts == {"yes"} else "not distinguishable"
    return Shape(verdict, _levels(best), rise, fall)


def plateau(sets: Sets, augmentation: str, variant: str) -> Shape | None:
    """Whether the strongest level is above level 0, and not below the best level, by more than the intervals.

    Returns
    -------
    Shape or None
        No if it is below level 0, or below the best level. None if no set has two levels above 0.
    """
    curves = [curve for curve in _curves(sets, augmentation, variant) if len(curve) > 2]
    best = [_best(list(curve.values())[1:]) for curve in curves]
    rise = compare(minus(curve[max(curve)].test, curve[0.0].test) for curve in curves)
    fall = compare(minus(top.test, curve[max(curve)].test) for curve, top in zip(curves, best, strict=True))
    if not rise or not fall:
        return None
    verdict = "no" if fall.verdict == "yes" else rise.verdict
    return Shape(verdict, _levels(best), rise, fall)


def _curves(sets: Sets, augmentation: str, variant: str) -> list[dict[float, Scores]]:
    return [level_curve(scores, augmentation, variant) for scores in sets.values()]


def _best(scores: list[Scores]) -> Scores:
    best = chosen(scores)
    assert best is not None, "a curve has at least one level above 0"
    return best


def _levels(best: list[Scores]) -> list[float]:
    return sorted({s.candidate.level for s in best})
