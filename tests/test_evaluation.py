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
    calibration_error,
    confusion_matrix,
    label_positions,
    log_loss,
    proportion_interval,
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
