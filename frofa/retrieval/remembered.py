"""Names and labels of an index's images as their store remembers them, read when they are asked for."""

from collections.abc import Hashable, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from frofa.retrieval.rows import Array
from frofa.store import FeatureArray
from frofa.store.keys import KEY_BYTES, KeyArray
from frofa.store.names import NAMES, ImageNames, Named
from frofa.utils.text import shorten


class Remembered:
    """Names and labels that a store remembers of the images of lazy features; of other features, it has none.

    `names` and `labels` are arrays (n,), or None where there is not one; None of a row is not known. Of an image that
    lay at several places, they are those of the last.
    """

    def __init__(self, features: Any):
        self._features = features if isinstance(features, FeatureArray) else None

    @property
    def names(self) -> Array | None:
        """The path, or ``ARCHIVE!/MEMBER``, of each row."""
        return self._columns[0]

    @property
    def labels(self) -> Array | None:
        """The label of each row."""
        return self._columns[1]

    def rows_with(self, labels: Sequence[Any]) -> npt.NDArray[np.int64]:
        """Positions, ascending, of images that have one of these labels at one of their places.

        A ValueError says that there are no labels, or not such a one.
        """
        names = self._image_names()
        if self._features is None or names is None or not names.all_labels():
            raise ValueError(
                "'where' as labels needs an index with labels. Give FeatureIndex 'labels', or choose rows by a mask of "
                "bools, shape (n,)."
            )
        return np.flatnonzero(is_among(self._features.keys, keys_with(names, labels))).astype(np.int64)

    @cached_property
    def _columns(self) -> tuple[Array | None, Array | None]:
        names = self._image_names()
        if self._features is None or names is None:
            return None, None
        last = [places[0] if places else Named("", "") for places in names.find(self._features.keys)]
        return _column(one.path for one in last), _column(one.label for one in last)

    def _image_names(self) -> ImageNames | None:
        """Open the names beside the directory of the features' spec."""
        if self._features is None:
            return None
        return ImageNames(self._features._source.table.directory.parent / NAMES)


def keys_with(names: ImageNames, labels: Sequence[Any]) -> KeyArray:
    """List the keys of images with one of these labels; a ValueError names a label that no image has."""
    check_known(labels, names.all_labels())
    return names.labelled(labels)


def check_known(labels: Sequence[Any], known: Iterable[str]) -> None:
    """Raise a ValueError for a label that no image has."""
    there = set(known)
    if missing := [label for label in labels if not isinstance(label, Hashable) or label not in there]:
        listed = shorten(there) or "none"
        rows = "" if isinstance(missing[0], str) else ": rows are chosen by a mask of bools"
        raise ValueError(f"expected labels that images of the store have: {listed}. Got {missing[0]!r}{rows}.")


def is_among(keys: KeyArray, chosen: KeyArray) -> npt.NDArray[np.bool_]:
    """Mark the keys (n, 20) that are among the chosen ones, (m, 20)."""
    as_one = f"V{KEY_BYTES}"
    rows, wanted = (np.ascontiguousarray(one).view(as_one)[:, 0] for one in (keys, chosen))
    return np.isin(rows, wanted)


def _column(values: Iterable[str]) -> Array | None:
    """Make an array of texts, None where they are empty; None if all are."""
    texts = [value or None for value in values]
    if not any(texts):
        return None
    return np.array(texts, object if None in texts else None)
