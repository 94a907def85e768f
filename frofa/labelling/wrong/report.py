"""Report on labels, for people and for programs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from frofa.exceptions import ImageReadError
from frofa.labelling.wrong.duplicates import DuplicateGroup
from frofa.utils.optional import require
from frofa.utils.text import chance, shorten

Array = npt.NDArray[Any]
LISTED = 10
"""Suspects, groups and outliers that ``print`` shows."""


@dataclass(frozen=True, eq=False, repr=False)
class LabelIssues:
    """Labels that may be wrong, samples that are there more than once, and samples that are like no others.

    Arrays are of all n samples, in their order; NaN where nothing can be said: of the only sample of a class, which
    cannot be left out, and of images that could not be read.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
    given : ndarray of shape (n,)
        The labels that were given.
    suggested : ndarray of shape (n,)
        The most probable of the other labels; the given one where nothing can be said.
    wrong : ndarray of shape (n,)
        Probability that the given label is wrong, by which suspects are ranked; of m samples of which something can be
        said, 1 - 1 / (m + 1) at most, as m samples do not tell more. Where few are wrong, it says too much: of
        none, 3 in 100 were suspects, and of 5 in 100, six in ten suspects were wrong (``docs/results/confidence.md``).
    margin : ndarray of shape (n,)
        Logarithm of the given label's left-out probability over the largest of the others: negative where the fits
        without the sample say something else.
    pred_probs : ndarray of shape (n, n_classes)
        Probabilities of each class by fits without the sample, in the last of which suspects count little.
    noise_matrix : ndarray of shape (n_classes, n_classes)
        Estimated probability of each given label (columns) of samples of each class (rows).
    n_estimated : float
        How many labels are wrong, by estimate: the sum of `wrong`.
    indices : ndarray of int
        Positions of labels that are more likely wrong than right, the worst first, as
        ``cleanlab.filter.find_label_issues(..., return_indices_ranked_by=...)`` has them.
    ranking : ndarray of int
        Positions of all samples of which something can be said, the worst first.
    duplicates : tuple of DuplicateGroup
        Samples that are copies, or nearly; those of several labels and those in training and test data first.
    outlier_score : ndarray of shape (n,)
        How unlike all others each sample is; the unit has no meaning.
    outliers : ndarray of int
        Positions of those far beyond the others, the farthest first.
    names, test_names : list of str or None
        Of images.
    n_alone : int
        Samples that are the only one of their class.
    skipped : list of ImageReadError
        Images that could not be read.
    """

    classes: Array
    given: Array
    suggested: Array
    wrong: Array
    margin: Array
    pred_probs: Array
    noise_matrix: Array
    duplicates: tuple[DuplicateGroup, ...]
    outlier_score: Array
    outliers: Array
    names: list[str] | None
    test_names: list[str] | None
    n_alone: int
    skipped: list[ImageReadError]

    @property
    def n_estimated(self) -> float:
        """Estimated number of wrong labels."""
        return float(np.nansum(self.wrong))

    @property
    def ranking(self) -> npt.NDArray[np.intp]:
        """Positions of all samples of which something can be said, the worst first."""
        return np.argsort(-self.wrong, kind="stable")[: int(np.isfinite(self.wrong).sum())]

    @property
    def indices(self) -> npt.NDArray[np.intp]:
        """Positions of labels that are more likely wrong than right, the worst first."""
        return self.ranking[self.wrong[self.ranking] > 1 / 2]

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """Whether each label is more likely wrong than right, (n,), as cleanlab's ``find_label_issues`` says it."""
        return np.nan_to_num(self.wrong) > 1 / 2

    @property
    def label_quality(self) -> Array:
        """Probability that each label is right, (n,), from 0 to 1 as cleanlab's scores; NaN where nothing is known."""
        return 1 - self.wrong

    @property
    def leaks(self) -> tuple[DuplicateGroup, ...]:
        """Groups of copies that lie in training and in test data."""
        return tuple(group for group in self.duplicates if group.is_leak)

    def for_cleanlab(self) -> dict[str, Array]:
        """Give the arguments of ``cleanlab.filter.find_label_issues``, of the samples in `ranking`, by position.

        Returns
        -------
        dict
            ``labels``, numbered as cleanlab wants them, and ``pred_probs``.
        """
        known = np.sort(self.ranking)
        return {"labels": np.searchsorted(self.classes, self.given[known]), "pred_probs": self.pred_probs[known]}

    def to_dict(self) -> dict[str, Any]:
        """Turn all into plain lists, numbers and strings, as JSON takes them; None where nothing is known."""
        return {
            "n": len(self.given),
            "n_estimated": self.n_estimated,
            "n_alone": self.n_alone,
            "suspects": [self._row(i) for i in self.indices.tolist()],
            "duplicates": [self._group(group) for group in self.duplicates],
            "outliers": [
                self._named(i, self.names) | self._value("score", self.outlier_score[i]) for i in self.outliers
            ],
            "skipped": [{"path": error.name, "reason": error.reason} for error in self.skipped],
        }

    def to_frame(self) -> Any:
        """Make a pandas data frame of `rows`; an ImportError says that pandas is not installed."""
        return require("pandas", "pandas").DataFrame(self.rows())

    def rows(self) -> list[dict[str, Any]]:
        """Describe all samples, the worst label first; those of which nothing is known come last.

        Returns
        -------
        list of dict
            ``index``, of images ``path``, ``given``, ``suggested``, ``wrong``, ``margin``, ``self_confidence`` (the
            left-out probability of the given label), ``is_issue``, ``is_outlier``, and ``group``, the number of the
            group of copies; None where there is none, or nothing is known.
        """
        group_of = {i: number for number, group in enumerate(self.duplicates) for i in group.train}
        outliers = set(self.outliers.tolist())
        return [
            self._row(i) | {"is_issue": bool(self.mask[i]), "is_outlier": i in outliers, "group": group_of.get(i)}
            for i in self._all()
        ]

    def _all(self) -> list[int]:
        ranked = self.ranking.tolist()
        return [*ranked, *sorted(set(range(len(self.given))) - set(ranked))]

    def _row(self, i: int) -> dict[str, Any]:
        own = self.pred_probs[i, np.searchsorted(self.classes, self.given[i])]
        row = self._named(i, self.names)
        row |= {"given": _plain(self.given[i]), "suggested": _plain(self.suggested[i])}
        for name, value in (("wrong", self.wrong[i]), ("margin", self.margin[i]), ("self_confidence", own)):
            row |= self._value(name, value)
        return row

    def _group(self, group: DuplicateGroup) -> dict[str, Any]:
        return {
            "train": [self._named(i, self.names) for i in group.train],
            "test": [self._named(i, self.test_names) for i in group.test],
            "labels": [_plain(label) for label in group.labels],
            "exact": group.exact,
            "ratio": group.ratio,
        }

    @staticmethod
    def _named(i: int, names: list[str] | None) -> dict[str, Any]:
        return {"index": int(i)} if names is None else {"index": int(i), "path": names[i]}

    @staticmethod
    def _value(name: str, value: Any) -> dict[str, Any]:
        return {name: float(value) if np.isfinite(value) else None}

    def __repr__(self) -> str:
        return (
            f"LabelIssues({len(self.given)} samples, {len(self.indices)} suspects, about {self.n_estimated:.0f} wrong, "
            f"{len(self.duplicates)} groups of copies, {len(self.leaks)} leaks, {len(self.outliers)} outliers)"
        )

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        n_known = len(self.ranking)
        yield (
            f"{len(self.indices)} of {n_known} labels are more likely wrong than right; about {self.n_estimated:.0f} "
            "are wrong by estimate."
        )
        if self.n_alone:
            yield f"Of {self.n_alone}, the only ones of their class, nothing can be said: none is left to compare with."
        for i in self.indices[:LISTED].tolist():
            yield f"  {self._name(i)}: {self.given[i]}, rather {self.suggested[i]} (wrong: {chance(self.wrong[i])})"
        yield from _more(len(self.indices))
        yield f"{len(self.duplicates)} groups of copies, {len(self.leaks)} of them in training and test data."
        for group in self.duplicates[:LISTED]:
            yield f"  {self._described(group)}"
        yield from _more(len(self.duplicates))
        yield f"{len(self.outliers)} outliers."
        for i in self.outliers[:LISTED].tolist():
            yield f"  {self._name(i)}: {self.given[i]}"
        yield from _more(len(self.outliers))

    def _name(self, i: int) -> str:
        return f"sample {i}" if self.names is None else self.names[i]

    def _described(self, group: DuplicateGroup) -> str:
        test = [f"test sample {i}" if self.test_names is None else self.test_names[i] for i in group.test]
        names = [*(self._name(i) for i in group.train), *test]
        kind = "the same" if group.exact else "nearly the same"
        labels = f", labelled {shorten(group.labels)}" if group.is_disputed else ""
        return f"{kind}{', a leak' if group.is_leak else ''}{labels}: {', '.join(names[:LISTED])}"


def _more(n: int) -> Iterator[str]:
    if n > LISTED:
        yield f"  and {n - LISTED} more"


def _plain(value: Any) -> Any:
    """Turn a NumPy scalar into Python's own."""
    return value.item() if isinstance(value, np.generic) else value
