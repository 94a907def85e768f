from collections.abc import Callable
from dataclasses import replace

import pytest
from study_helpers import BASELINES, BRIGHTNESS, HUMP, PLATEAU, study

from frofa.study.reporting.levels import hump, level_curve, plateau, pooled_levels
from frofa.study.reporting.summary import by_backbone, by_cell
from frofa.study.results import Candidate


def test_level_curve_starts_at_the_default_head() -> None:
    (found,) = by_cell(study(datasets=["a"], shots=[1], noise=0)).values()
    curve = level_curve(found, "brightness", "c")
    assert list(curve) == list(HUMP)
    assert curve[0.0].candidate == Candidate("MAP")
    assert level_curve([s for s in found if s.candidate != Candidate("MAP")], "brightness", "c") == {}
    points = pooled_levels({"a": found}, "brightness", "c")
    assert [p.change.interval.mean for p in points] == pytest.approx(list(HUMP.values()))


def test_pooled_levels_leave_out_sets_that_lack_levels() -> None:
    results = study([BASELINES[0], *BRIGHTNESS], datasets=["a", "b"], shots=[1])
    cut = [r for r in results if r.dataset == "a" or r.level != 0.5]
    points = pooled_levels(by_backbone(by_cell(cut))["tiny"][1], "brightness", "c")
    assert len(points) == 11
    assert {p.change.sets for p in points} == {1}


CURVES: dict[str, Callable[[float], float]] = {
    "hump": lambda level: HUMP[level],
    "plateau": lambda level: PLATEAU[level],
    "rising": lambda level: 6 * level,
    "falling": lambda level: -6 * level,
    "flat": lambda _: 0.0,
    "half": lambda level: 6 * level if level <= 0.5 else 8 - 6 * level,
    "late fall": lambda level: -4.0 * (level > 0.5),
}


@pytest.mark.parametrize(
    ("curve", "is_hump", "is_plateau"),
    [
        ("hump", "yes", "no"),
        ("plateau", "not distinguishable", "yes"),
        ("rising", "no", "yes"),
        ("falling", "no", "no"),
        ("flat", "not distinguishable", "not distinguishable"),
        ("half", "yes", "no"),
        ("late fall", "not distinguishable", "no"),
    ],
)
def test_planted_shapes_are_found_and_their_absence_is_denied(curve: str, is_hump: str, is_plateau: str) -> None:
    results = study([BASELINES[0], *BRIGHTNESS], lambda c, _: CURVES[curve](c.level), shots=[1])
    sets = by_backbone(by_cell(results))["tiny"][1]
    for variant in ("c", "c2"):
        found = hump(sets, "brightness", variant), plateau(sets, "brightness", variant)
        assert [shape.verdict for shape in found if shape] == [is_hump, is_plateau]


def test_the_best_level_is_chosen_by_validation() -> None:
    results = study([BASELINES[0], *BRIGHTNESS], lambda c, _: HUMP[c.level], shots=[1])
    leaked = [replace(r, test=r.test + 50 * (r.level == 0.9)) for r in results]
    for rows in (results, leaked):
        shape = hump(by_backbone(by_cell(rows))["tiny"][1], "brightness", "c")
        assert shape
        assert shape.levels == [0.2]


@pytest.mark.parametrize("levels", [[], [0.5]])
def test_no_shape_without_enough_levels(levels: list[float]) -> None:
    results = study([BASELINES[0], *(Candidate("MAP", "brightness", "c", level) for level in levels)], shots=[1])
    sets = by_backbone(by_cell(results))["tiny"][1]
    assert hump(sets, "brightness", "c") is plateau(sets, "brightness", "c") is None
