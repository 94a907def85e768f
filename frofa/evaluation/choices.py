"""Multiple choice: which of several texts fits an image, or which of several images a text, by embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from frofa.compute.arrays import check_embedded
from frofa.evaluation.intervals import Interval, proportion_interval
from frofa.evaluation.probabilities import check_confidence

Array: TypeAlias = npt.NDArray[np.float64]
Choices: TypeAlias = npt.ArrayLike | Sequence[npt.ArrayLike]
ROUNDING = 1e-12
"""Scores that differ by less, beside the largest of the question, are the same: copies may be rounded differently."""
CHUNK = 2**24
"""Numbers that are turned into float64 at a time."""


class GroupAccuracy(NamedTuple):
    """Accuracy on some of the questions.

    Attributes
    ----------
    n : int
        Questions.
    accuracy : Interval
        Share that was answered correctly, from 0 to 1, with Wilson's interval.
    chance : float
        Share that guessing answers correctly.
    """

    n: int
    accuracy: Interval
    chance: float


@dataclass(frozen=True, eq=False, repr=False)
class MultipleChoiceReport:
    """Answers to multiple-choice questions, and how many are right; ``print`` shows a table.

    Attributes
    ----------
    n : int
        Questions.
    accuracy : Interval
        Share that was answered correctly, from 0 to 1, with Wilson's interval.
    chance : float
        Share that guessing answers correctly: the mean of one by the number of choices.
    groups : dict of GroupAccuracy
        The same by group, in sorted order; empty if no groups were given.
    scores : ndarray of float64, shape (n, m)
        Score of each choice, a cosine unless it was computed otherwise; NaN where a question has fewer choices.
    predicted : ndarray of int, shape (n,)
        Position of the best choice; of several equal ones, the first.
    credit : ndarray of float64, shape (n,)
        What each question counts: 1 if it is right, 0 if it is wrong, and ``1 / k`` if the right choice and ``k - 1``
        others share the best score, which is what guessing among them makes on average.
    tied : ndarray of bool, shape (n,)
        Whether several choices share the best score.
    margins : ndarray of float64, shape (n,)
        Score of the right choice less that of the best other one: above 0 where the answer is right.
    """

    n: int
    accuracy: Interval
    chance: float
    groups: dict[Any, GroupAccuracy]
    scores: Array
    predicted: npt.NDArray[np.intp]
    credit: Array
    tied: npt.NDArray[np.bool_]
    margins: Array
    confidence_level: float = field(default=0.95)

    def to_dict(self) -> dict[str, Any]:
        """Give the accuracies as JSON can hold them."""
        groups = {str(name): _as_dict(group) for name, group in self.groups.items()}
        every = GroupAccuracy(self.n, self.accuracy, self.chance)
        return {**_as_dict(every), "n_tied": int(self.tied.sum()), "groups": groups}

    def __str__(self) -> str:
        rows = [("", GroupAccuracy(self.n, self.accuracy, self.chance)), *self.groups.items()]
        width = max(len("all"), *(len(str(name)) for name, _ in rows))
        lines = [f"{str(name) or 'all':<{width}}  {describe_accuracy(group)}" for name, group in rows]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<MultipleChoiceReport of {self.n} questions: {100 * self.accuracy.mean:.1f} % right>"


def multiple_choice(
    images: Choices,
    choices: Choices,
    answer: npt.ArrayLike,
    *,
    groups: npt.ArrayLike | None = None,
    confidence_level: float = 0.95,
) -> MultipleChoiceReport:
    """Answer multiple-choice questions by cosine, and count the right answers.

    Parameters
    ----------
    images : array-like of shape (n, D)
        Embedding of the image of each question, of any length.
    choices : array-like of shape (n, m, D), or sequence of n arrays of shape (m_i, D)
        Embeddings of the texts to choose from, in the same space. Where the images are to be chosen from, `images` is
        what has a row for each choice, and `choices` has one text a question.
    answer : array-like of int or str, shape (n,)
        Position of each right choice, from 0, or its letter, from ``"A"``.
    groups : array-like of shape (n,), default=None
        A label for each question, such as its category; accuracies are given by group, too.
    confidence_level : float, default=0.95
        Level of the intervals, between 0 and 1.

    Returns
    -------
    MultipleChoiceReport

    Raises
    ------
    ValueError
        If shapes do not fit together, a question has fewer than two choices, a number is NaN or infinite, or an answer
        is none of the choices.
    TypeError
        If images or choices are paths or words, and not their vectors.

    Notes
    -----
    Ties get what guessing among them makes on average, so that embeddings that are all the same are at chance level. A
    vector of zeros has a cosine of 0 to all.

    Examples
    --------
    >>> from frofa.evaluation import multiple_choice
    >>> images = [[1.0, 0.0], [0.0, 1.0]]
    >>> choices = [[[2.0, 0.1], [0.0, 1.0]], [[1.0, 0.0], [0.9, 0.1]]]
    >>> print(multiple_choice(images, choices, ["A", "B"], groups=["plots", "tables"]))
    all     100.0 %  (34.2 to 100.0; n = 2, chance 50.0)
    plots   100.0 %  (20.7 to 100.0; n = 1, chance 50.0)
    tables  100.0 %  (20.7 to 100.0; n = 1, chance 50.0)
    """
    check_embedded(images, "images")
    check_embedded(choices, "choices")
    # Cosines do not mind which side is chosen from.
    chosen, asked = (images, choices) if _has_rows(choices) and not _has_rows(images) else (choices, images)
    table, sizes = _padded(chosen)
    return score_choices(
        _cosines(_questions(asked, table.shape), table, sizes),
        answer,
        groups=groups,
        confidence_level=confidence_level,
    )


def score_choices(
    scores: npt.ArrayLike, answer: npt.ArrayLike, *, groups: npt.ArrayLike | None = None, confidence_level: float = 0.95
) -> MultipleChoiceReport:
    """Count right answers by scores (n, m) of the choices, NaN where a question has fewer; else as `multiple_choice`.

    Examples
    --------
    >>> from frofa.evaluation import score_choices
    >>> score_choices([[0.3, 0.1], [0.2, 0.4]], [0, 0]).accuracy.mean
    0.5
    """
    check_confidence(confidence_level)
    table = np.asarray(scores, np.float64)
    if table.ndim != 2 or not len(table):
        raise ValueError(f"expected scores of shape (n, m), of one question at least. Got shape {table.shape}.")
    sizes = (~np.isnan(table)).sum(1)
    if (sizes < 2).any():
        row = int(np.argmax(sizes < 2))
        raise ValueError(f"expected at least two choices a question. Got {sizes[row]} in question {row}.")
    rows, right = np.arange(len(table)), _positions(answer, ~np.isnan(table))
    top = np.nanmax(table, 1, keepdims=True)
    best = table >= top - ROUNDING * np.maximum(1, np.abs(top))  # NaN is never among them
    others = table.copy()
    others[rows, right] = np.nan
    credit = np.where(best[rows, right], 1 / best.sum(1), 0.0)
    return MultipleChoiceReport(
        len(table),
        proportion_interval(float(credit.sum()), len(table), confidence_level),
        float((1 / sizes).mean()),
        _by_group(credit, 1 / sizes, groups, confidence_level),
        table,
        best.argmax(1),
        credit,
        best.sum(1) > 1,
        table[rows, right] - np.nanmax(others, 1),
        confidence_level,
    )


def describe_accuracy(group: GroupAccuracy) -> str:
    """Write an accuracy in percent, with interval, number of questions and chance level."""
    share, low, high = (100 * value for value in group.accuracy)
    return f"{share:5.1f} %  ({low:.1f} to {high:.1f}; n = {group.n}, chance {100 * group.chance:.1f})"


def _as_dict(group: GroupAccuracy) -> dict[str, Any]:
    return {"n": group.n, **group.accuracy._asdict(), "chance": group.chance}


def _by_group(credit: Array, chances: Array, groups: npt.ArrayLike | None, level: float) -> dict[Any, GroupAccuracy]:
    if groups is None:
        return {}
    labels = np.asarray(groups)
    if labels.shape != credit.shape:
        raise ValueError(f"expected a group for each of {len(credit)} questions. Got shape {labels.shape}.")
    found = {}
    for name in sorted(set(labels.tolist()), key=lambda name: (str(type(name)), name)):
        of = np.flatnonzero(labels == name)
        accuracy = proportion_interval(float(credit[of].sum()), len(of), level)
        found[name] = GroupAccuracy(len(of), accuracy, float(chances[of].mean()))
    return found


def _positions(answer: npt.ArrayLike, there: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Turn answers into positions, and check that each is one of the choices `there` (n, m)."""
    given = np.asarray(answer)
    if given.shape != there.shape[:1]:
        raise ValueError(f"expected one answer for each of {len(there)} questions. Got shape {given.shape}.")
    if given.dtype.kind in "UO" and all(isinstance(one, str) for one in given.tolist()):
        letters = [one.strip().upper() for one in given.tolist()]
        positions = np.array([ord(one) - ord("A") if len(one) == 1 else -1 for one in letters], np.intp)
    elif given.dtype.kind in "iu":
        positions = given.astype(np.intp)
    else:
        raise ValueError(f"expected answers that are positions from 0, or letters from A. Got {given.dtype} values.")
    inside = (positions >= 0) & (positions < there.shape[1])
    inside[inside] &= there[np.flatnonzero(inside), positions[inside]]
    if not inside.all():
        row = int(np.argmin(inside))
        raise ValueError(f"expected answers among the choices. Got {given[row]!s} in question {row}.")
    return positions


