"""Images to show next: those from which most is learnt, and groups that can be accepted at once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from frofa.annotation.learning.fitting import Fit
from frofa.annotation.learning.knowledge import Group
from frofa.annotation.learning.situation import Rows, Situation
from frofa.compute.devices import resolve_device
from frofa.labelling.suggestions.answering import answer
from frofa.labelling.suggestions.choosing import Question
from frofa.labelling.suggestions.pool import Pool

MOST_POOL = 20_000
"""Images of which suggestions are chosen; of more, so many at random stand for all."""
MAX_EXACT = 4096
"""Images that are compared with one another for a suggestion, as in `frofa.suggest`."""
MOST_GROUPED = 400
"""Images of a class among which a group is looked for."""
SURE = 0.6
"""Probability from which a guess makes an image one of a group."""
MOST_GROUPS = 8


def suggested(fitted: Fit, n: int, random_state: int) -> Rows:
    """Rows of the images to label next, the best first, as `frofa.suggest` chooses them."""
    situation = fitted.situation
    some = pool_rows(situation, random_state)
    allowed = situation.open[some]
    if not allowed.any():
        return np.empty(0, np.intp)
    on = resolve_device("auto")
    labelled, y = situation.labelled
    question = Question(
        pool=Pool(situation.features(some), on),
        labelled=Pool(situation.features(labelled), on) if len(labelled) else None,
        allowed=allowed,
        batch_size=min(n, int(allowed.sum())),
        random_state=np.random.RandomState(random_state),
        max_exact=MAX_EXACT,
        return_utilities=False,
    )
    strategy = "coverage" if fitted.head is None else "auto"
    rows: Rows = some[answer(question, fitted.head, strategy, y if len(labelled) else None, fit=False).rows]
    return rows


def pool_rows(situation: Situation, random_state: int) -> Rows:
    """Rows that stand for all: all of them, or so many at random, the same ones as long as there are no others."""
    m = len(situation.positions)
    if m <= MOST_POOL:
        return np.arange(m)
    # The more there are, the more of the first ones are left out; which of these does not depend on how many there are.
    keys = np.random.default_rng(random_state).random(m)
    return np.sort(np.argpartition(keys, MOST_POOL)[:MOST_POOL])


class Guessed(NamedTuple):
    """Rows (r,) with the number of the class that each is guessed to be, -1 for none, and its probability."""

    rows: Rows
    classes: npt.NDArray[np.intp]
    probabilities: npt.NDArray[np.floating]


def of_guesses(situation: Situation, names: Sequence[str], guessed: Guessed, size: int) -> tuple[Group, ...]:
    """Groups of images of one guess that lie together, the largest and surest first, one a class at most."""
    sure = np.flatnonzero((guessed.classes >= 0) & (guessed.probabilities >= SURE))
    sure = sure[np.argsort(-guessed.probabilities[sure], kind="stable")]
    found = []
    # Of a thousand classes, those with the most sure images do.
    for code in np.argsort(-np.bincount(guessed.classes[sure], minlength=len(names)), kind="stable")[: 3 * MOST_GROUPS]:
        own = sure[guessed.classes[sure] == code][:MOST_GROUPED]
        if len(own) > 1:
            near, score = _densest(situation, guessed.rows[own], guessed.probabilities[own], size)
            found.append((score, Group(names[code], tuple(situation.positions[near].tolist()))))
    found.sort(key=lambda one: -one[0])
    return tuple(group for _, group in found[:MOST_GROUPS])


def _densest(situation: Situation, rows: Rows, sure: npt.NDArray[np.floating], size: int) -> tuple[Rows, float]:
    """Choose the image whose neighbours are nearest to it and surest: they are a group, which counts by their sum."""
    vectors = _vectors(situation, rows)
    likeness = (vectors @ vectors.T) * torch.as_tensor(sure, dtype=vectors.dtype, device=vectors.device)
    values, places = likeness.topk(min(size, len(rows)), dim=1)
    centre = int(values.sum(1).argmax())
    return rows[places[centre].cpu().numpy()], float(values[centre].sum())


def around(situation: Situation, order: Rows, rows: Rows, size: int) -> tuple[Group, ...]:
    """Groups of suggestions with the images next to them, for a pool without guesses; each image is in one group."""
    if len(rows) < 2 or not len(order):
        return ()
    vectors = _vectors(situation, rows)
    centres = _vectors(situation, order[:MOST_GROUPS])
    nearest = (centres @ vectors.T).topk(min(size, len(rows)), dim=1).indices.cpu().numpy()
    taken: set[int] = set()
    found = []
    for near in nearest:
        own = [int(row) for row in rows[near] if int(row) not in taken]
        taken.update(own)
        if len(own) > 1:
            found.append(Group(None, tuple(situation.positions[own].tolist())))
    return tuple(found)


def _vectors(situation: Situation, rows: Rows) -> torch.Tensor:
    return Pool(situation.features(rows), resolve_device("auto")).vectors(slice(None))
