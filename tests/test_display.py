"""FewShotDisplay: means with intervals, and differences to a head, paired by seed."""

import numpy as np
import pytest

from frofa.display import FewShotDisplay
from frofa.evaluation import mean_interval

FOUND = {5: {"first": [60.0, 70.0], "other": [61.0, 72.0]}, 10: {"first": [70.0, 80.0], "other": [70.0, 79.0]}}


def points(display: FewShotDisplay) -> dict[str, list[float]]:
    """Heights of the drawn points, by head."""
    handles, labels = display.ax_.get_legend_handles_labels()
    return {label: np.asarray(handle[0].get_ydata()).tolist() for handle, label in zip(handles, labels, strict=True)}


def test_means_and_their_intervals_are_drawn() -> None:
    display = FewShotDisplay(FOUND).plot()
    assert points(display) == {"first": [65.0, 75.0], "other": [66.5, 74.5]}
    bars = display.ax_.containers[0].lines[2][0].get_segments()
    low, high = bars[0][:, 1]
    assert (low, high) == pytest.approx(mean_interval([60.0, 70.0])[1:])


def test_differences_are_paired() -> None:
    display = FewShotDisplay(FOUND).plot(against="first")
    assert points(display) == {"first": [], "other": [1.5, -0.5]}
    low, high = display.ax_.containers[1].lines[2][0].get_segments()[0][:, 1]
    assert (low, high) == pytest.approx(mean_interval([1.0, 2.0])[1:])
    with pytest.raises(ValueError, match=r"expected one of the heads first, other\. Got 'third'"):
        FewShotDisplay(FOUND).plot(against="third")


def test_one_seed_has_no_interval() -> None:
    display = FewShotDisplay({1: {"first": [50.0], "other": [55.0]}}).plot(against="first")
    low, high = display.ax_.containers[1].lines[2][0].get_segments()[0][:, 1]
    assert (low, high) == (5.0, 5.0)
