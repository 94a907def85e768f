"""Labels that may be wrong, of the images of a report and of the training images, judged together."""

from collections import Counter

import numpy as np
from sklearn.utils.extmath import randomized_svd

from frofa.blocks import FeatureBlocks
from frofa.estimators import ShrinkageProbeClassifier
from frofa.estimators.batched.left_out import left_out_proba
from frofa.estimators.core.confident.novelty import rows_of
from frofa.estimators.core.kept import joined
from frofa.labelling import LabelIssues, label_issues
from frofa.reporting.facts.contents import WrongLabel
from frofa.reporting.facts.inputs import Inputs, Training
from frofa.reporting.facts.vectors import Array, comparable, vectors_of

WIDTH, N_ROUNDS = 256, 1
"""Numbers an image, and rounds in which suspects count little: with planted wrong labels on real images, all numbers
and two rounds found no more, and took four times as long."""


def wrong_labels(inputs: Inputs) -> tuple[list[WrongLabel], str | None]:
    """Find labels that are more likely wrong than right, the worst first; a note says what could not be looked at.

    A linear probe on vectors judges each image by all others, training images included: the classifier itself, which
    was fitted to some of the labels, is not asked.
    """
    own = vectors_of(inputs.samples.extracted)
    if own is None:
        return [], "Labels could not be judged, as X has no dense numbers."
    vectors, train, note = _together(inputs, own)
    rows = rows_of(vectors)
    n_train = 0 if train is None else len(train.codes)
    codes = inputs.truth if train is None else np.concatenate([train.codes, inputs.truth])
    sizes = Counter(codes.tolist())
    if len(sizes) < 2 or max(sizes.values()) < 2:
        return [], "Labels could not be judged: that takes two classes, one of them with two images."
    probe = ShrinkageProbeClassifier(keep_support=False, novelty=None, unlabeled=None)
    fewer, weights = _fewer(rows, inputs.random_state), _once_each(rows, codes)
    issues = label_issues(
        probe,
        fewer,
        codes,
        sample_weight=weights,
        n_rounds=N_ROUNDS,
        duplicates=False,
        outliers=False,
        random_state=inputs.random_state,
    )
    # Where suspects count little, as in the rounds that rank them, fits are too sure of what speaks against them.
    _, by_others = left_out_proba(probe, fewer, codes, sample_weight=weights, random_state=inputs.random_state)
    found = [_wrong_label(i, n_train, issues, by_others, inputs, train) for i in issues.indices.tolist()]
    if train is not None and not train.given and any(one.where == "training" for one in found):
        note = (
            "Of training images, features and labels are known here, but neither names nor pictures: give the images "
            "by train= (--train) to see which they are."
        )
    return found, note


def _together(inputs: Inputs, own: FeatureBlocks) -> tuple[FeatureBlocks, Training | None, str | None]:
    """Put training images before the others, where their features are known and alike."""
    train = inputs.train
    if train is None or train.extracted is None:
        return own, None, "Labels of training images could not be judged, as their features are not there."
    theirs = vectors_of(train.extracted)
    both = None if theirs is None else comparable(theirs, own)
    if both is None:
        return own, None, "Labels of training images could not be judged: their features have another shape."
    vectors = joined(*both)
    assert vectors is not None
    return vectors, train, None


def _fewer(rows: Array, random_state: int) -> Array:
    """Keep the main directions of rows (m, D), where there are many."""
    if min(rows.shape) <= WIDTH:
        return rows
    centred = rows - rows.mean(0)
    axes = randomized_svd(centred, WIDTH, n_iter=2, random_state=random_state)[2]
    fewer: Array = centred @ axes.T
    return fewer


def _once_each(rows: Array, codes: Array) -> Array | None:
    """Weights (m,) by which copies of one label count once, so that none is judged by itself; None without copies."""
    seen: set[tuple[bytes, int]] = set()
    weights = np.ones(len(codes))
    for i, (row, code) in enumerate(zip(rows, codes.tolist(), strict=True)):
        key = row.tobytes(), code
        weights[i] = key not in seen
        seen.add(key)
    return None if weights.all() else weights


def _wrong_label(
    i: int, n_train: int, issues: LabelIssues, table: Array, inputs: Inputs, train: Training | None
) -> WrongLabel:
    given, suggested = (str(inputs.classes[codes[i]]) for codes in (issues.given, issues.suggested))
    probability = float(issues.wrong[i])
    columns = np.searchsorted(issues.classes, [issues.given[i], issues.suggested[i]])
    by_others = (float(table[i, columns[0]]), float(table[i, columns[1]]))
    if train is not None and i < n_train:
        picture = None if train.pictures is None else train.pictures[i]
        where = int(train.positions[i])
        return WrongLabel("training", where, train.names[i], given, suggested, probability, picture, by_others)
    i -= n_train
    picture = None if inputs.pictures is None else inputs.pictures[i]
    return WrongLabel("test", i, inputs.samples.names[i], given, suggested, probability, picture, by_others)
