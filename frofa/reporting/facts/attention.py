"""Attention of a report: what a token head looks at, on images that were classified rightly and wrongly."""

import numpy as np
import numpy.typing as npt

from frofa.displays.attention.looking import find_head, look_at
from frofa.reporting.facts.contents import AttentionExample
from frofa.reporting.facts.inputs import Inputs

Positions = npt.NDArray[np.intp]
WHOLE = "Images are shown whole: which part of them the backbone saw is not known here."


def attention_examples(inputs: Inputs, limit: int = 8) -> tuple[list[AttentionExample], str | None]:
    """Look at some images through the token head that counts most.

    Half of them are the surest mistakes, the others are right, one of each class and then the next, the surest first.

    Parameters
    ----------
    inputs : Inputs
    limit : int, default=8
        Images at most.

    Returns
    -------
    examples : list of AttentionExample
    note : str or None
        Why there are none, or what the pictures do not show.
    """
    if inputs.pictures is None:
        return [], "Attention is shown over images, of which there are none here."
    try:
        looking = find_head(inputs.head)
    except TypeError:
        return [], "No head of this classifier looks at parts of an image: effort='high' adds heads that do."
    except ValueError as error:  # none of the blend counts
        return [], f"{str(error)[:1].upper()}{str(error)[1:]}"
    rows = examples_of(inputs.truth, inputs.predicted, inputs.probabilities.max(1), limit)
    items = [inputs.pictures[i] for i in rows.tolist()]
    pictures, weights = look_at(looking.estimator, inputs.extractor, inputs.features[rows], items)
    found = [
        AttentionExample(row, pictures[i], weights[i], looking.name, looking.maps)
        for i, row in enumerate(rows.tolist())
    ]
    return found, WHOLE if inputs.extractor is None else None


def examples_of(truth: Positions, predicted: Positions, certainty: npt.NDArray[np.float64], limit: int) -> Positions:
    """Choose images to look at: mistakes and right ones, in turn over the classes, the surest of each first."""
    order = np.argsort(-certainty, kind="stable")
    wrong, right = (
        _in_turn(order[hits], truth) for hits in (predicted[order] != truth[order], predicted[order] == truth[order])
    )
    n_wrong = min(len(wrong), max(limit // 2, limit - len(right)))
    return np.concatenate([wrong[:n_wrong], right[: limit - n_wrong]])


def _in_turn(order: Positions, truth: Positions) -> Positions:
    """Sort positions so that the first of each class come before the second ones; otherwise their order stays."""
    seen: dict[int, int] = {}
    turns = []
    for label in truth[order].tolist():
        turns.append(seen.get(label, 0))
        seen[label] = turns[-1] + 1
    return order[np.argsort(turns, kind="stable")] if len(order) else order