def _has_rows(values: Any) -> bool:
    """Tell whether values have one row of numbers a question, rather than a table of choices."""
    shape = getattr(values, "shape", None)
    if shape is not None:
        return len(shape) == 2
    return len(values) > 0 and np.ndim(values[0]) == 1


def _padded(choices: Choices) -> tuple[Any, npt.NDArray[np.intp]]:
    """Give choices the shape (n, m, D), zeros where a question has fewer, and say how many each has."""
    if hasattr(choices, "shape"):
        table: Any = choices
    else:
        parts = [np.asarray(one) for one in choices]  # type: ignore[union-attr] # not an array: a sequence
        channels = {one.shape[1:] for one in parts}
        if len(channels) != 1 or any(one.ndim != 2 for one in parts):
            got = ", ".join(sorted({str(one.shape) for one in parts})) or "none"
            raise ValueError(f"expected choices of shape (m, D), with one D, for each question. Got {got}.")
        table = np.zeros((len(parts), max(map(len, parts)), *channels.pop()), np.result_type(*parts))
        for row, one in zip(table, parts, strict=True):
            row[: len(one)] = one
        return table, np.array([len(one) for one in parts], np.intp)
    if len(table.shape) != 3 or not len(table):
        raise ValueError(f"expected choices of shape (n, m, D), of one question at least. Got shape {table.shape}.")
    return table, np.full(len(table), table.shape[1], np.intp)


