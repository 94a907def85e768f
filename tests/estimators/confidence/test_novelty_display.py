"""Plots of novelty: shares, areas, and what is drawn."""

from typing import Any

import numpy as np
import pytest

from frofa.estimators import NoveltyDetector, NoveltyDisplay, PrototypeClassifier

RNG = np.random.default_rng(0)
CODES = np.repeat([0, 1], 20)
X = RNG.normal(size=(40, 6)) + 4 * np.eye(2, 6)[CODES]
KNOWN, UNKNOWN = RNG.normal(size=(50, 6)) + 4 * np.eye(2, 6)[np.arange(50) % 2], RNG.normal(size=(30, 6))


@pytest.mark.parametrize("estimator", [PrototypeClassifier(reject=0.1), NoveltyDetector(reject=0.1)])
def test_shares_are_those_of_the_estimator(estimator: Any) -> None:
    estimator.fit(X, CODES)
    display = NoveltyDisplay.from_estimator(estimator, KNOWN, UNKNOWN)
    assert display.known_rejected_ == (estimator.predict(KNOWN) == -1).mean()
    assert display.unknown_rejected_ == (estimator.predict(UNKNOWN) == -1).mean()
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert f"known images, {100 * display.known_rejected_:.1f} % rejected" in labels
    # Bars of either kind add up to one.
    assert sum(bar.get_height() for bar in display.ax_.patches) == pytest.approx(2)
    line = display.ax_.get_lines()[0]
    assert line.get_xdata()[0] == estimator.novelty_threshold(0.1)


def test_the_curve_passes_the_threshold() -> None:
    display = NoveltyDisplay.from_predictions([0.0, 1.0, 2.0, 3.0], [2.5, 4.0], threshold=2.2, kind="roc")
    assert (display.known_rejected_, display.unknown_rejected_) == (0.25, 1.0)
    assert (display.roc_auc_, display.fpr95_) == (7 / 8, 0.25)
    curve, point = display.ax_.get_lines()
    assert (point.get_xdata()[0], point.get_ydata()[0]) in set(zip(*curve.get_data(), strict=True))
    axes = display.ax_
    assert display.plot(axes).ax_ is axes


def test_known_images_alone_are_drawn() -> None:
    display = NoveltyDisplay.from_estimator(PrototypeClassifier().fit(X, CODES), KNOWN, reject=0.2)
    assert 0 <= display.known_rejected_ < 0.5
    assert np.isnan(display.roc_auc_)
    with pytest.raises(ValueError, match="needs scores of unknown images"):
        display.plot(kind="roc")
    assert np.isnan(NoveltyDisplay.from_predictions([1.0, 2.0]).known_rejected_)
