"""What the report says of the bar: pass or miss, by how much, and where."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frofa.study.reporting.heads.bar import Judgement, best_default, judgements
from frofa.study.reporting.heads.methods import FEW_SHOT, ORACLES, TUNED, gains
from frofa.study.reporting.plots import write_figures
from frofa.study.reporting.report import parts, write_report
from frofa.study.reporting.summary import by_cell
from frofa.study.results import Candidate, StudyResult

FAST = Candidate("FewShot fast", features="auto", views=6)
HIGH = Candidate("FewShot high", features="auto+tokens", views=6)
RIDGE = Candidate("ridge", setting="default", features="pooled")
PROTOTYPE = Candidate("prototype", setting="default", features="pooled")
TUNED_PROBES = [
    Candidate(head, setting=setting, features="auto", views=6)
    for head, setting in (("logistic", "unit C=1"), ("ridge", "alpha=10"), ("prototype", "unit"))
]
MAP = Candidate("MAP", features="tokens")
MAP_AUTO = Candidate("MAP", "auto", features="tokens")
LEVELS: dict[Candidate, float] = {
    FAST: 60.0,
    HIGH: 61.0,
    RIDGE: 55.0,
    PROTOTYPE: 50.0,
    MAP: 52.0,
    MAP_AUTO: 53.0,
    **dict(zip(TUNED_PROBES, (58.0, 59.0, 50.0), strict=True)),
}
Shift = Callable[[Candidate, str, int], float]


def rows(shift: Shift = lambda *_: 0.0, *, calibration: float = 3.0, noise: float = 0.05) -> list[StudyResult]:
    """Results of two sets at three numbers of shots, ten seeds, with shifts by candidate, set and shots."""
    rng = np.random.default_rng(0)
    found = []
    for dataset in ("maps", "plots"):
        for shots in (1, 5, 10):
            for seed in range(10):
                level = rng.normal(0, 3)
                for candidate, mean in LEVELS.items():
                    value = level + mean + shots + shift(candidate, dataset, shots) + rng.normal(0, noise)
                    place: dict[str, Any] = {"dataset": dataset, "backbone": "tiny", "shots": shots, "seed": seed}
                    # By validation accuracy, the second of the tuned probes is not the best.
                    validation = value + 5 * (candidate == TUNED_PROBES[0])
                    scores: dict[str, Any] = {"log_loss": 1.0, "out_of_fold": value + 1, "seconds": 0.1}
                    scores |= {"calibration": calibration + 1, "calibration_floor": 2.0}
                    scores |= {"calibration_pooled": calibration}
                    found.append(StudyResult(**asdict(candidate), **place, validation=validation, test=value, **scores))
    return found


def judged(results: Iterable[StudyResult], seconds: Mapping[str, float] | None = None) -> dict[str, Judgement]:
    found = judgements(by_cell(results), {"a machine": 0.2} if seconds is None else seconds)
    return {judgement.asked[:3] if judgement.asked.startswith("(") else "auto": judgement for judgement in found}


def test_all_parts_pass_where_all_is_well() -> None:
    found = judged(rows())
    assert list(found) == ["(a)", "(b)", "(c)", "(d)", "(e)", "auto"]
    assert all(judgement.passed and not judgement.misses for judgement in found.values())
    assert "The best default is ridge" in found["(a)"].found
    assert "+5.0" in found["(a)"].found
    assert "0.20 s (a machine)" in found["(d)"].found


def worse(candidate: Candidate, points: float, *, where: str = "plots", at: int = 5) -> Shift:
    return lambda c, dataset, shots: points if (c, dataset, shots) == (candidate, where, at) else 0.0


def test_misses_say_where_and_by_how_much() -> None:
    found = judged(rows(worse(FAST, -3.0)))
    assert not found["(b)"].passed
    [miss] = found["(b)"].misses
    assert miss.startswith("plots, tiny, 5 shots: -2.0")
    assert "in 1 of 4 cases" in found["(b)"].found
    found = judged(rows(worse(HIGH, -4.0, at=10)))
    assert not found["(e)"].passed
    assert found["(e)"].misses[0].startswith("plots, tiny, 10 shots: -3.0")
    found = judged(rows(worse(MAP_AUTO, -2.0)))
    assert not found["auto"].passed
    assert found["auto"].misses[0].startswith("plots, tiny, 5 shots: -1.0")
    found = judged(row for row in rows() if (row.head, row.shots) != ("FewShot high", 1))
    assert "Not fitted: 2 of 6 cases." in found["(e)"].found


def test_what_is_asked_of_many_shots_alone() -> None:
    """One shot is not part of the bar against oracles, of calibration or of the default augmentation."""
    found = judged(rows(lambda c, _, shots: -9.0 if shots == 1 and c in (FAST, MAP_AUTO) else 0.0))
    assert found["(b)"].passed
    assert found["auto"].passed
    assert not found["(a)"].passed
    assert any("1 shot: -4.0" in miss for miss in found["(a)"].misses)


def test_calibration_seconds_and_distance() -> None:
    found = judged(rows(calibration=6.0), {"slow": 1.3, "fast": 0.3})
    assert not found["(c)"].passed
    assert len(found["(c)"].misses) == 4
    assert not found["(d)"].passed
    found = judged(rows(lambda c, *_: 2.5 if c == RIDGE else 0.0))
    assert not found["(a)"].passed, "2.5 points are not 3"
    # A head on tokens that adds nothing does not gain.
    assert not judged(rows(lambda c, *_: -1.0 if c == HIGH else 0.0, noise=1.0))["(e)"].passed


def test_an_oracle_looks_at_test_accuracy_and_nobody_else() -> None:
    cells = by_cell(rows())
    for scores in cells.values():
        tuned, oracle = TUNED["auto, 6 views"].pick(scores), ORACLES["auto, 6 views"].pick(scores)
        assert tuned is not None
        assert oracle is not None
        assert (tuned.candidate, oracle.candidate) == (TUNED_PROBES[0], TUNED_PROBES[1])
    default = best_default(cells)
    assert default is not None
    assert default.name == "ridge"
    assert len(gains(cells, FEW_SHOT, TUNED["pooled"])) == 0, "no probe was tuned on pooled features here"


def test_parts_without_results_are_left_out() -> None:
    assert list(judged([row for row in rows() if row.head != "FewShot high"], {})) == ["(a)", "(b)", "(c)", "auto"]
    assert judged([row for row in rows() if row.candidate == RIDGE], {}) == {}


def test_the_report_has_tables_and_figures(tmp_path: Path) -> None:
    results = rows()
    figures = write_figures(results, tmp_path)
    assert [path.name for path in figures] == ["accuracy.png", "oracle.png"]
    options: dict[str, Any] = {"command": "frofa study maps plots", "versions": "frofa", "notes": {}}
    text = write_report(results, tmp_path, figures=figures, seconds={"a machine": 0.2}, **options).read_text()
    assert text.count("**Pass.**") == 6
    assert "**Miss.**" not in text
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines() if line.startswith("| ")}
    assert "nan" not in text
    assert "| oracle probe, auto, 6 views | the best probe by TEST accuracy" in text
    assert lines["maps, tiny"].count("**") >= 2
    heads, augmentations = parts(results)
    assert heads
    assert not augmentations


@pytest.mark.parametrize("shots", [5, 10])
def test_expectations_are_compared_with_test_accuracy(tmp_path: Path, shots: int) -> None:
    options: dict[str, Any] = {"command": "", "versions": "", "notes": {}}
    text = write_report([row for row in rows() if row.shots == shots], tmp_path, **options).read_text()
    section = text.split("## What heads expect of themselves")[1].split("\n## ")[0]
    assert "| FewShot fast | +1.0 ± 0.0 (1.0) |" in section
