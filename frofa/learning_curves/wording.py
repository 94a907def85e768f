"""The answer in words."""

import math
from typing import Any


def in_words(needed: Any) -> str:
    """Say how many labels are needed, what is known now, and what was measured."""
    return "\n".join(
        [*_headline(needed), _now(needed), *_table(needed), *_explained(needed), _laws(needed), *needed.notes]
    )


def _headline(needed: Any) -> list[str]:
    target, level = f"{100 * needed.target:g} %", f"{100 * needed.confidence_level:g} %"
    low, high = needed.n_labels_interval
    between = f"{level} interval: {_number(low)} to {_number(high, HIGH)}"
    if needed.answer == "enough":
        each = f"{needed.n_labels / needed.n_classes:.3g} a class"
        return [f"{target} takes about {needed.n_labels:,} labels in all, {each} ({between})."]
    if needed.answer == "reached":
        return [f"{target} is reached already, with about {needed.n_labels:,} labels in all ({between})."]
    odds = f"That {HIGH} reach it is likely by {100 * needed.probability:.0f} %."
    if needed.answer == "out of reach":
        return [f"{target} is out of reach of this classifier, whatever the labels. {odds}"]
    half = "" if math.isinf(needed.median_labels) else f"{needed.median_labels:,} are as likely as not to do; "
    more = f"{odds} Label as many again ({needed.n_labelled:,}), and ask again."
    return [f"{target}: how many labels it takes cannot be said from {needed.n_labelled:,} ({half}{between}).", more]


HIGH = "a hundred times as many labels"


def _number(labels: float, infinite: str = "") -> str:
    return f"more than {infinite}" if math.isinf(labels) else f"{labels:,.0f}"


def _now(needed: Any) -> str:
    low, high = needed.accuracy_now_interval
    each = f"{needed.n_labelled / needed.n_classes:.3g} a class"
    accuracy = f"{100 * needed.accuracy_now:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
    return f"now: {accuracy} with {needed.n_labelled:,} labels, {each}, by the laws"


def _table(needed: Any) -> list[str]:
    lines = [f"{'labels':>8}{'a class':>9}{'left out':>12}{'measured, %':>24}{'laws, %':>24}"]
    for point in needed.curve:
        law = needed.predict(point.shots)
        measured = _percent(point.accuracy, point.low, point.high)
        lines.append(f"{point.n_labels:>8,}{point.shots:>9.3g}{point.left_out:>12}{measured:>24}{_percent(*law):>24}")
    for factor in (2, 4):
        shots = factor * needed.n_labelled / needed.n_classes
        ahead = _percent(*needed.predict(shots))
        lines.append(f"{factor * needed.n_labelled:>8,}{shots:>9.3g}{'':>12}{'':>24}{ahead:>24}")
    return lines


def _explained(needed: Any) -> list[str]:
    """Say what the two columns of accuracies are, as they may be far apart where there are few images."""
    return [
        f"measured: on those of the {needed.n_labelled:,} images that each row leaves out",
        "laws: curves through all rows together; where few images make a row too good or too bad by chance, they are",
        "nearer to the accuracy on new images on average, and so they are what all answers are from",
    ]


def _percent(mean: float, low: float, high: float) -> str:
    return f"{100 * mean:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _laws(needed: Any) -> str:
    return "laws by weight: " + ", ".join(f"{name} {100 * weight:.0f} %" for name, weight in needed.law_weights.items())
