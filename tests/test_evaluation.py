from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from frofa import mean_interval, sample_shots
from frofa.evaluation import Interval

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
