"""Plots of how well novel images are told, in scikit-learn's Display style."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score, roc_curve

from frofa.utils.drawing import RichDisplay, ink, new_figure

Array = npt.NDArray[Any]


class NoveltyDisplay(RichDisplay):
    """Scores of novelty of known images, and of unknown ones where there are some, with the threshold between them.

    Parameters
    ----------
    known_scores : array-like of shape (n_known,)
        Scores of images of the known classes, best not those that were fitted to; larger is more novel.
    unknown_scores : array-like of shape (n_unknown,), default=None
        Scores of images of no known class.
    threshold : float, default=None
        Score beyond which images are rejected.

    Attributes
    ----------
    known_rejected_, unknown_rejected_ : float
        Shares that the threshold rejects; NaN where there is none, or no unknown images.
    roc_auc_ : float
        Area under the curve of unknown images rejected by known ones rejected, over all thresholds: 0.5 is a guess.
    fpr95_ : float
        Share of known images that a threshold rejects that rejects 95 % of the unknown ones.
    ax_, figure_
        Matplotlib's, once drawn.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa.estimators import NoveltyDisplay
    >>> display = NoveltyDisplay([1.0, 2.0, 3.0, 4.0], [3.5, 5.0, 6.0], threshold=3.2)
    >>> display.known_rejected_, display.unknown_rejected_, round(display.roc_auc_, 3)
    (0.25, 1.0, 0.917)
    >>> display.plot().figure_.savefig("novelty.png")  # doctest: +SKIP
    """

    def __init__(self, known_scores: Any, unknown_scores: Any = None, *, threshold: float | None = None):
        self.known_scores = np.asarray(known_scores, np.float64)
        self.unknown_scores = None if unknown_scores is None else np.asarray(unknown_scores, np.float64)
        self.threshold = threshold
        self.known_rejected_ = self._rejected(self.known_scores)
        self.unknown_rejected_ = self.roc_auc_ = self.fpr95_ = float("nan")
        if self.unknown_scores is not None:
            self.unknown_rejected_ = self._rejected(self.unknown_scores)
            self.roc_auc_ = float(roc_auc_score(*self._both()))
            known, unknown, _ = roc_curve(*self._both())
            self.fpr95_ = float(known[unknown >= 0.95].min())

    def _rejected(self, scores: Array) -> float:
        return float("nan") if self.threshold is None else float((scores > self.threshold).mean())

    def _both(self) -> tuple[Array, Array]:
        """Return whether images are unknown, and their scores; (n_known + n_unknown,) both."""
        assert self.unknown_scores is not None
        unknown = np.repeat([False, True], [len(self.known_scores), len(self.unknown_scores)])
        return unknown, np.concatenate([self.known_scores, self.unknown_scores])

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X_known: Any,
        X_unknown: Any = None,
        *,
        reject: float | None = None,
        kind: Literal["histogram", "roc"] = "histogram",
        ax: Any = None,
    ) -> "NoveltyDisplay":
        """Score images, and draw.

        Parameters
        ----------
        estimator : classifier or NoveltyDetector
            Fitted; any classifier of frofa that has `novelty_score`.
        X_known, X_unknown : array-like, or whatever the estimator takes
            Images of the known classes that it was not fitted to; and, if there are some, of others.
        reject : float, default=None
            Share of known images to reject; None is the estimator's own, or 0.05 of one that rejects none.
        kind : {"histogram", "roc"}, default="histogram"
            As in `plot`.
        ax : matplotlib Axes, default=None
            As in `plot`.

        Returns
        -------
        NoveltyDisplay

        Raises
        ------
        ValueError
            If the estimator was fitted to too few images for the share.
        """
        share = (getattr(estimator, "reject", None) or 0.05) if reject is None else reject
        threshold = estimator.novelty_threshold(share)
        known, unknown = (None if X is None else _scores(estimator, X) for X in (X_known, X_unknown))
        return cls(known, unknown, threshold=threshold).plot(ax, kind=kind)

    @classmethod
    def from_predictions(
        cls,
        known_scores: Any,
        unknown_scores: Any = None,
        *,
        threshold: float | None = None,
        kind: Literal["histogram", "roc"] = "histogram",
        ax: Any = None,
    ) -> "NoveltyDisplay":
        """Draw scores that are known already; parameters as of the constructor and of `plot`."""
        return cls(known_scores, unknown_scores, threshold=threshold).plot(ax, kind=kind)

    def plot(self, ax: Any = None, *, kind: Literal["histogram", "roc"] = "histogram") -> "NoveltyDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure of its own.
        kind : {"histogram", "roc"}, default="histogram"
            ``"histogram"`` has the scores, and in the legend the shares that are rejected; ``"roc"`` has the share of
            unknown images that a threshold rejects by that of known ones, over all thresholds.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there are no unknown images, and ``kind="roc"``.
        """
        if kind == "roc" and self.unknown_scores is None:
            raise ValueError("kind='roc' needs scores of unknown images. Got None.")
        if ax is None:
            ax = new_figure(6, 4).add_subplot()
        self.ax_, self.figure_ = ax, ax.figure
        (self._draw_roc if kind == "roc" else self._draw_histogram)(ax)
        ax.grid(alpha=0.3)
        ax.legend()
        return self

    def describe(self) -> str:
        """Say how many images there are, and how well they are told apart."""
        known, unknown = len(self.known_scores), 0 if self.unknown_scores is None else len(self.unknown_scores)
        about = f"Novelty scores of {known:,} images of the known classes"
        if not unknown:
            return f"{about}."
        return f"{about} and {unknown:,} of others: area under the curve {self.roc_auc_:.3f}."

    def _draw_histogram(self, ax: Any) -> None:
        parts = [("known", self.known_scores, self.known_rejected_)]
        if self.unknown_scores is not None:
            parts.append(("unknown", self.unknown_scores, self.unknown_rejected_))
        edges = np.histogram_bin_edges(np.concatenate([scores for _, scores, _ in parts]), bins=30)
        for name, scores, rejected in parts:
            share = "" if self.threshold is None else f", {100 * rejected:.1f} % rejected"
            weights = np.full(len(scores), 1 / len(scores))
            ax.hist(scores, edges, weights=weights, alpha=0.6, label=f"{name} images{share}")
        if self.threshold is not None:
            ax.axvline(self.threshold, color=ink(), linestyle="--", label="threshold")
        ax.set(xlabel="novelty score", ylabel="share of images")

    def _draw_roc(self, ax: Any) -> None:
        known, unknown, _ = roc_curve(*self._both())
        ax.plot(known, unknown, label=f"area under the curve {self.roc_auc_:.3f}")
        if self.threshold is not None:
            ax.plot(self.known_rejected_, self.unknown_rejected_, "o", color=ink(), label="threshold")
        ax.set(xlabel="share of known images rejected", ylabel="share of unknown images rejected")


def _scores(estimator: Any, X: Any) -> Array:
    """Score samples; a detector has it the other way round, as scikit-learn has."""
    scores: Array = estimator.novelty_score(X) if hasattr(estimator, "novelty_score") else -estimator.score_samples(X)
    return scores
