"""Reliability: how often predictions of a probability are right."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from frofa.displays.inputs import Predictions, from_classifier, from_folds, from_given
from frofa.evaluation import Reliability, calibration_error, calibration_floor, reliability
from frofa.images.listing import count
from frofa.utils.drawing import RichDisplay, ink, new_figure

N_BINS = 15
"""Bins of `frofa.ImageClassifier.evaluate`."""


class ReliabilityDisplay(RichDisplay):
    """Share of right predictions by the probability that they were given, with intervals and the numbers of images.

    Parameters
    ----------
    reliability : Reliability
        Bins, as `frofa.evaluation.reliability` makes them.
    calibration_error : float, default=None
        Expected calibration error, for the legend; None is that of the bins.
    calibration_floor : float, default=None
        Calibration error that perfect probabilities would have by chance; None leaves it out.

    Attributes
    ----------
    reliability, calibration_error, calibration_floor
        As given.
    ax_, figure_
        Matplotlib's, once drawn.

    Examples
    --------
    >>> from frofa import ReliabilityDisplay
    >>> from frofa.evaluation import reliability
    >>> bins = reliability(["a", "a", "b"], [[0.9, 0.1], [0.3, 0.7], [0.2, 0.8]], ["a", "b"])
    >>> display = ReliabilityDisplay(bins)
    >>> round(display.calibration_error, 2)
    0.33
    >>> display.plot().figure_.savefig("reliability.png")  # doctest: +SKIP
    """

    def __init__(
        self,
        reliability: Reliability,
        *,
        calibration_error: float | None = None,
        calibration_floor: float | None = None,
    ):
        self.reliability = reliability
        self.calibration_error = _error_of(reliability) if calibration_error is None else calibration_error
        self.calibration_floor = calibration_floor

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any = None, *, images: Any = None, n_bins: int = N_BINS, ax: Any = None
    ) -> "ReliabilityDisplay":
        """Predict the probabilities of labelled samples, and draw.

        Parameters
        ----------
        estimator, X, y
            As in `ConfusionDisplay.from_estimator`; the classifier has `predict_proba`.
        images : None
            Of no use here; accepted as the other displays have it.
        n_bins : int, default=15
            Bins of equal width from 0 to 1.
        ax : matplotlib Axes, default=None
            As in `plot`.

        Returns
        -------
        ReliabilityDisplay

        Raises
        ------
        TypeError, ValueError
            As of `ConfusionDisplay.from_estimator`, or if there are no probabilities.
        ImportError
            If matplotlib is not installed.
        """
        return cls._of(from_classifier(estimator, X, y, images=images), n_bins).plot(ax)

    @classmethod
    def from_predictions(
        cls, y_true: Any, y_proba: Any, *, labels: Any = None, n_bins: int = N_BINS, ax: Any = None
    ) -> "ReliabilityDisplay":
        """Draw probabilities (n, n_classes) that are known, in the order of `labels`, by default sorted."""
        if np.ndim(y_proba) != 2:
            raise ValueError(f"expected probabilities of shape (n, n_classes). Got {np.ndim(y_proba)} dimensions.")
        return cls._of(from_given(y_true, y_proba, classes=labels), n_bins).plot(ax)

    @classmethod
    def from_cv_results(
        cls, cv_results: Mapping[str, Any], X: Any, y: Any = None, *, n_bins: int = N_BINS, ax: Any = None
    ) -> "ReliabilityDisplay":
        """Draw out-of-fold probabilities of scikit-learn's ``cross_validate``, as `ConfusionDisplay` does."""
        return cls._of(from_folds(cv_results, X, y), n_bins).plot(ax)

    @classmethod
    def _of(cls, found: Predictions, n_bins: int) -> "ReliabilityDisplay":
        given = (found.classes[found.truth], found.probabilities, found.classes, n_bins)
        floor = calibration_floor(found.probabilities, n_bins)
        return cls(reliability(*given), calibration_error=calibration_error(*given), calibration_floor=floor)

    def plot(self, ax: Any = None) -> "ReliabilityDisplay":
        """Draw the curve, and the shares of images in each bin at the bottom.

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
            ax = new_figure(4.6, 4.8).add_subplot()
        self.ax_, self.figure_ = ax, ax.figure
        bins = self.reliability
        some = bins.counts > 0
        # Bars of the shares of images take the lower quarter, and leave the rest to the curve.
        shares, width = bins.counts / bins.counts.sum(), np.diff(bins.edges)
        ax.bar(bins.edges[:-1], 0.25 * shares, width, align="edge", alpha=0.25, label="where the images are")
        ax.plot([0, 1], [0, 1], linestyle="--", linewidth=0.9, color=ink(), label="perfect")
        means, rights = bins.confidence[some], bins.accuracy[some]
        bars = np.maximum([rights - bins.low[some], bins.high[some] - rights], 0)
        label = f"right (calibration error {100 * self.calibration_error:.1f} %)"
        ax.errorbar(means, rights, yerr=bars, fmt="o-", capsize=2.5, markersize=4, linewidth=1.2, label=label)
        ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="probability of the predicted class", ylabel="share that is right")
        ax.set_aspect("equal")
        ax.grid(alpha=0.25)
        # Above, as bars may be anywhere.
        ax.legend(fontsize=9, loc="lower left", bbox_to_anchor=(0, 1.01), borderaxespad=0, ncols=2)
        return self

    def describe(self) -> str:
        """Say how far probabilities are off."""
        n = int(self.reliability.counts.sum())
        text = f"Share of right predictions by their probability, of {count(n, 'image')}: the expected calibration "
        text += f"error is {100 * self.calibration_error:.1f} %"
        if self.calibration_floor is not None:
            text += f", of which {100 * self.calibration_floor:.1f} % would come by chance alone"
        return f"{text}."


def _error_of(bins: Reliability) -> float:
    """Mean distance of probability and share over the bins, weighted by their samples."""
    gaps = np.nan_to_num(np.abs(bins.accuracy - bins.confidence))
    return float((bins.counts * gaps).sum() / max(1, bins.counts.sum()))
