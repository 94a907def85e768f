"""A classifier of what is labelled, its accuracy, and its guesses."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from frofa.annotation.learning.knowledge import Measured
from frofa.annotation.learning.situation import Rows, Situation
from frofa.annotation.learning.standing import effective_number, stands_for
from frofa.estimators import FewShotClassifier, ShrinkageProbeClassifier
from frofa.evaluation import proportion_interval


@dataclass(frozen=True, eq=False)
class Fit:
    """A head that is fitted to a situation, None where there are fewer than two classes, and its accuracy."""

    situation: Situation
    head: Any
    measured: Measured | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that are guessed."""
        return () if self.head is None else tuple(self.head.classes_.tolist())

    def proba(self, rows: Rows) -> npt.NDArray[np.float64]:
        """Probabilities (r, K) of rows."""
        probabilities: npt.NDArray[np.float64] = self.head.predict_proba(self.situation.features(rows))
        return probabilities


def fit(situation: Situation) -> Fit:
    """Fit the default classifier to all that is labelled."""
    rows, y = situation.labelled
    if situation.n_classes < 2:
        return Fit(situation, None)
    # Nothing is asked of novelty here, and keeping what it needs takes time.
    return Fit(situation, FewShotClassifier(novelty=None).fit(situation.features(rows), y))


def probe() -> ShrinkageProbeClassifier:
    """Make a head for fits in great number, which are thrown away."""
    return ShrinkageProbeClassifier(novelty=None, keep_support=False)


def measured(fitted: Fit, random_state: int) -> Measured | None:
    """Accuracy on what is labelled, each image left out of the fit, and counted as often as there are images like it.

    None where no class has two images. The interval is Wilson's, by the effective number of images.
    """
    if fitted.head is None:
        return None
    rows, y = fitted.situation.labelled
    proba = fitted.head.out_of_fold_proba_
    known = np.isfinite(proba).all(1)
    if not known.any():
        return None
    hits = fitted.head.classes_[proba[known].argmax(1)] == y[known]
    weights = stands_for(fitted.situation, rows[known], random_state)
    accuracy = float(weights @ hits / weights.sum())
    n = max(1, round(effective_number(weights)))
    _, low, high = proportion_interval(round(accuracy * n), n)
    return Measured(accuracy, min(low, accuracy), max(high, accuracy), len(hits))
