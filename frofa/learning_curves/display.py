"""The learning curve in a plot: points, the averaged laws with their band, and the target."""

from typing import Any

import numpy as np

from frofa.learning_curves.answer import LabelsNeeded
from frofa.learning_curves.estimate import how_many_labels
from frofa.utils.drawing import RichDisplay, ink, new_figure

BEYOND = 8.0
"""The band goes on to so many times the labels there are, or to the number that is needed."""


class LearningCurveDisplay(RichDisplay):
    """Accuracy by labels: what was measured, what the laws foretell, and the accuracy that is asked for.

    Parameters
    ----------
    needed : LabelsNeeded
        The answer of `how_many_labels`.

    Attributes
    ----------
    ax_, figure_
        Matplotlib's, once drawn.

    Examples
    --------
    >>> from frofa import LearningCurveDisplay
    >>> display = LearningCurveDisplay.from_estimator(head, X, y, target=0.9)  # doctest: +SKIP
    >>> display.figure_.savefig("labels.png")  # doctest: +SKIP
    """

    def __init__(self, needed: LabelsNeeded):
        self.needed = needed

    @classmethod
    def from_estimator(
        cls,
        classifier: Any,
        X: Any,
        y: Any = None,
        *,
        target: float = 0.9,
        confidence_level: float = 0.9,
        n_orders: int = 10,
        random_state: Any = 0,
        ax: Any = None,
    ) -> "LearningCurveDisplay":
        """Ask `how_many_labels`, which explains the parameters, and draw its answer on the axes, if some are given."""
        options: dict[str, Any] = {"n_orders": n_orders, "random_state": random_state}
        needed = how_many_labels(classifier, X, y, target=target, confidence_level=confidence_level, **options)
        return cls(needed).plot(ax)

    @classmethod
    def from_predictions(cls, needed: LabelsNeeded, *, ax: Any = None) -> "LearningCurveDisplay":
        """Draw an answer that `how_many_labels` has given."""
        return cls(needed).plot(ax)

    def plot(self, ax: Any = None) -> "LearningCurveDisplay":
        """Draw on the axes, or on a figure of its own; returns self, and raises ImportError without matplotlib."""
        if ax is None:
            ax = new_figure(5.4, 3.8).add_subplot()
        self.ax_, self.figure_ = ax, ax.figure
        needed, level = self.needed, f"{100 * self.needed.confidence_level:g} %"
        now = needed.n_labelled / needed.n_classes
        # Out of reach is infinitely far, and cannot be said is nowhere.
        target = needed.shots if needed.shots is not None and np.isfinite(needed.shots) else 0.0
        shots = np.geomspace(min(1.0, needed.curve[0].shots), max(BEYOND * now, 1.2 * target), 80)
        shots = shots[shots <= 100 * now]
        mean, low, high = (100 * np.array(one) for one in zip(*map(needed.predict, shots), strict=True))
        ax.fill_between(shots, low, high, alpha=0.2, color="C0", label=f"{level} band of accuracy")
        ax.plot(shots, mean, color="C0", label="averaged laws")
        points = needed.curve
        heights = 100 * np.array([point.accuracy for point in points])
        bars = 100 * np.array([[p.accuracy - p.low for p in points], [p.high - p.accuracy for p in points]])
        ax.errorbar([p.shots for p in points], heights, yerr=bars, fmt="o", color="C1", capsize=3, label="measured")
        ax.axhline(100 * needed.target, color=ink(), linewidth=0.8, linestyle="--", label="target")
        ax.axvline(now, color=ink(), linewidth=0.8, linestyle=":", label="labels there are")
        if needed.answer in ("enough", "reached"):
            ax.plot(
                [needed.shots],
                [100 * needed.target],
                "*",
                color=ink(),
                markersize=11,
                label=f"{needed.n_labels:,} labels",
            )
        ax.set(xscale="log", xlabel="shots (labelled images a class)", ylabel="top-1 accuracy, %")
        ax.xaxis.set_major_formatter(lambda shots, _: f"{shots:g}")
        ax.grid(alpha=0.3)
        # Curves rise: there is room below their end.
        ax.legend(fontsize=9, loc="lower right")
        return self

    def describe(self) -> str:
        """Say what the answer is."""
        return f"Accuracy by the number of labels. {str(self.needed).splitlines()[0]}"
