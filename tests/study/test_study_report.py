import random
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_helpers import BASELINES, BRIGHTNESS, EVERYTHING, PROBES_WITH_FROFA, SEQUENCES, SINGLES, Effect, study

from frofa.evaluation import Interval, mean_interval
from frofa.study.reporting.answers import answers, in_markdown, in_words, signed
from frofa.study.reporting.plots import write_figures
from frofa.study.reporting.report import write_report
from frofa.study.reporting.summary import by_cell
from frofa.study.reporting.tables import change_text, p_text, table
from frofa.study.results import NONE, Candidate, StudyResult

WITH_CLS = [Candidate("MAP+cls"), Candidate("MAP+cls", "brightness", "c2", 0.5)]
SECTIONS = [
    "What was run",
    "How to read this",
    "Answers",
    "Accuracy",
    "What was chosen",
    "Gains by shots",
    "Each augmentation against MAP default",
    "Each augmentation against MAP^wd",
    "Variants",
    "Sequences",
    "Brightness by level",
]
HUMP = "Does brightness c show a hump?"
PLATEAU = "Does brightness c2 show a plateau?"
SHRINKING = "Do the gains shrink with more shots?"
STYLISTIC = "Are stylistic augmentations better than geometric ones?"
SEQUENCE = "Is the best sequence better than the best single augmentation?"
PROBE = "Does MAP with FroFA beat the best tuned probe?"


def report(directory: Path, results: Iterable[StudyResult], **options: Any) -> str:
    options = {"command": "frofa study birds", "versions": "frofa 0.1.0", "notes": {}, **options}
    return write_report(results, directory, **options).read_text("utf-8")


def headings(text: str) -> list[str]:
    return re.findall(r"^## (.*)$", text, re.MULTILINE)


