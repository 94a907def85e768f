"""Copies among the images of a report, and among them and the training images."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from frofa.images.reading import content
from frofa.labelling.wrong.duplicates import DuplicateGroup, duplicate_groups
from frofa.reporting.facts.contents import Copy, Leak
from frofa.reporting.facts.inputs import Inputs, Samples, Training
from frofa.reporting.facts.vectors import Array, comparable, spaces_of, vectors_of

__all__ = ["digests_of", "leaks_of"]


def leaks_of(inputs: Inputs) -> tuple[list[Leak], str | None]:
    """Find groups of copies, those on both sides first; a note says what could not be looked at."""
    own = vectors_of(inputs.samples.extracted)
    if own is None:
        return [], "Copies could not be looked for, as X has no dense numbers."
    spaces, train, note = _spaces(inputs, own)
    n_train = 0 if train is None else len(train.codes)
    codes = ([] if train is None else train.codes.tolist()) + inputs.truth.tolist()
    groups = duplicate_groups(spaces, _keys(train, inputs.samples), codes, n_train)
    leaks = [_leak(group, inputs, train) for group in groups]
    return sorted(leaks, key=lambda leak: not leak.is_leak), note


def _spaces(inputs: Inputs, own: Any) -> tuple[list[Array], Training | None, str | None]:
    """Return rows (m + n, D) of training images and others, and which training images these are."""
    train = inputs.train
    if train is None:
        return spaces_of(own), None, "There are no training images to look for copies of."
    if train.extracted is None:
        rows = spaces_of(own)[0]
        if train.rows is None or train.rows.shape[1] != rows.shape[1]:
            return spaces_of(own), None, "Of the training images, the classifier keeps nothing to look for copies of."
        some = f"Copies were looked for among {len(train.codes)} training images, which the classifier keeps."
        return [np.concatenate([train.rows, rows])], train, some
    theirs = vectors_of(train.extracted)
    both = None if theirs is None else comparable(theirs, own)
    if both is None:
        return spaces_of(own), None, "Copies of training images could not be looked for: features differ in shape."
    spaces = [np.concatenate(pair) for pair in zip(*map(spaces_of, both), strict=True)]
    kept = f"Copies were looked for among {len(train.codes)} training images, whose features the classifier keeps."
    return spaces, train, None if train.given else kept


def _keys(train: Training | None, samples: Samples) -> list[str] | None:
    """Digests of all images that are equal for copies, where all are known."""
    parts: list[Training | Samples] = [samples] if train is None else [train, samples]
    found = [digests_of(part.pictures, part.keys) for part in parts]
    return None if any(keys is None for keys in found) else [key for keys in found for key in keys or []]


def digests_of(pictures: Sequence[Any] | None, keys: list[str] | None) -> list[str] | None:
    """Digests of the content of images; None where there are no images, or one can no longer be read."""
    if keys is not None or pictures is None:
        return keys
    try:
        return [content(item)[1] for item in pictures]
    except (OSError, ValueError):
        return None


def _leak(group: DuplicateGroup, inputs: Inputs, train: Training | None) -> Leak:
    labels = [str(label) for label in inputs.classes.tolist()]
    copies = [] if train is None else [_of_training(i, train, labels) for i in group.train]
    for i in group.test:
        picture = None if inputs.pictures is None else inputs.pictures[i]
        copies.append(Copy("test", i, inputs.samples.names[i], labels[inputs.truth[i]], picture))
    return Leak(tuple(copies), group.exact)


def _of_training(i: int, train: Training, labels: list[str]) -> Copy:
    code, picture = int(train.codes[i]), None if train.pictures is None else train.pictures[i]
    return Copy("training", int(train.positions[i]), train.names[i], labels[code] if code >= 0 else None, picture)
