"""Labels that may be wrong, and the number of labels that are enough."""

import warnings

import numpy as np

from frofa.annotation.learning.fitting import Fit, probe
from frofa.annotation.learning.knowledge import Mistake, Needed
from frofa.annotation.learning.situation import Rows
from frofa.annotation.learning.standing import effective_number, like_all, stands_for
from frofa.annotation.learning.targets import above_all, in_words, next_target
from frofa.labelling.wrong.issues import label_issues
from frofa.learning_curves.estimate import how_many_labels

MOST_JUDGED = 5000
"""Labels that are judged at once; of more, so many at random."""
LEAST_JUDGED = 20
"""Labels from which mistakes are looked for."""
N_ORDERS, MOST_CURVE = 5, 400
"""Orders of the images of a learning curve, and labels that it is fitted to at most."""


def mistakes(fitted: Fit, random_state: int) -> tuple[Mistake, ...]:
    """Find labels that are more likely wrong than right, the worst first."""
    situation = fitted.situation
    rows, y = situation.labelled
    if fitted.head is None or len(rows) < LEAST_JUDGED or np.unique(y, return_counts=True)[1].max() < 2:
        return ()
    some = _some(len(rows), MOST_JUDGED, random_state)
    rows, y = rows[some], y[some]
    if len(np.unique(y)) < 2:
        return ()
    found = label_issues(probe(), situation.features(rows), y, duplicates=False, outliers=False)
    return tuple(
        Mistake(int(situation.positions[rows[i]]), str(y[i]), str(found.suggested[i]), float(found.wrong[i]))
        for i in found.indices
    )


def needed(fitted: Fit, random_state: int) -> Needed | None:
    """Estimate how many labels more the next target takes, from the learning curve of those that are like all images.

    The target is above the accuracy of the fit. The number is that of labels of images at random, which are worth less
    than those in the order of the page.
    """
    situation, measured = fitted.situation, fitted.measured
    if measured is None:
        return None
    target = next_target(measured.accuracy)
    if target is None:
        return above_all(measured, situation.version)
    rows, y = situation.labelled
    weights = stands_for(situation, rows, random_state)
    some = like_all(weights, y, min(MOST_CURVE, round(effective_number(weights))), random_state)
    part = y[some]
    if np.unique(part, return_counts=True)[1].max() < 2:
        return None
    with warnings.catch_warnings():  # of fits to single images
        warnings.simplefilter("ignore")
        answer = how_many_labels(
            probe(),
            situation.features(rows[some]),
            part,
            target=target,
            n_orders=N_ORDERS,
            random_state=random_state,
        )
    return in_words(answer, measured, situation.version)


def _some(n: int, most: int, random_state: int) -> Rows:
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(random_state).permutation(n)[:most])
