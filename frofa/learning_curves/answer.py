"""The answer to how many labels are enough: a number with its interval, or why there is none."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from frofa.evaluation import Interval
from frofa.learning_curves.averaging import AveragedLaws
from frofa.learning_curves.points import OF_SUPPORT
from frofa.learning_curves.wording import in_words

Array = npt.NDArray[Any]
Answer = Literal["enough", "reached", "cannot be said", "out of reach"]
LeftOut = Literal["the rest", "one by one"]
HORIZON = 100.0
"""No answer goes beyond so many times the labels there are."""
WITHIN, ODDS = 3.0, 0.75
"""A number is given where what is needed lies within this factor of it, either way, as likely as that: otherwise the
labels do not say it."""


@dataclass(frozen=True)
class CurvePoint:
    """Accuracy that was measured with so many labels: shots are labels a class, on average; low and high its interval.

    The ends are those of the level of confidence that was asked for. `left_out` says which images it was measured on:
    ``"the rest"``, those beside the labels that were fitted to, in several orders; or ``"one by one"``, all of them,
    each left out of a fit to all others.
    """

    n_labels: int
    shots: float
    accuracy: float
    low: float
    high: float
    left_out: LeftOut = "the rest"


@dataclass(frozen=True)
class LabelsNeeded:
    """The labels that a classifier takes to reach an accuracy, by what those that there are foretell.

    ``print`` shows all of it. Intervals are those of the level of confidence, of the posterior.

    Parameters
    ----------
    target, confidence_level : float
        As asked for.
    answer : {"enough", "reached", "cannot be said", "out of reach"}
        ``"enough"``: `n_labels` are more likely than not. ``"reached"``: those that there are, or fewer.
        ``"cannot be said"``: the odds that the median is right within a factor of three are less than three to one.
        ``"out of reach"``: the curves that go with the points end below the target, as likely as the level of
        confidence.
    n_labels : int, float or None
        Labels in all, the present ones included: the median; None where it cannot be said, infinity where it is out of
        reach.
    median_labels : float
        The median, whatever the answer: infinite where the target is as likely never to be reached.
    n_labels_interval : (float, float)
        Its ends; the upper one is infinite where the target may never be reached, or not within a hundred times the
        present labels.
    shots : float or None
        The same for each class, on average over the classes: `n_labels` over the number of classes.
    shots_interval : (float, float)
    n_labelled : int
        Labels there are.
    n_classes : int
    accuracy_now : float
        Of a classifier fitted to all of them, on new images with classes as frequent as among these.
    accuracy_now_interval : (float, float)
    probability : float
        Probability that the target is reached at all, within a hundred times the present labels.
    curve : tuple of CurvePoint
        What was measured, smallest support first.
    law_weights : dict of str to float
        Posterior probability of each law, of sum 1.
    notes : tuple of str
        What the numbers do not tell: images and classes that do not count.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neighbors import NearestCentroid
    >>> from frofa import how_many_labels
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1, 2], 20)
    >>> X = rng.normal(size=(60, 30)) + 1.2 * np.eye(3)[y] @ rng.normal(size=(3, 30))
    >>> needed = how_many_labels(NearestCentroid(), X, y, target=0.8)
    >>> needed.answer
    'reached'
    >>> needed.predict(40).low < needed.predict(40).mean < needed.predict(40).high
    True
    """

    target: float
    confidence_level: float
    answer: Answer
    n_labels: float | None
    median_labels: float
    n_labels_interval: tuple[float, float]
    shots: float | None
    shots_interval: tuple[float, float]
    n_labelled: int
    n_classes: int
    accuracy_now: float
    accuracy_now_interval: tuple[float, float]
    probability: float
    curve: tuple[CurvePoint, ...]
    law_weights: dict[str, float]
    notes: tuple[str, ...]
    laws: AveragedLaws = field(repr=False, compare=False)

    def predict(self, n_shots: float, n_test: int | None = None) -> Interval:
        """Predict the accuracy of a classifier fitted to so many labels.

        Parameters
        ----------
        n_shots : float
            Labels a class, on average.
        n_test : int, default=None
            Images that it is to be measured on, whose chance the interval then takes in; None is any number, without
            chance.

        Returns
        -------
        Interval
            Mean, and ends at the level of confidence.
        """
        if not n_shots > 0:
            raise ValueError(f"n_shots must be above 0. Got {n_shots!r}.")
        return accuracy_interval(self.laws, n_shots, self.n_classes, self.confidence_level, n_test)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold: all but the curves themselves; infinite numbers become None."""
        kept = {name: value for name, value in vars(self).items() if name != "laws"}
        return {name: _plain(value) for name, value in kept.items()}

    def __str__(self) -> str:
        return in_words(self)


def answer_to(
    laws: AveragedLaws, target: float, confidence_level: float, n_labelled: int, n_classes: int
) -> dict[str, Any]:
    """Find the numbers of labels at which curves reach a target, and what can be said of them."""
    now = n_labelled / n_classes
    shots = shots_needed(laws, target, HORIZON * now)
    tail = (1 - confidence_level) / 2
    # Quantiles by position: between a number and infinity there is nothing.
    low, median, high = np.quantile(shots, [tail, 0.5, 1 - tail], method="higher")
    probability = float(np.isfinite(shots).mean())
    near = float(((shots >= median / WITHIN) & (shots <= WITHIN * median)).mean()) if np.isfinite(median) else 0.0
    answer: Answer
    if median <= now:
        answer = "reached"
    elif probability <= 1 - confidence_level:
        answer = "out of reach"
    elif near < ODDS:
        answer = "cannot be said"
    else:
        answer = "enough"
    labels = {"enough": median, "reached": median, "out of reach": math.inf}.get(answer)
    return {
        "answer": answer,
        "n_labels": None if labels is None else _up(labels * n_classes),
        "median_labels": _up(median * n_classes),
        "n_labels_interval": (_up(low * n_classes), _up(high * n_classes)),
        "shots": None if labels is None else float(labels),
        "shots_interval": (float(low), float(high)),
        "probability": probability,
    }


def shots_needed(laws: AveragedLaws, target: float, horizon: float) -> Array:
    """Shots (m,) at which each curve reaches a target first; infinite where it does not before the horizon."""
    grid = np.geomspace(1, max(horizon, 2.0), 400)
    reached = laws.accuracy(grid) >= target
    found: Array = grid[reached.argmax(1)]
    found[~reached.any(1)] = math.inf
    return found


def accuracy_interval(
    laws: AveragedLaws, shots: float, n_classes: int, confidence_level: float, n_test: int | None = None
) -> Interval:
    """Mean and interval of accuracy at so many shots, over curves, supports, and test images if they are counted."""
    accuracy = laws.accuracy(shots)[:, 0]
    # The same numbers for every call, so that a band over shots is smooth.
    rng = np.random.default_rng(0)
    deviation = np.sqrt(OF_SUPPORT * accuracy * (1 - accuracy) / (shots * n_classes))
    realised = np.clip(accuracy + deviation * rng.standard_normal(len(accuracy)), 0, 1)
    if n_test is not None:
        realised = rng.binomial(n_test, realised) / n_test
    tail = (1 - confidence_level) / 2
    low, high = np.quantile(realised, [tail, 1 - tail])
    return Interval(float(accuracy.mean()), float(low), float(high))


def _up(labels: float) -> float:
    """Whole labels, as an int where they are finite."""
    return float(labels) if math.isinf(labels) else math.ceil(labels - 1e-6)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, CurvePoint):
        return asdict(value)
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
