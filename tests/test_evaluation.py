from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn import metrics

from frofa import mean_interval, sample_shots
from frofa.evaluation import (
    Interval,
    brier_score,
    calibration_error,
    calibration_floor,
    confusion_matrix,
    label_positions,
    log_loss,
    paired_interval,
    proportion_interval,
    reliability,
)

LABELS = np.random.default_rng(0).permutation(np.repeat(["ant", "bee", "cat"], [12, 20, 40]))


@pytest.mark.parametrize("seed", range(5))
def test_shots_of_a_seed_are_nested(seed: int) -> None:
    sets = [set(sample_shots(LABELS, shots, random_state=seed)) for shots in (1, 5, 10, 12)]
    assert all(fewer < more for fewer, more in pairwise(sets))


@pytest.mark.parametrize("shots", [1, 7])
def test_shots_are_balanced_distinct_and_class_by_class(shots: int) -> None:
    rows = sample_shots(LABELS, shots, random_state=0)
    assert LABELS[rows].tolist() == sorted(["ant", "bee", "cat"] * shots)
    assert len(set(rows)) == 3 * shots


def test_seeds_differ_and_repeat() -> None:
    np.testing.assert_array_equal(sample_shots(LABELS, 5, random_state=3), sample_shots(LABELS, 5, random_state=3))
    assert set(sample_shots(LABELS, 5, random_state=3)) != set(sample_shots(LABELS, 5, random_state=4))
    rng = np.random.RandomState(3)
    first, second = sample_shots(LABELS, 5, random_state=rng), sample_shots(LABELS, 5, random_state=rng)
    assert set(first) != set(second)


def test_every_sample_can_be_chosen() -> None:
    chosen = {int(row) for seed in range(200) for row in sample_shots(LABELS, 3, random_state=seed)}
    assert chosen == set(range(len(LABELS)))


def test_too_few_samples_are_named() -> None:
    with pytest.raises(ValueError, match=r"at least 13 samples of every class\. Got 12 of .*ant"):
        sample_shots(LABELS, 13, random_state=0)


@pytest.mark.parametrize("shots", [0, -1])
def test_fewer_than_one_shot_is_refused(shots: int) -> None:
    with pytest.raises(ValueError, match=f"Got {shots}"):
        sample_shots(LABELS, shots, random_state=0)


@pytest.mark.parametrize(
    "labels", [list(LABELS), pd.Series(LABELS, index=range(100, 172)), np.unique(LABELS, return_inverse=True)[1]]
)
def test_labels_may_be_of_any_kind(labels: Any) -> None:
    np.testing.assert_array_equal(sample_shots(labels, 5, random_state=0), sample_shots(LABELS, 5, random_state=0))


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("n", [2, 5, 30])
def test_interval_is_that_of_scipy(n: int, confidence: float) -> None:
    values = np.random.default_rng(n).normal(50, 3, n)
    interval = mean_interval(values.tolist(), confidence)
    expected = stats.t.interval(confidence, n - 1, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose([interval.low, interval.high], expected, rtol=1e-12)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.half_width == pytest.approx((expected[1] - expected[0]) / 2)


def test_interval_covers_the_mean_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).normal(size=(2000, 4))
    covered = [interval.low <= 0 <= interval.high for interval in map(mean_interval, draws)]
    assert abs(np.mean(covered) - 0.95) < 0.015


def test_one_value_has_an_infinite_interval() -> None:
    assert mean_interval([3.0]) == (3.0, -np.inf, np.inf)


@pytest.mark.parametrize(
    ("spec", "text"), [("", "52.0 ± 5.0"), (".2f", "52.00 ± 4.97"), ("+.1f", "+52.0 ± 5.0"), (".0f", "52 ± 5")]
)
def test_format(spec: str, text: str) -> None:
    assert format(mean_interval([50.0, 52.0, 54.0]), spec) == text


def test_sign_of_a_negative_mean_is_kept() -> None:
    assert f"{Interval(-1.25, -1.75, -0.75):+.2f}" == "-1.25 ± 0.50"


@pytest.mark.parametrize(("n_hits", "n"), [(0, 5), (5, 5), (1, 1), (37, 120), (119, 120)])
@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_share_has_the_interval_of_wilson(n_hits: int, n: int, confidence: float) -> None:
    interval = proportion_interval(n_hits, n, confidence)
    expected = stats.binomtest(n_hits, n).proportion_ci(confidence, method="wilson")
    np.testing.assert_allclose(interval, [n_hits / n, expected.low, expected.high], atol=1e-12)


