"""Whether probabilities can be trusted: reliability, and the accuracy of images that are kept."""

import math

import numpy as np

from frofa.evaluation import Interval, RejectionCurve
from frofa.reporting.facts.contents import Facts
from frofa.reporting.page.markup import DASH, Html, details, join, percent, table, tag, with_interval

SHARES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.25)
"""Shares kept of the table of rejection."""


def calibration(facts: Facts, figure: Html | None) -> Html:
    """Show how often predictions of a probability are right."""
    one = facts.evaluation
    ends = one.intervals.get("calibration_error")
    between = "" if ends is None else f" (95 % interval {ends.low:.3f} to {ends.high:.3f})"
    text = (
        f"How often predictions are right, by their probability: on the diagonal, probabilities mean what they say. "
        f"The expected calibration error is {one.calibration_error:.3f}{between}; perfect probabilities would have "
        f"{one.calibration_floor:.3f} by chance alone, with {len(facts.truth):,} images."
    )
    if one.reliability is None:
        return tag("p", text)
    edges, *columns = one.reliability
    rows = [
        (f"{low:.2f} to {high:.2f}", f"{int(n):,}", percent(mean), with_interval(Interval(*share)))
        for low, high, n, mean, *share in zip(edges[:-1], edges[1:], *columns, strict=True)
        if n
    ]
    head = ["Probability", "Images", "Mean probability", "Right"]
    numbers = details("The numbers", table(head, rows, "Reliability: how often predictions of a probability are right"))
    return join([tag("p", text), figure, numbers])


def rejection(facts: Facts, figure: Html | None) -> Html | None:
    """Show how accurate the classifier is on the images that are kept, if it may leave out the least sure ones."""
    found = facts.rejection
    if found is None:
        return None
    text = "How accurate the classifier is if a person looks at the images of which it is least sure. "
    areas = f"The mean accuracy over all shares is {found.by_confidence.area:.3f} by probability"
    if found.by_novelty is not None:
        areas += (
            f", and {found.by_novelty.area:.3f} by novelty, which first leaves out images unlike the training images"
        )
    numbers = [_table(found.by_confidence, "by the probability of the predicted class", "Least probability")]
    if found.by_novelty is not None:
        numbers.append(_table(found.by_novelty, "by novelty", "Least p-value"))
    return join([tag("p", text, f"{areas}."), _example(found.by_confidence), figure, details("The numbers", *numbers)])


def _example(curve: RejectionCurve) -> Html | None:
    """Say what the curve means at four fifths."""
    at = int(np.abs(curve.kept - 0.8).argmin())
    if not curve.accuracy[at] > curve.accuracy[-1]:
        return None
    kept, left = percent(curve.kept[at], 0), percent(1 - curve.kept[at], 0)
    share = Interval(curve.accuracy[at], curve.low[at], curve.high[at])
    said = f"If the least sure {left} are left to a person, {with_interval(share)} of the other {kept} are right"
    return tag("p", f"{said}, instead of {percent(curve.accuracy[-1])} of all.")


def _table(curve: RejectionCurve, by: str, threshold: str) -> Html:
    places = dict.fromkeys(int(np.abs(curve.kept - share).argmin()) for share in SHARES)
    rows = [
        (
            percent(curve.kept[i], 0),
            with_interval(Interval(curve.accuracy[i], curve.low[i], curve.high[i])),
            DASH if math.isnan(curve.threshold[i]) else f"{curve.threshold[i]:.3f}",
        )
        for i in places
    ]
    return table(["Kept", "Accuracy", threshold], rows, f"Accuracy of the images that are kept, {by}")
