"""What every source of images becomes, and how labels are gathered."""

from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from frofa.images import ImageItem, describe


class ImageSet(NamedTuple):
    """Images with their labels and names, in one order.

    Attributes
    ----------
    items : sequence
        What an extractor takes: paths, PIL images, arrays, and small objects that read an archive's member, a video's
        frame or a data set's row where they are needed.
    labels : ndarray of str or int, shape (n,), or None
        None if no image has a label; ``""`` for those without one, if others have one.
    names : list of str
        What errors and result files call each image.
    notes : list of str
        What was left out and why, a sentence each.
    """

    items: Sequence[ImageItem]
    labels: npt.NDArray[Any] | None
    names: list[str]
    notes: list[str]


def image_set(
    items: Sequence[ImageItem], labels: Iterable[object] | None = None, notes: Sequence[str] = ()
) -> ImageSet:
    """Name the items and check that there is one label for each."""
    gathered = None if labels is None else as_labels(labels)
    if gathered is not None and len(gathered) != len(items):
        raise ValueError(f"expected one label an image. Got {len(items)} images and {len(gathered)} labels.")
    return ImageSet(items, gathered, [describe(item) for item in items], list(notes))


def as_labels(values: Iterable[object]) -> npt.NDArray[Any] | None:
    """Labels as an array: of int if all are whole numbers, else of str, with ``""`` where there is none.

    None, NaN and ``""`` are no labels; the result is None if there is no other value.

    Examples
    --------
    >>> as_labels(["cat", None, "dog"])
    array(['cat', '', 'dog'], dtype='<U3')
    >>> as_labels([3, 1])
    array([3, 1])
    """
    given = [None if _is_missing(value) else value for value in values]
    present = [value for value in given if value is not None]
    if not present and given:
        return None
    if len(present) == len(given) and all(isinstance(v, Integral) and not isinstance(v, bool) for v in given):
        return np.array(given, dtype=np.int64)
    return np.array(["" if value is None else _text(value) for value in given], dtype=np.str_)


def _is_missing(value: object) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType") or value == "" or value != value


def _text(value: object) -> str:
    if isinstance(value, Real) and not isinstance(value, (bool, Integral)) and float(value).is_integer():
        return str(int(float(value)))  # a column of whole numbers with a gap is one of floats in pandas
    return str(value)


def join(sets: Sequence[ImageSet]) -> ImageSet:
    """Several sets, one after the other; labels become strings if some set has none or others have strings."""
    if len(sets) == 1:
        return sets[0]
    labels: list[object] = []
    for part in sets:
        labels += [None] * len(part.items) if part.labels is None else part.labels.tolist()
    items = [item for part in sets for item in part.items]
    return ImageSet(
        items,
        as_labels(labels) if any(part.labels is not None for part in sets) else None,
        [name for part in sets for name in part.names],
        [note for part in sets for note in part.notes],
    )