@pytest.mark.parametrize(("n_hits", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_share_of_nothing_is_refused(n_hits: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"Got {n_hits} hits of {n}"):
        proportion_interval(n_hits, n)


def predictions(n: int = 200) -> tuple[Any, Any, list[str]]:
    """Labels, probabilities (n, 4) and classes, of which the last is nowhere."""
    rng = np.random.default_rng(0)
    classes = ["ant", "bee", "cat", "dog"]
    return np.array(classes)[rng.integers(0, 3, n)], rng.dirichlet(np.full(4, 0.3), n), classes


def test_log_loss_is_that_of_scikit_learn() -> None:
    y, probabilities, classes = predictions()
    assert log_loss(y, probabilities, classes) == pytest.approx(metrics.log_loss(y, probabilities, labels=classes))
    certain = np.eye(4)[np.zeros(200, int)]
    assert log_loss(y, certain, classes) == pytest.approx(metrics.log_loss(y, certain, labels=classes))


def test_confusions_are_those_of_scikit_learn() -> None:
    y, probabilities, classes = predictions()
    predicted = np.array(classes)[probabilities.argmax(1)]
    expected = metrics.confusion_matrix(y, predicted, labels=classes)
    np.testing.assert_array_equal(confusion_matrix(y, predicted, classes), expected)


@pytest.mark.parametrize("n_bins", [1, 2, 15])
def test_calibration_error_by_its_definition(n_bins: int) -> None:
    y, probabilities, classes = predictions()
    probabilities[:4] = np.eye(4)  # on the last bin's end
    right = np.array(classes)[probabilities.argmax(1)] == y
    expected = 0.0
    for low in np.arange(n_bins) / n_bins:
        within = (probabilities.max(1) > low) & (probabilities.max(1) <= low + 1 / n_bins + 1e-15)
        if within.any():
            expected += within.mean() * abs(right[within].mean() - probabilities.max(1)[within].mean())
    assert calibration_error(y, probabilities, classes, n_bins) == pytest.approx(expected)


def test_calibrated_probabilities_have_little_error() -> None:
    rng = np.random.default_rng(0)
    first = rng.uniform(size=50_000)
    y = (rng.uniform(size=50_000) > first).astype(int)
    probabilities = np.stack([first, 1 - first], 1)
    assert calibration_error(y, probabilities, [0, 1]) < 0.01
    assert calibration_error(1 - y, probabilities, [0, 1]) > 0.4


def test_brier_score_is_that_of_scikit_learn() -> None:
    y, probabilities, classes = predictions()
    expected = metrics.brier_score_loss(y, probabilities, labels=classes, scale_by_half=False)
    assert brier_score(y, probabilities, classes) == pytest.approx(expected)


def drawn(n: int, seed: int, n_classes: int = 3) -> tuple[Any, Any]:
    """Perfect probabilities, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    table = rng.dirichlet(np.full(n_classes, 0.7), n)
    return (rng.uniform(size=(n, 1)) > table.cumsum(1)).sum(1).clip(0, n_classes - 1), table


@pytest.mark.parametrize("kind", ["top", "class-wise"])
def test_floor_is_the_error_of_perfect_probabilities(kind: Any) -> None:
    errors, floors = [], []
    for seed in range(40):
        y, table = drawn(400, seed)
        errors.append(calibration_error(y, table, range(3), kind=kind))
        floors.append(calibration_floor(table, kind=kind))
    assert np.mean(errors) == pytest.approx(np.mean(floors), rel=0.1)


def test_class_wise_error_is_the_mean_over_the_classes() -> None:
    y, table = drawn(300, 0)
    bins = [reliability(y, table, range(3), 10, label=c) for c in range(3)]
    gaps = [np.nansum(one.counts * np.abs(one.accuracy - one.confidence)) / 300 for one in bins]
    assert calibration_error(y, table, range(3), 10, kind="class-wise") == pytest.approx(np.mean(gaps))


def test_reliability_has_counts_shares_and_intervals() -> None:
    y, table = drawn(300, 1)
    bins = reliability(y, table, range(3), 5)
    right = table.argmax(1) == y
    for i in range(5):
        within = (table.max(1) > i / 5) & (table.max(1) <= (i + 1) / 5)
        assert bins.counts[i] == within.sum()
        if within.any():
            assert bins.confidence[i] == pytest.approx(table.max(1)[within].mean())
            expected = proportion_interval(int(right[within].sum()), int(within.sum()))
            assert (bins.accuracy[i], bins.low[i], bins.high[i]) == expected
    assert bins.counts[0] == 0
    assert np.isnan(bins.confidence[0])
    assert bins.to_dict()["confidence"][0] is None


@pytest.mark.parametrize("measure", [log_loss, brier_score])
def test_intervals_of_means_cover_the_truth(measure: Any) -> None:
    truth = measure(*drawn(100_000, 99), range(3))
    intervals = [measure(*drawn(200, seed), range(3), 0.9) for seed in range(200)]
    covered = np.mean([one.low <= truth <= one.high for one in intervals])
    assert 0.83 <= covered <= 0.96


def test_interval_of_the_calibration_error_takes_chance_off() -> None:
    rng = np.random.default_rng(0)
    inside = []
    for seed in range(20):
        y, table = drawn(500, seed)
        # Labels of another class in a fifth of the cases: the top probability is too high by a known part.
        wrong = rng.uniform(size=500) < 0.2
        y = np.where(wrong, (y + 1 + rng.integers(0, 2, 500)) % 3, y)
        top = table.max(1)
        truth = np.abs(top - (0.8 * top + 0.1 * (1 - top))).mean()
        found = calibration_error(y, table, range(3), confidence=0.95, random_state=seed)
        inside.append(found.low <= truth <= found.high)
        assert found.mean == calibration_error(y, table, range(3))
    assert np.mean(inside) >= 0.8


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "bottom"}, "kind must be 'top' or 'class-wise'. Got 'bottom'"),
        ({"n_bins": 0}, "n_bins must be at least 1. Got 0"),
        ({"confidence": 1.0}, "confidence must be between 0 and 1. Got 1.0"),
    ],
)
def test_wrong_settings_of_the_calibration_error_are_refused(given: dict[str, Any], message: str) -> None:
    y, table = drawn(20, 0)
    with pytest.raises(ValueError, match=message):
        calibration_error(y, table, range(3), **given)
    with pytest.raises(ValueError, match=r"label must be one of the classes\. Got 7"):
        reliability(y, table, range(3), label=7)


def test_labels_are_found_as_numbers_and_in_other_normalisations() -> None:
    assert label_positions([3, 1, 2], ["1", "3"]).tolist() == [1, 0, -1]
    assert label_positions(["3", "1"], np.array([1, 3])).tolist() == [1, 0]
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert label_positions([decomposed, composed], [composed, "tea"]).tolist() == [0, 0]
    assert label_positions([decomposed, composed], [composed, decomposed]).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("y", "probabilities", "message"),
    [
        (["eel"], [[0.25] * 4], "Got eel"),
        (["ant"], [[0.5, 0.5]], r"shape \(1, 4\), a row a label\. Got shape \(1, 2\)"),
        (["ant"], [[np.nan, 0, 0, 1]], "from 0 to 1"),
        (["ant"], [[2.0, 0, 0, 0]], "from 0 to 1"),
        ([], np.empty((0, 4)), "one sample at least"),
    ],
)
def test_wrong_predictions_are_refused(y: list[str], probabilities: Any, message: str) -> None:
    for measure in (log_loss, calibration_error):
        with pytest.raises(ValueError, match=message):
            measure(y, probabilities, ["ant", "bee", "cat", "dog"])


def test_confusions_need_a_prediction_a_label() -> None:
    with pytest.raises(ValueError, match="Got 1 labels and 2 predictions"):
        confusion_matrix(["a"], ["a", "b"], ["a", "b"])


@pytest.mark.parametrize(
    ("labels", "shots", "kind", "message"),
    [
        (["a", None] * 5, 2, ValueError, "Got None at position 1 of y"),
        (np.array([["a", "b"]] * 5), 2, ValueError, r"shape \(n,\), one at least. Got shape \(5, 2\)"),
        ([], 2, ValueError, r"Got shape \(0,\)"),
        (["a", "b"] * 5, 1.5, TypeError, "a whole number, at least 1. Got 1.5"),
        (["a", "b"] * 5, "2", TypeError, "Got '2'"),
        (["a", "b"] * 5, True, TypeError, "Got True"),
    ],
)
def test_shots_of_odd_labels_and_numbers(labels: Any, shots: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        sample_shots(labels, shots, random_state=0)


def test_shots_of_labels_in_a_tensor() -> None:
    labels = torch.tensor([0, 1] * 5)
    np.testing.assert_array_equal(sample_shots(labels, 2, 0), sample_shots(labels.numpy(), 2, 0))


def test_interval_of_all_or_none_ends_at_the_share() -> None:
    assert proportion_interval(10, 10).high == 1.0
    assert proportion_interval(0, 10).low == 0.0


def test_paired_intervals_hold_the_difference_as_often_as_they_say() -> None:
    rng, inside = np.random.default_rng(0), []
    for _ in range(2000):
        first = rng.random(60) < 0.8
        # 30 % of what was wrong is right with the second, and 5 % of what was right is not.
        second = np.where(rng.random(60) < np.where(first, 0.05, 0.3), ~first, first)
        _, low, high = paired_interval(first, second)
        inside.append(low <= 0.2 * 0.3 - 0.8 * 0.05 <= high)
    assert 0.94 < np.mean(inside) < 0.98


def test_paired_intervals_by_hand() -> None:
    first, second = np.arange(10) < 6, (np.arange(10) < 5) | (np.arange(10) > 7)
    # Two gained, one lost; of twelve, three and two.
    half = stats.norm.ppf(0.975) * np.sqrt((5 / 12 - (1 / 12) ** 2) / 12)
    assert paired_interval(first, second) == pytest.approx((0.1, 1 / 12 - half, 1 / 12 + half))
    assert paired_interval(first, first).mean == 0
    assert paired_interval([False], [True]).high == 1
    assert paired_interval(first, second, 0.5).half_width < half
    for wrong in ([], [[True]], np.ones(9, bool)):
        with pytest.raises(ValueError, match="expected hits of the same samples"):
            paired_interval(wrong, first)
