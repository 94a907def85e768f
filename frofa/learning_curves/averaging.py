"""Laws averaged by what the points say for each: draws of curves, of which all answers are quantiles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from frofa.learning_curves.laws import LAWS, Law
from frofa.learning_curves.points import Points
from frofa.learning_curves.posterior import sample_posterior

Array = npt.NDArray[Any]
KEPT = 2000
"""Curves that are kept: ends of a 90 % interval are known to a twentieth of its width."""
DRIFT = 0.05
"""Standard deviation of the log-odds of accuracy about a law, for each e-fold of shots beyond what was measured."""


@dataclass(frozen=True)
class AveragedLaws:
    """Curves drawn from the posterior of several laws, as many of each as its evidence is worth.

    `parameters` has standardised parameters (m, d) by law, `drift` (KEPT,) a standard normal number for each curve: how
    far it leaves its law beyond `last`, the largest number of shots that was measured.
    """

    parameters: Mapping[str, Array]
    weights: Mapping[str, float]
    guessing: float
    last: float
    drift: Array

    def accuracy(self, shots: npt.ArrayLike) -> Array:
        """Accuracies (KEPT, J) of all curves at shots (J,)."""
        at = np.atleast_1d(np.asarray(shots, float))
        by_name = {law.name: law for law in LAWS}
        parts = [by_name[name].accuracy(z, at, self.guessing) for name, z in self.parameters.items()]
        curves = np.concatenate(parts)
        # Laws are idealisations: the further away from what was measured, the less they hold.
        beyond = DRIFT * np.log(np.maximum(at / self.last, 1))
        odds = curves / np.maximum(1 - curves, 1e-12) * np.exp(np.outer(self.drift, beyond))
        found: Array = odds / (1 + odds)
        return found


def average_laws(points: Points, n_classes: int, rng: np.random.Generator, laws: Sequence[Law] = LAWS) -> AveragedLaws:
    """Fit every law to the points, and draw from each as many curves as it is likely."""
    guessing = 1 - 1 / n_classes

    def likelihood(law: Law, z: Array) -> Array:
        return points.log_likelihood(law.accuracy(z, points.shots, guessing))

    found = {law.name: sample_posterior(partial(likelihood, law), law.n_parameters, rng) for law in laws}
    weights = softmax([np.log(law.weight) + found[law.name].log_evidence for law in laws])
    # Numbers of curves by the largest remainder, so that they add up.
    exact = weights * KEPT
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact)[: KEPT - counts.sum()]] += 1
    parameters = {}
    for (name, one), count in zip(found.items(), counts, strict=True):
        # Systematic resampling: one random number for all places, which are evenly spaced.
        places = (rng.random() + np.arange(count)) / max(count, 1)
        rows = np.searchsorted(np.cumsum(np.exp(one.log_weights)), places).clip(max=len(one.z) - 1)
        parameters[name] = one.z[rows]
    by_name = dict(zip(found, map(float, weights), strict=True))
    return AveragedLaws(parameters, by_name, guessing, float(points.shots.max()), rng.standard_normal(KEPT))
