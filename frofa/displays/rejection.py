"""Rejection: how accurate predictions are where those that are least sure are left to a person."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from frofa.displays.inputs import Predictions, from_classifier, from_folds, from_given
from frofa.evaluation import RejectionCurve, rejection_curve
from frofa.utils.drawing import RichDisplay, new_figure, plain

By = Literal["confidence", "novelty"]
MOST_POINTS = 400
"""Points of a curve that are drawn."""


class RejectionDisplay(RichDisplay):
    """Accuracy of the images that are kept, by the share that is kept, with 95 % intervals.

    Parameters
    ----------
    curves : RejectionCurve, or mapping of str to RejectionCurve
        Of `frofa.evaluation.rejection_curve`; several by what they go by, such as ``"confidence"``.

    Attributes
    ----------
    curves : dict of str to RejectionCurve
    ax_, figure_
        Matplotlib's, once drawn.

    Examples
    --------
    >>> from frofa import RejectionDisplay
    >>> from frofa.evaluation import rejection_curve
    >>> display = RejectionDisplay(rejection_curve([True, True, False, True], [0.9, 0.8, 0.6, 0.7]))
    >>> display.curves["confidence"].area
    0.9375
    >>> display.plot().figure_.savefig("rejection.png")  # doctest: +SKIP
    """

    def __init__(self, curves: RejectionCurve | Mapping[str, RejectionCurve]):
        self.curves = {"confidence": curves} if isinstance(curves, RejectionCurve) else dict(curves)

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any = None, *, images: Any = None, by: By = "confidence", ax: Any = None
    ) -> "RejectionDisplay":
        """Classify labelled samples, sort them by how sure the classifier is, and draw.

        Parameters
        ----------
        estimator, X, y
            As in `ConfusionDisplay.from_estimator`; the classifier has `predict_proba`.
        images : None
            Of no use here; accepted as the other displays have it.
        by : {"confidence", "novelty"}, default="confidence"
            What is rejected first: samples whose predicted class has the least probability, or the most novel ones,
            which takes a classifier with `novelty_score`.
        ax : matplotlib Axes, default=None
            As in `plot`.

        Returns
        -------
        RejectionDisplay

        Raises
        ------
        TypeError, ValueError
            As of `ConfusionDisplay.from_estimator`, or if there are no probabilities, or no scores of novelty.
        ImportError
            If matplotlib is not installed.
        """
        _check(by)
        found = from_classifier(estimator, X, y, images=images)
        sure = found.probabilities.max(1) if by == "confidence" else -_novelty(found)
        return cls({by: rejection_curve(found.right, sure)}).plot(ax)

    @classmethod
    def from_predictions(
        cls, y_true: Any, y_pred: Any, *, confidence: npt.ArrayLike | None = None, labels: Any = None, ax: Any = None
    ) -> "RejectionDisplay":
        """Draw predictions that are known.

        Parameters
        ----------
        y_true : array-like of shape (n,)
        y_pred : array-like of shape (n, n_classes) or (n,)
            Probabilities in the order of `labels`, or labels, with their `confidence`.
        confidence : array-like of shape (n,), default=None
            How sure each prediction is, in any unit; None is the largest probability.
        labels : array-like of shape (n_classes,), default=None
            The classes; None is those that are there, sorted.
        ax : matplotlib Axes, default=None
            As in `plot`.

        Returns
        -------
        RejectionDisplay

        Raises
        ------
        ValueError
            If lengths differ, or labels come without a confidence.
        ImportError
            If matplotlib is not installed.
        """
        found = from_given(y_true, y_pred, classes=labels)
        if confidence is None and np.ndim(y_pred) == 1:
            raise ValueError("expected probabilities (n, n_classes), or a confidence for each label. Got None.")
        sure = found.probabilities.max(1) if confidence is None else confidence
        return cls(rejection_curve(found.right, sure)).plot(ax)

    @classmethod
    def from_cv_results(
        cls, cv_results: Mapping[str, Any], X: Any, y: Any = None, *, ax: Any = None
    ) -> "RejectionDisplay":
        """Draw out-of-fold predictions of scikit-learn's ``cross_validate``, as `ConfusionDisplay` does."""
        found = from_folds(cv_results, X, y)
        return cls(rejection_curve(found.right, found.probabilities.max(1))).plot(ax)

    def plot(self, ax: Any = None) -> "RejectionDisplay":
        """Draw the curves; the area in the legend is the mean accuracy over all shares.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure of its own.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        if ax is None:
            ax = new_figure(5, 3.7).add_subplot()
        self.ax_, self.figure_ = ax, ax.figure
        lowest = 100.0
        for name, curve in self.curves.items():
            rows = _some_of(len(curve.kept))
            kept, low, high, accuracy = (100 * getattr(curve, key)[rows] for key in ("kept", "low", "high", "accuracy"))
            label = f"by {name}: area {curve.area:.3f}" if len(self.curves) > 1 else f"area {curve.area:.3f}"
            [line] = ax.plot(kept, accuracy, linewidth=1.6, label=plain(label))
            ax.fill_between(kept, low, high, alpha=0.18, linewidth=0, color=line.get_color())
            # Intervals of the first few images reach far down, and would press the rest into a corner.
            shown = kept >= 10
            lowest = min(lowest, low[shown].min(), accuracy[shown].min())
        ax.set(xlim=(0, 100), ylim=(max(0.0, lowest - 2), 100.5))
        ax.set(xlabel="images that are kept, the surest first, %", ylabel="accuracy of these, %")
        ax.grid(alpha=0.25)
        ax.legend(fontsize=9, loc="lower left")
        return self

    def describe(self) -> str:
        """Say the accuracy of all images, and of the surer half."""
        parts = []
        for name, curve in self.curves.items():
            half = float(curve.accuracy[np.searchsorted(curve.kept, 0.5)])
            shares = f"{100 * curve.accuracy[-1]:.1f} % of all images are right, {100 * half:.1f} % of the surer half"
            parts.append(f"By {name}, {shares}; the area under the curve is {curve.area:.3f}.")
        return " ".join(["Accuracy of the images that are kept, by the share that is kept.", *parts])


def _check(by: str) -> None:
    if by not in ("confidence", "novelty"):
        raise ValueError(f"by must be 'confidence' or 'novelty'. Got {by!r}.")


def _novelty(found: Predictions) -> npt.NDArray[np.float64]:
    head: Any = None if found.parts is None else found.parts.head
    if not hasattr(head, "novelty_score"):
        raise ValueError(f"expected a classifier with novelty_score. Got {type(head).__name__}.")
    return np.asarray(head.novelty_score(found.features), np.float64)


def _some_of(n: int) -> npt.NDArray[np.intp]:
    """Choose points of a long curve evenly, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, MOST_POINTS)).round().astype(np.intp))
