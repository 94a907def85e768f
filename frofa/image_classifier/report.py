"""Scores of a classifier on labelled samples: numbers to be read in Python, printed, or written as JSON."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from frofa.evaluation import (
    Interval,
    Reliability,
    brier_score,
    calibration_error,
    calibration_floor,
    confusion_matrix,
    label_positions,
    log_loss,
    proportion_interval,
    reliability,
)
from frofa.exceptions import ImageReadError
from frofa.images.listing import count
from frofa.utils.text import shorten

N_BINS, CONFIDENCE = 15, 0.95
WIDEST_TABLE = 20
"""Classes of the largest confusion table that is printed; of larger ones, the most common confusions are."""


@dataclass(frozen=True, eq=False, repr=False)
class EvaluationReport:
    """Scores of a classifier on labelled samples; ``print`` shows them all.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        The labels that the classifier knows.
    confusion_matrix : ndarray of int, shape (n_classes, n_classes)
        A row for each true class, a column for each predicted one.
    log_loss : float
        Mean negative logarithm of the true class's probability, in nats.
    calibration_error : float
        Expected calibration error over 15 bins, from 0, which is best, to 1.
    unknown_labels : dict of str to int
        Labels that the classifier does not know, with the number of their samples, which no score is of.
    skipped : list of ImageReadError
        Images that could not be read, which no score is of either.
    brier_score : float
        Mean squared distance of all probabilities from 1 and 0, from 0, which is best, to 2.
    calibration_floor : float
        Calibration error that perfect probabilities would have by chance, as there are so few samples.
    intervals : dict of str to Interval
        95 % intervals of ``"log_loss"`` and ``"brier_score"``, Student's, and of ``"calibration_error"``, by a
        bootstrap. Few samples have none that reach from perfect probabilities to those of guessing, as these say
        nothing.
    reliability : Reliability or None
        Samples, mean probability and accuracy of each bin of the predicted class's probability.
    """

    classes: npt.NDArray[Any]
    confusion_matrix: npt.NDArray[np.intp]
    log_loss: float
    calibration_error: float
    unknown_labels: dict[str, int] = field(default_factory=dict)
    skipped: list[ImageReadError] = field(default_factory=list)
    brier_score: float = float("nan")
    calibration_floor: float = float("nan")
    intervals: dict[str, Interval] = field(default_factory=dict)
    reliability: Reliability | None = None

    @property
    def n(self) -> int:
        """Number of samples that the scores are of."""
        return int(self.confusion_matrix.sum())

    @property
    def accuracy(self) -> Interval:
        """Share of right predictions, from 0 to 1, with Wilson's 95 % interval."""
        return proportion_interval(int(self.confusion_matrix.trace()), self.n)

    @property
    def class_accuracies(self) -> dict[Any, Interval | None]:
        """Accuracy of each class, by label; None for classes without a sample."""
        hits, sizes = self.confusion_matrix.diagonal().tolist(), self.confusion_matrix.sum(1).tolist()
        shares = [proportion_interval(hit, n) if n else None for hit, n in zip(hits, sizes, strict=True)]
        return dict(zip(self.classes.tolist(), shares, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as JSON can hold it; shares are from 0 to 1, and None for classes without a sample."""
        hits, sizes = self.confusion_matrix.diagonal().tolist(), self.confusion_matrix.sum(1).tolist()
        names = self.classes.tolist()
        of_classes = zip(names, hits, sizes, strict=True)
        return {
            "n_images": self.n,
            "labels": names,
            "accuracy": _share(sum(hits), self.n),
            "interval": {"kind": "Wilson", "confidence": 0.95},
            "classes": [{"label": name, **_share(n_hits, n)} for name, n_hits, n in of_classes],
            "log_loss": self.log_loss,
            "brier_score": self.brier_score,
            "calibration_error": {"value": self.calibration_error, "n_bins": N_BINS, "floor": self.calibration_floor},
            "intervals": {name: {"low": one.low, "high": one.high} for name, one in self.intervals.items()},
            "reliability": None if self.reliability is None else self.reliability.to_dict(),
            "confusion_matrix": self.confusion_matrix.tolist(),
            "n_skipped": len(self.skipped),
            "unknown_labels": self.unknown_labels,
        }

    def __str__(self) -> str:
        names = [str(label) for label in self.classes.tolist()]
        table = self.confusion_matrix.tolist()
        return "\n".join(
            [
                f"{count(self.n, 'image')}, {count(len(names), 'class')}",
                f"accuracy           {percent(self.accuracy)}: the 95 % interval is Wilson's",
                f"log-loss           {self.log_loss:.4f}{self._ends('log_loss')}",
                f"Brier score        {self.brier_score:.4f}{self._ends('brier_score')}",
                self._calibration_line(),
                *self._left_out(),
                "",
                *_class_lines(names, table),
                "",
                *self._reliability_lines(),
                *(_table_lines(names, table) if len(names) <= WIDEST_TABLE else _confusion_lines(names, table)),
            ]
        )

    def _calibration_line(self) -> str:
        ends = self._ends("calibration_error")
        about = f"expected, over {N_BINS} bins; {self.calibration_floor:.4f} by chance alone"
        return f"calibration error  {self.calibration_error:.4f}{ends} ({about})"

    def _ends(self, name: str) -> str:
        """Write the ends of an interval, if there is one."""
        ends = self.intervals.get(name)
        return "" if ends is None else f", {ends.low:.4f} to {ends.high:.4f}"

    def _reliability_lines(self) -> list[str]:
        """Tell of each bin what was predicted and how often it was right, if it is known."""
        if self.reliability is None:
            return []
        edges, *columns = self.reliability
        lines = ["how often predictions of a probability are right:"]
        for low, high, n, mean, *share in zip(edges[:-1], edges[1:], *columns, strict=True):
            if n:
                right = percent(Interval(*share))
                lines.append(f"{low:.2f} to {high:.2f}  {mean:.3f} on average, right {right}, {count(int(n), 'image')}")
        return [*lines, ""]

    def _left_out(self) -> list[str]:
        """Tell in a line which images no score is of, if there are any."""
        parts = []
        if n := sum(self.unknown_labels.values()):
            parts.append(f"{count(n, 'image')} of labels that the model does not know ({shorten(self.unknown_labels)})")
        if self.skipped:
            parts.append(f"{count(len(self.skipped), 'image')} that could not be read")
        return [f"left out           {' and '.join(parts)}"] if parts else []

    def __repr__(self) -> str:
        return f"EvaluationReport(accuracy {percent(self.accuracy)} of {count(self.n, 'image')})"


def evaluation_report(
    y: npt.ArrayLike,
    probabilities: npt.NDArray[Any],
    classes: npt.NDArray[Any],
    skipped: Sequence[ImageReadError] = (),
) -> EvaluationReport:
    """Score the probabilities of labelled samples.

    Parameters
    ----------
    y : array-like of shape (n,)
        True labels. Samples with a label that is not among the classes are counted, and left out.
    probabilities : ndarray of shape (n, n_classes)
        In the order of `classes`; the largest is the prediction.
    classes : ndarray of shape (n_classes,)
    skipped : sequence of ImageReadError
        Samples that have no row here, as they could not be read.

    Raises
    ------
    ValueError
        If no label is known, or the probabilities have another shape.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa.image_classifier.report import evaluation_report
    >>> probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    >>> report = evaluation_report(["cat", "dog", "dog"], probabilities, np.array(["cat", "dog"]))
    >>> report
    EvaluationReport(accuracy 66.7 % (20.8 to 93.9) of 3 images)
    >>> report.class_accuracies["dog"].mean, report.confusion_matrix.tolist()
    (0.5, [[1, 0], [1, 1]])
    """
    labels = np.asarray(y)
    positions = label_positions(labels, classes)
    known = positions >= 0
    unknown = dict(Counter(str(label) for label in labels[~known].tolist()))
    if not known.any():
        raise ValueError(
            f"no image has a label that the model knows. It knows {shorten(classes.tolist())}. Got {shorten(unknown)}."
        )
    truth, table = classes[positions[known]], np.asarray(probabilities)[known]
    loss, brier = (score(truth, table, classes, CONFIDENCE) for score in (log_loss, brier_score))
    error = calibration_error(truth, table, classes, N_BINS, confidence=CONFIDENCE)
    intervals = {"log_loss": loss, "brier_score": brier, "calibration_error": error}
    # Scores of probabilities that are the same for all classes.
    guessing = {"log_loss": np.log(len(classes)), "brier_score": 1 - 1 / len(classes), "calibration_error": np.inf}
    intervals = {name: one for name, one in intervals.items() if len(truth) > 1 and _tells(one, guessing[name])}
    return EvaluationReport(
        classes,
        confusion_matrix(truth, classes[table.argmax(1)], classes),
        loss.mean,
        error.mean,
        unknown,
        list(skipped),
        brier.mean,
        calibration_floor(table, N_BINS),
        intervals,
        reliability(truth, table, classes, N_BINS),
    )


def _tells(ends: Interval, guessing: float) -> bool:
    """Tell intervals that say something from those that reach from a perfect score, 0, to that of guessing."""
    return bool(np.isfinite(ends.high) and (ends.low > 0 or ends.high < guessing))


def percent(share: Interval) -> str:
    """Write a share and its interval in percent: ``66.7 % (20.8 to 93.9)``."""
    return f"{100 * share.mean:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f})"


def _share(n_hits: int, n: int) -> dict[str, Any]:
    mean, low, high = proportion_interval(n_hits, n) if n else (None, None, None)
    return {"n": n, "n_correct": n_hits, "accuracy": mean, "low": low, "high": high}


def _class_lines(names: Sequence[str], table: Sequence[Sequence[int]]) -> list[str]:
    width = max(map(len, names))
    lines = []
    for position, (name, row) in enumerate(zip(names, table, strict=True)):
        hits, n = row[position], sum(row)
        found = f"{percent(proportion_interval(hits, n))}, {hits} of {n}" if n else "no image"
        lines.append(f"{name:<{width}}  {found}")
    return ["of each class:", *lines]


def _table_lines(names: Sequence[str], table: Sequence[Sequence[int]]) -> list[str]:
    """A row for each true class; columns have the order of the rows."""
    # A column is as wide as its class's name, or as the largest count of the whole table.
    width, cell = max(map(len, names)), max(len(str(n)) for row in table for n in row)
    columns = [max(cell, len(name)) for name in names]
    rows = [[name, *map(str, row)] for name, row in zip(names, table, strict=True)]
    return ["confusion table, a row for each true class, a column for each predicted one:"] + [
        "  ".join([f"{first:<{width}}", *(text.rjust(size) for text, size in zip(rest, columns, strict=True))]).rstrip()
        for first, *rest in [["", *names], *rows]
    ]


def _confusion_lines(names: Sequence[str], table: Sequence[Sequence[int]]) -> list[str]:
    found = [(n, true, other) for true, row in enumerate(table) for other, n in enumerate(row) if n and true != other]
    # The most common first; among equals, in the order of the classes.
    found.sort(key=lambda one: (-one[0], one[1:]))
    if not found:
        return ["no confusions"]
    return ["most common confusions (the whole table is in the report's JSON):"] + [
        f"{n} x {names[true]} taken for {names[other]}" for n, true, other in found[:WIDEST_TABLE]
    ]