def section(text: str, title: str) -> str:
    match = re.search(rf"^##+ {re.escape(title)}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert match, f"no section {title}"
    return match[1]


def rows(text: str) -> dict[str, list[str]]:
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    return {row[0]: row[1:] for row in cells}


def verdicts(results: list[StudyResult]) -> dict[str, set[str]]:
    return {answer.question: {case.verdict for case in answer.cases} for answer in answers(by_cell(results))}


def scaled(candidate: Candidate, shots: int, *, geometric: float = 0.0, stylistic: float = 0.0) -> float:
    if candidate.augmentation in ("rotate", "shear x"):
        return geometric * shots
    return stylistic / shots if candidate.augmentation in ("contrast", "equalize") else 0.0


def test_a_whole_study_has_every_section(tmp_path: Path) -> None:
    text = report(tmp_path, study([*EVERYTHING, *WITH_CLS]))
    assert headings(text) == SECTIONS
    assert not re.search(r"\bnan\b|\binf\b|-0\.0\b|None", text)
    assert re.findall(r"^### (.*\?)$", text, re.MULTILINE) == [
        *(HUMP, PLATEAU, SHRINKING, STYLISTIC, SEQUENCE, PROBE),
        "Does MAP with class token and FroFA beat the best tuned probe?",
    ]


def test_what_was_run_is_told(tmp_path: Path) -> None:
    results = study(BASELINES, backbones=["tiny", "small"], seeds=3)
    text = section(
        report(tmp_path, results, command="frofa study here", notes={"Validation": "20 % of train"}), "What was run"
    )
    assert "```sh\nfrofa study here\n```" in text
    for line in (
        *("Sets: birds, cars", "Backbones: small, tiny", "Shots: 1, 5, 10, 25", "Seeds: 3 (0, 1, 2)"),
        *(
            f"Candidates: {len(BASELINES)}",
            f"Fits: {len(results)}",
            "Versions: frofa 0.1.0",
            "Validation: 20 % of train",
        ),
    ):
        assert f"- {line}\n" in text + "\n"
    assert "Not finished" not in text


def test_methods_are_explained_with_their_candidates(tmp_path: Path) -> None:
    explained = rows(section(report(tmp_path, study()), "How to read this"))
    counts = {name: row[-1] for name, row in explained.items()}
    assert counts["MAP default"] == counts["prototype"] == counts["ridge + FroFA"] == "1"
    assert (counts["MAP"], counts["MAP^wd"], counts["best probe"]) == ("2", "5", "4")
    assert counts["best FroFA"] == str(len([*BRIGHTNESS, *SINGLES, *SEQUENCES]))
    assert "MAP+cls" not in counts


def test_an_unfinished_study_says_so(tmp_path: Path) -> None:
    text = report(tmp_path, study(datasets=["birds"], seeds=3)[:-1])
    assert f"- Not finished: 1 of {4 * len(EVERYTHING)} combinations" in text


def test_tables_hold_the_planted_numbers(tmp_path: Path) -> None:
    text = report(tmp_path, study(noise=0, datasets=["birds"]))
    changes = rows(section(text, "Each augmentation against MAP default"))
    assert changes["augmentation"] == ["1 shot", "5 shots", "10 shots", "25 shots"]
    assert changes["rotate (geometric)"] == ["**-1.0 ± 0.0**", "**-0.3 ± 0.0**", "**-0.2 ± 0.0**", "**-0.2 ± 0.0**"]
    assert changes["brightness (stylistic)"][0] == "**+6.1 ± 0.0**"
    assert changes["jpeg (other)"][0].strip("*") == "+0.0 ± 0.0"
    assert not any(">" in name for name in changes)
    variants = rows(section(text, "Variants"))
    assert list(variants)[2:] == [f"brightness {v}" for v in ("default", "c", "c2")]
    assert rows(section(text, "Sequences"))["posterize c > brightness c2"][0] == "**+4.0 ± 0.0**"
    gains = rows(section(text, "Gains by shots"))
    assert gains["best FroFA against MAP^wd"][0] == "**+7.7 ± 0.0**"
    assert gains["best FroFA against best probe"][0] == "**-1.3 ± 0.0**"
    levels = section(text, "Brightness by level").split("| level, variant ")
    assert [part[:8].split(" ")[0] for part in levels[1:]] == ["default", "c", "c2"]
    assert rows("| x" + levels[2])["0.2"][0].endswith("(**+6.1 ± 0.0**)")


def test_changes_are_against_the_named_baseline(tmp_path: Path) -> None:
    text = report(tmp_path, study([*BASELINES, SINGLES[0]], lambda c, _: 2.0 * ("lr" in c.setting), noise=0))
    for baseline, change in (("MAP default", "+0.0"), ("MAP^wd", "-2.0")):
        found = rows(section(text, f"Each augmentation against {baseline}"))["rotate (geometric)"]
        assert [text.strip("*").split(" ")[0] for text in found] == [change] * 4


def test_accuracies_are_means_with_intervals_over_seeds(tmp_path: Path) -> None:
    results = study(BASELINES)
    text = report(tmp_path, results)
    tests = {
        name: [r.test for r in results if r.candidate == Candidate("MAP") and r.shots == 1 and r.dataset == name]
        for name in ("birds", "cars")
    }
    for name, values in tests.items():
        table_ = re.split(r"^### ", section(text, f"{name}, tiny"), flags=re.MULTILINE)[0]
        assert rows(table_)["MAP default"][0] == f"{mean_interval(values):.1f}"
    mean = mean_interval(np.mean(list(tests.values()), axis=0))
    assert rows(section(text, "Mean over 2 sets, tiny"))["MAP default"][0] == f"{mean:.1f}"


def test_a_single_seed_has_means_only(tmp_path: Path) -> None:
    results = study(datasets=["birds"], seeds=1)
    assert "±" not in report(tmp_path, results)
    assert set.union(*verdicts(results).values()) == {"not distinguishable"}


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize(
    "candidates",
    [
        BASELINES[:1],
        BASELINES[5:6],
        BRIGHTNESS[:1],
        SEQUENCES,
        PROBES_WITH_FROFA,
        WITH_CLS,
        [BASELINES[0], BRIGHTNESS[12]],
        [BASELINES[0], BASELINES[5], SINGLES[0], SINGLES[1], SEQUENCES[0]],
    ],
)
def test_parts_of_a_study_are_enough(tmp_path: Path, candidates: list[Candidate], seeds: int) -> None:
    results = study(candidates, datasets=["birds"], shots=[1, 5], seeds=seeds)
    text = report(tmp_path, results, figures=write_figures(results, tmp_path))
    assert set(headings(text)) <= {*SECTIONS, "Figures"}
    assert "| --- |\n\n" not in text  # no table without rows
    assert re.findall(r"!\[\w+\]\((.*)\)", text) == [
        name for name in ("changes.png", "brightness.png", "gains.png") if (tmp_path / name).exists()
    ]


def test_no_results_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one result"):
        report(tmp_path, [])
    assert not list(tmp_path.iterdir())


def test_a_study_like_the_papers_is_answered_like_the_papers() -> None:
    found = verdicts(study(noise=0.1))
    for question in (HUMP, PLATEAU, SHRINKING, STYLISTIC, SEQUENCE):
        assert found[question] == {"yes"}
    assert found[PROBE] == {"yes", "no"}


@pytest.mark.parametrize(
    ("effect", "question", "verdict"),
    [
        (lambda c, _: 6 * c.level, HUMP, "no"),
        (lambda c, _: -6 * c.level, PLATEAU, "no"),
        (lambda c, k: 0.2 * k * (c.augmentation != NONE), SHRINKING, "no"),
        (lambda c, k: scaled(c, k, geometric=5, stylistic=-1), STYLISTIC, "no"),
        (lambda c, _: -3.0 * (">" in c.augmentation), SEQUENCE, "no"),
        (lambda c, _: 5.0 * (c.head != "MAP"), PROBE, "no"),
        (lambda c, _: 5.0 * (c.head == "MAP"), PROBE, "yes"),
    ],
)
def test_planted_absence_is_denied(effect: Effect, question: str, verdict: str) -> None:
    assert verdicts(study(effect=effect, noise=0.3))[question] == {verdict}


def test_nothing_is_found_in_noise() -> None:
    found = verdicts(study(effect=lambda *_: 0.0, noise=0.3))
    for question in (HUMP, PLATEAU, SHRINKING):
        assert "yes" not in found[question]
        assert "not distinguishable" in found[question]


def test_probe_that_wins_at_one_shot_is_listed_as_a_loss() -> None:
    answer = next(a for a in answers(by_cell(study(noise=0.1))) if a.question == PROBE)
    assert {case.where for case in answer.cases if case.verdict == "no"} == {
        "birds, tiny, 1 shot",
        "cars, tiny, 1 shot",
    }
    text = in_markdown(answer)
    assert "Yes in 6 of 8 cases; no, it loses in 2." in text
    assert re.search(
        r"- birds, tiny, 1 shot: \*\*no, it loses\*\*\. -1\.\d ± 0\.\d \(.*> posterize c .* against ridge alpha=", text
    )


def test_sentences_hold_the_numbers() -> None:
    results = study([BASELINES[0], *SINGLES], datasets=["birds"], shots=[1], noise=0)
    (text,) = (in_markdown(a) for a in answers(by_cell(results)) if a.question == STYLISTIC)
    assert "Yes. Yes means" in text
    assert "- tiny, 1 shot: **yes**. Stylistic +2.0 ± 0.0, geometric -1.0 ± 0.0, difference +3.0 ± 0.0." in text


def test_slope_is_that_of_the_gain_on_doublings() -> None:
    results = study([BASELINES[0], SINGLES[0]], lambda c, k: (8 - 2 * np.log2(k)) * c.level, shots=[1, 2, 8], noise=0)
    shown = [replace(r, validation=r.validation + 50 * (r.augmentation != NONE)) for r in results]
    text = in_markdown(answers(by_cell(shown))[0])
    assert (
        "+4.0 ± 0.0 at 1 shot and +1.0 ± 0.0 at 8 shots; the difference is +3.0 ± 0.0, the slope -1.00 ± 0.00" in text
    )


def test_test_accuracies_do_not_choose(tmp_path: Path) -> None:
    results = study()
    tests = random.Random(0).sample([r.test for r in results], len(results))
    shuffled = [replace(r, test=test) for r, test in zip(results, tests, strict=True)]
    before, after = (rows(section(report(tmp_path, r), "What was chosen")) for r in (results, shuffled))
    assert {place: row[0] for place, row in before.items()} == {place: row[0] for place, row in after.items()}
    assert before != after


@pytest.mark.parametrize(
    ("candidate", "words"),
    [
        (Candidate("MAP"), "MAP"),
        (Candidate("MAP", setting="lr=0.1"), "MAP lr=0.1"),
        (Candidate("MAP", "brightness", "c2", 0.5), "brightness c2 0.5"),
        (Candidate("MAP", "mixup", "", 1.0), "mixup 1"),
        (Candidate("ridge", "brightness", "c", 0.1, "alpha=1"), "ridge brightness c 0.1 alpha=1"),
    ],
)
def test_candidates_in_words(candidate: Candidate, words: str) -> None:
    assert in_words(candidate) == words


def test_numbers_in_words() -> None:
    assert signed(Interval(-0.04, -0.14, 0.06)) == "+0.0 ± 0.1"
    assert signed(Interval(-0.06, -0.16, 0.04)) == "-0.1 ± 0.1"
    assert change_text(None) == p_text(None) == ""
    assert table(["a", "b"], [["x|y", "1"], ["empty", ""]]) == "| a | b |\n| --- | --- |\n| x\\|y | 1 |"
