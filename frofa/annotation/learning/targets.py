"""The accuracy to reach next, and sentences about the labels that it takes."""

import math
from typing import TYPE_CHECKING, Any

from frofa.annotation.learning.knowledge import Knowledge, Measured, Needed

if TYPE_CHECKING:
    from frofa.learning_curves.answer import LabelsNeeded

TARGETS = (50, 70, 80, 90, 95, 99)
"""Accuracies to reach, in percent."""
_LISTED = f"{', '.join(map(str, TARGETS[:-1]))} and {TARGETS[-1]} %"
REASON = f"Targets are {_LISTED}; the next is the first above the accuracy."
"""Sentence that says how targets are chosen."""


def next_target(accuracy: float) -> float | None:
    """Choose the first target above an accuracy, as it is shown in whole percent; None where it is above them all."""
    shown = math.floor(100 * accuracy + 0.5)
    return next((one / 100 for one in TARGETS if one > shown), None)


def in_words(answer: "LabelsNeeded", measured: Measured, version: int) -> Needed:
    """Say how many labels more than those of an answer its target takes, which is above the accuracy that is shown."""
    name, n_more = f"Next target, {100 * answer.target:.0f} %", None
    if answer.answer == "enough" and answer.n_labels is not None:
        n_more = max(int(answer.n_labels) - answer.n_labelled, 1)
        text = f"{name}: about {n_more:,} more label{'s' if n_more > 1 else ''}"
    elif answer.answer == "out of reach":
        text = f"{name}: out of reach with these features, whatever the labels"
    elif answer.answer == "reached" and measured.high >= answer.target:
        # The learning curve is above the target there, the accuracy that is shown below it.
        text = f"{name}: the accuracy may be that high already, and a few more labels will tell"
    else:
        text = f"{name}: how many labels it takes cannot be said yet"
    return Needed(text, n_more, answer.target, version, measured.n)


def above_all(measured: Measured, version: int) -> Needed:
    """Say that there is no target above an accuracy, which with few labels means little."""
    sure = measured.low >= TARGETS[-1] / 100
    text = "No target is left above this accuracy"
    return Needed(text if sure else f"{text}; more labels make it more certain", None, None, version, measured.n)


def standing_needed(known: Knowledge, version: int) -> dict[str, Any] | None:
    """Describe what is known of the labels needed beside the accuracy of now, after so many rows of the record.

    An older sentence says after how many labels it was true, and is given as long as its target is the next one still.
    """
    needed, measured = known.needed, known.measured
    if needed is None or measured is None:
        return None
    target = next_target(measured.accuracy)
    text, n_more, stale = needed.text, needed.n_more, needed.version != version
    if target != needed.target:
        name = "No target is left above this accuracy"
        text = name if target is None else f"Next target, {100 * target:.0f} %: not estimated yet"
        n_more, stale = None, True
    elif stale:
        text += f" (as of {needed.n} label{'s' if needed.n != 1 else ''})"
    return {"text": text, "n_more": n_more, "target": target, "stale": stale, "reason": REASON}