def _questions(asked: Any, shape: tuple[int, ...]) -> Any:
    rows = asked if hasattr(asked, "shape") else np.asarray(asked)
    if tuple(rows.shape) != (shape[0], shape[2]):
        raise ValueError(
            f"expected one embedding for each of {shape[0]} questions, of {shape[2]} channels as the choices have. "
            f"Got shape {tuple(rows.shape)}."
        )
    return rows


def _cosines(questions: Any, table: Any, sizes: npt.NDArray[np.intp]) -> Array:
    """Cosines (n, m) in float64, a part of the questions at a time; NaN where there is no choice."""
    n, m, channels = table.shape
    found = np.empty((n, m))
    step = max(CHUNK // max(m * channels, 1), 1)
    for start in range(0, n, step):
        part = slice(start, start + step)
        found[part] = np.einsum("nd,nmd->nm", _units(questions[part]), _units(table[part]))
    found[np.arange(m) >= sizes[:, None]] = np.nan
    return found


def _units(values: Any) -> Array:
    """Vectors of length one in float64; zeros stay zeros."""
    vectors = np.asarray(values, np.float64)
    if not np.isfinite(vectors).all():
        raise ValueError("expected embeddings of finite numbers. Got NaN or infinity.")
    # The largest number first: squares of tiny ones would vanish.
    largest = np.abs(vectors).max(-1, keepdims=True, initial=0.0)
    vectors = vectors / np.where(largest > 0, largest, 1)
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    units: Array = vectors / np.where(lengths > 0, lengths, 1)
    return units
