"""Accuracy of the samples that are kept, against a loop over them."""

import numpy as np
import pytest

from frofa.evaluation import proportion_interval, rejection_curve


@pytest.fixture
def predictions() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random(200) < 0.8, rng.random(200)


def test_points_are_the_accuracies_of_the_surest(predictions: tuple[np.ndarray, np.ndarray]) -> None:
    right, sure = predictions
    curve = rejection_curve(right, sure)
    order = np.argsort(-sure)
    for n in (1, 2, 57, 200):
        surest = right[order[:n]]
        assert curve.kept[n - 1] == n / 200
        assert curve.threshold[n - 1] == sure[order[n - 1]]
        found = curve.accuracy[n - 1], curve.low[n - 1], curve.high[n - 1]
        np.testing.assert_allclose(found, proportion_interval(int(surest.sum()), n), atol=1e-12)
    assert curve.area == pytest.approx(np.mean([right[order[:n]].mean() for n in range(1, 201)]))


def test_equal_confidences_are_kept_together_in_no_order() -> None:
    for right in ([True, False, False], [False, True, False], [False, False, True]):
        curve = rejection_curve(right, [0.5, 0.5, 0.5])
        assert curve.kept.tolist() == [1.0]
        assert curve.accuracy.tolist() == [1 / 3]
        assert curve.area == pytest.approx(1 / 3)


def test_area_is_the_average_over_orders_of_ties() -> None:
    rng = np.random.default_rng(0)
    right, sure = rng.random(30) < 0.6, rng.integers(0, 5, 30)
    areas = [rejection_curve(right, sure + 1e-3 * rng.random(30)).area for _ in range(3000)]
    assert rejection_curve(right, sure).area == pytest.approx(np.mean(areas), abs=4 * np.std(areas) / np.sqrt(3000))


@pytest.mark.parametrize(
    ("right", "sure", "message"),
    [([], [], "one confidence"), ([True], [0.1, 0.2], r"\(1,\) and \(2,\)"), ([True, False], [0.1, np.nan], "1 NaN")],
)
def test_what_is_no_confidence_is_refused(right: list[bool], sure: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rejection_curve(right, sure)
