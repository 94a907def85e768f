import random
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from study_helpers import BASELINES, BRIGHTNESS, EVERYTHING, PLATEAU, SINGLES, like_the_paper, study

from frofa import mean_interval
from frofa.study.reporting.summary import (
    METHODS,
    Cell,
    Scores,
    augmentation_names,
    by_backbone,
    by_cell,
    chosen,
    compare,
    family_gain,
    gain,
    minus,
    of_augmentation,
    pooled,
    pooled_accuracy,
    sequence,
    single,
)
from frofa.study.results import NONE, Candidate, StudyResult


def scores(candidate: Candidate, validation: list[float], test: list[float] | None = None) -> Scores:
    test = validation if test is None else test
    return Scores(candidate, dict(enumerate(validation)), dict(enumerate(test)))


def brightness(level: float, variant: str = "c2") -> Candidate:
    return Candidate("MAP", "brightness", variant, level)


def test_the_best_mean_validation_accuracy_is_chosen() -> None:
    candidates = [
        scores(brightness(0.1), [90, 10], [99, 99]),
        scores(brightness(0.2), [55, 50], [1, 2]),
        scores(brightness(0.3), [51, 51], [98, 98]),
    ]
    best = chosen(candidates)
    assert best is candidates[1]
    assert best.test == {0: 1, 1: 2}


def test_equals_go_to_the_lowest_level_then_to_the_first() -> None:
    tied = [scores(brightness(level), [50, 60]) for level in (0.3, 0.1, 0.2)]
    assert chosen(tied) is tied[1]
    probes = [scores(Candidate("ridge", setting=s), [0.1, 0.2, 0.3][::step]) for s, step in (("b", -1), ("a", 1))]
    assert chosen(probes) is probes[0]  # sums in another order differ by rounding


def test_nothing_is_chosen_from_nothing() -> None:
    assert chosen([]) is None
    assert chosen([scores(brightness(0.1), [50])], METHODS["ridge"]) is None


def test_candidates_that_lack_seeds_or_failed_are_not_chosen() -> None:
    lucky, diverged, whole = brightness(0.1), brightness(0.2), brightness(0.3)
    group = [scores(lucky, [99]), scores(diverged, [99, float("nan")]), scores(whole, [50, 50])]
    best = chosen(group)
    assert best
    assert best.candidate == whole


def choices(results: list[StudyResult]) -> dict[tuple[Cell, str], Candidate]:
    rules = {**METHODS, "brightness": of_augmentation("brightness"), "sequence": sequence, "single": single}
    found = {(cell, name): chosen(s, rule) for cell, s in by_cell(results).items() for name, rule in rules.items()}
    return {key: value.candidate for key, value in found.items() if value}


def test_test_accuracies_change_no_choice() -> None:
    results = study()
    tests = random.Random(0).sample([r.test for r in results], len(results))
    leaked = [replace(r, test=test) for r, test in zip(results, tests, strict=True)]
    assert choices(leaked) == choices(results)
    assert len(choices(results)) >= 8 * len(METHODS)
    validated = [replace(r, validation=test) for r, test in zip(results, tests, strict=True)]
    assert choices(validated) != choices(results)


def test_choices_are_made_by_cell() -> None:
    results = study(BRIGHTNESS, lambda c, shots: 10 * (c.level == (0.2 if shots == 1 else 0.7)), shots=(1, 5))
    levels = {cell.shots: c.level for (cell, name), c in choices(results).items() if name == "best FroFA"}
    assert levels == {1: 0.2, 5: 0.7}


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("MAP default", {""}),
        ("MAP", {"weight_decay=0 lr=0.01", "lr=0.1 weight_decay=0.0"}),
        ("MAP^wd", {"", "weight_decay=0 lr=0.01", "lr=0.1 weight_decay=0.0", "weight_decay=0.01", "lr=0.1"}),
    ],
)
def test_baselines_are_told_apart_by_setting(method: str, settings: set[str]) -> None:
    everything = ["", "weight_decay=0 lr=0.01", "lr=0.1 weight_decay=0.0", "weight_decay=0.01", "lr=0.1"]
    assert {s for s in everything if METHODS[method](Candidate("MAP", setting=s))} == settings
    assert not METHODS[method](brightness(0.1))
    assert not METHODS[method](Candidate("ridge"))
    assert not METHODS[method](Candidate("MAP+cls"))


@pytest.mark.parametrize(
    ("candidate", "methods"),
    [
        (brightness(0.1), {"best FroFA"}),
        (replace(brightness(0.1), setting="lr=0.1"), set()),
        (Candidate("ridge", setting="alpha=1"), {"ridge", "best probe"}),
        (Candidate("prototype"), {"prototype", "best probe"}),
        (Candidate("logistic", "brightness", "c2", 0.1, "C=1"), {"logistic + FroFA"}),
        (Candidate("MAP+cls", setting="lr=0.1"), {"MAP+cls"}),
        (Candidate("MAP+cls", "brightness", "c2", 0.1), {"MAP+cls + FroFA"}),
    ],
)
def test_methods_of_a_candidate(candidate: Candidate, methods: set[str]) -> None:
    assert {name for name, rule in METHODS.items() if rule(candidate)} == methods


