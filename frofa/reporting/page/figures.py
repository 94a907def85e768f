"""Figures of a page: drawn by the Displays, once for light pages and once for dark ones."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from frofa.displays.drawing import svg_pair
from frofa.displays.rejection import RejectionDisplay
from frofa.displays.reliability import ReliabilityDisplay
from frofa.evaluation import RejectionCurve
from frofa.learning_curves import LearningCurveDisplay
from frofa.reporting.facts.contents import Facts
from frofa.reporting.page.markup import Html, percent, tag
from frofa.web.page import themed_image
from frofa.web.thumbnails import data_uri

MOST_POINTS = 150
"""Points of a curve that is drawn."""


def reliability_figure(facts: Facts) -> Html | None:
    """Draw how often predictions of a probability are right."""
    bins = facts.evaluation.reliability
    if bins is None:
        return None
    display = ReliabilityDisplay(bins)
    return figure(display.plot, display.describe())


def rejection_figure(facts: Facts) -> Html | None:
    """Draw the accuracy of the images that are kept."""
    if facts.rejection is None:
        return None
    curves = {"probability": facts.rejection.by_confidence, "novelty": facts.rejection.by_novelty}
    display = RejectionDisplay({by: thinned(curve) for by, curve in curves.items() if curve is not None})
    return figure(display.plot, display.describe())


def thinned(curve: RejectionCurve) -> RejectionCurve:
    """Leave out points of a curve that nobody sees: it may have one for each image."""
    at = np.unique(np.linspace(0, len(curve.kept) - 1, MOST_POINTS).round().astype(np.intp))
    return replace(
        curve,
        kept=curve.kept[at],
        accuracy=curve.accuracy[at],
        low=curve.low[at],
        high=curve.high[at],
        threshold=curve.threshold[at],
    )


def learning_figure(facts: Facts) -> Html | None:
    """Draw the learning curve."""
    needed = facts.needed
    if needed is None:
        return None
    alt = f"Learning curve: {percent(needed.accuracy_now)} with {needed.n_labelled:,} labels"
    return figure(LearningCurveDisplay(needed).plot, alt)


def figure(plot: Callable[[], Any], alt: str) -> Html:
    """Draw a figure; without matplotlib, say how it would be drawn."""
    try:
        drawn = svg_pair(plot)
    except ImportError as error:
        return tag("p", f"The figure is not drawn, as {error}. Its numbers are in the table.", class_="note")
    light, dark = (data_uri(one.encode(), "svg+xml") for one in drawn)
    return tag("figure", Html(themed_image(light, dark, alt)), class_="plot")