def test_a_later_row_replaces_an_earlier_one() -> None:
    row = study(BASELINES[:1], datasets=["birds"], shots=[1], seeds=1)[0]
    (found,) = by_cell([row, replace(row, validation=1.0, test=2.0)])[Cell("birds", "tiny", 1)]
    assert found == Scores(Candidate("MAP"), {0: 1.0}, {0: 2.0})


def test_changes_are_paired_by_seed() -> None:
    assert minus({2: 5.0, 0: 1.0, 7: 3.0}, {0: 4.0, 2: 1.0, 1: 9.0}) == {0: -3.0, 2: 4.0}


def test_change_of_one_set_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    treated, baseline = rng.normal(51, 2, 6), rng.normal(50, 2, 6)
    change = compare([minus(dict(enumerate(treated)), dict(enumerate(baseline)))])
    assert change
    np.testing.assert_allclose(change.interval, mean_interval(treated - baseline))
    assert change.p == pytest.approx(stats.ttest_rel(treated, baseline).pvalue)
    assert (change.pairs, change.sets) == (6, 1)


def test_pooled_change_weighs_sets_alike() -> None:
    change = compare([{0: 1.0, 1: 3.0}, {0: 7.0}, {}])
    assert change
    assert change.interval.mean == pytest.approx(4.5)  # of the means 2 and 7
    assert change.interval.half_width == pytest.approx(mean_interval([1, 3, 7]).half_width)
    assert (change.pairs, change.sets) == (3, 2)


def test_single_differences_have_no_interval_and_no_verdict() -> None:
    change = compare([{0: 5.0}])
    assert change
    assert f"{change.interval:+.1f}" == "+5.0"
    assert np.isnan(change.p)
    assert change.verdict == "not distinguishable"
    assert compare([]) is compare([{}]) is None


@pytest.mark.parametrize(
    ("values", "verdict", "p"),
    [
        ([1.0, 1.1, 0.9], "yes", 0.004),
        ([-1.0, -1.1, -0.9], "no", 0.004),
        ([2.0, -1.0, 0.0], "not distinguishable", 0.74),
    ],
)
def test_verdict_follows_the_interval(values: list[float], verdict: str, p: float) -> None:
    change = compare([dict(enumerate(values))])
    assert change
    assert change.verdict == verdict
    assert change.p == pytest.approx(p, rel=0.2)


@pytest.mark.parametrize(("value", "p", "verdict"), [(0.0, 1.0, "not distinguishable"), (0.5, 0.0, "yes")])
def test_constant_differences(value: float, p: float, verdict: str) -> None:
    change = compare([{0: value, 1: value, 2: value}])
    assert change
    assert (change.p, change.verdict) == (p, verdict)


def test_two_differences_say_nothing() -> None:
    change = compare([{0: 0.5, 1: 0.5}])
    assert change
    assert change.verdict == "not distinguishable"


def test_gain_recovers_a_planted_effect() -> None:
    cells = by_cell(study(noise=0.05))
    for cell, found in cells.items():
        values = gain(found, METHODS["best FroFA"], METHODS["MAP default"])
        best = max(like_the_paper(c, cell.shots) for c in EVERYTHING if METHODS["best FroFA"](c))
        assert sorted(values) == list(range(5))
        assert np.mean(list(values.values())) == pytest.approx(best, abs=0.2)
    sets = by_backbone(cells)["tiny"][1]
    change = pooled(sets, of_augmentation("contrast"), METHODS["MAP default"])
    assert change
    assert change.interval.low < 2.0 < change.interval.high
    assert (change.pairs, change.sets) == (10, 2)


def test_mean_over_sets_has_an_interval_over_seeds() -> None:
    sets = {"a": [scores(Candidate("MAP"), [10, 30])], "b": [scores(Candidate("MAP"), [30, 20])]}
    accuracy = pooled_accuracy(sets, METHODS["MAP default"])
    assert accuracy == mean_interval([20, 25])
    assert pooled_accuracy({**sets, "c": []}, METHODS["MAP default"]) is None


def test_family_gain_is_the_mean_of_its_members() -> None:
    (found,) = by_cell(study(datasets=["a"], shots=[1], noise=0)).values()
    assert family_gain(found, "geometric") == pytest.approx(dict.fromkeys(range(5), -1.0))
    stylistic = (6 * 2.0 + max(PLATEAU.values())) / 7
    assert family_gain(found, "stylistic") == pytest.approx(dict.fromkeys(range(5), stylistic))
    assert family_gain(found, "stylistic", ["c2"]) == pytest.approx(dict.fromkeys(range(5), 6.1))


def test_names_come_by_family_with_sequences_last() -> None:
    candidates = [brightness(0.1), *SINGLES, Candidate("MAP", "a > b"), Candidate("MAP", "new"), *BASELINES]
    names = augmentation_names({1: {"birds": [Scores(candidate, {0: 1.0}, {0: 1.0}) for candidate in candidates]}})
    assert names[:2] == ["rotate", "shear x"]
    assert names[-2:] == ["new", "a > b"]
    assert names.index("patch dropout") < names.index("brightness") < names.index("contrast") < names.index("jpeg")
    assert NONE not in names
