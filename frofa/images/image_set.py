"""Images with their labels and names, and the check of whatever is given as images."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from PIL import Image

from frofa.images.frames import is_column, is_frame, only_column, values_of
from frofa.images.items import OTHERWISE, ImageItem, Images, LazyImage, check_array, describe, describe_array
from frofa.images.labels import image_labels
from frofa.images.listing import count


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Images with their labels and names, in one order.

    It unpacks to its items and labels, as what `load_image_folder` returns does: ``paths, labels = load_images(...)``.
    An extractor takes it whole, for its items.

    Attributes
    ----------
    items : sequence
        The images, as an extractor takes them: paths, PIL images, arrays, and small objects that read an archive's
        member, a video's frame or a data set's row where they are needed.
    labels : ndarray of str or int, shape (n,), or None
        The label of each image: None if no image has one; ``""`` for those without one, if others have one.
    names : list of str
        The name of each image in errors and result files.
    notes : list of str
        Sentences that say what was left out, and why.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa import load_images
    >>> images = load_images(np.zeros((2, 8, 8, 3), np.uint8), labels=["cat", "dog"])
    >>> images
    ImageSet of 2 images, 2 classes
    >>> items, labels = images
    >>> len(items), labels.tolist()
    (2, ['cat', 'dog'])
    """

    items: Sequence[ImageItem]
    labels: npt.NDArray[Any] | None
    names: list[str]
    notes: list[str]

    def __iter__(self) -> Iterator[Any]:
        yield self.items
        yield self.labels

    def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
        raise TypeError(
            f"expected an array of features. Got an {self!r}: pass images.items and images.labels to an extractor, or "
            "to a pipeline that begins with one."
        )

    def __repr__(self) -> str:
        classes = "no labels" if self.labels is None else count(len(set(self.labels.tolist()) - {""}), "class")
        return f"ImageSet of {count(len(self.items), 'image')}, {classes}"


def image_set(
    items: Sequence[ImageItem], labels: Iterable[object] | None = None, notes: Sequence[str] = ()
) -> ImageSet:
    """Make a set of items: name them, and check that there is one label for each."""
    names = [describe(item) for item in items]
    gathered = None if labels is None else image_labels(labels, names)
    if gathered is not None and len(gathered) != len(items):
        raise ValueError(f"expected one label an image. Got {len(items)} images and {len(gathered)} labels.")
    return ImageSet(items, gathered, names, list(notes))


def join(sets: Sequence[ImageSet]) -> ImageSet:
    """Join several sets in their order; labels become strings if some set has none or others have strings."""
    if len(sets) == 1:
        return sets[0]
    labels: list[object] = []
    for part in sets:
        # A set without labels has gaps in those of all.
        labels += [None] * len(part.items) if part.labels is None else part.labels.tolist()
    return ImageSet(
        [item for part in sets for item in part.items],
        image_labels(labels) if any(part.labels is not None for part in sets) else None,
        [name for part in sets for name in part.names],
        [note for part in sets for note in part.notes],
    )


def as_image_list(X: Images) -> Sequence[ImageItem]:
    """Check the input of an extractor and return it as a sequence of paths, PIL images, uint8 arrays and `LazyImage`.

    Columns, and frames of one column, may be those of pandas, polars or pyarrow; of an `ImageSet`, the items are taken.

    Raises
    ------
    TypeError, ValueError
        If `X` is not one of the accepted forms; the message lists them.
    """
    if isinstance(X, (str, bytes, os.PathLike, Image.Image)):
        raise TypeError(
            f"expected several images. Got {X!r}: pass a list, [image], or the paths that "
            "frofa.load_images(source) or frofa.load_image_folder(directory) returns."
        )
    if isinstance(X, ImageSet):
        X = X.items
    elif is_frame(X):
        X = only_column(X, "images")
    elif is_column(X):
        X = values_of(X)
    # Arrays of objects and of strings are columns of paths or images; others are pixels.
    if isinstance(X, np.ndarray) and X.dtype.kind in "OSUT":
        if X.ndim == 2 and X.shape[1] == 1:
            X = X[:, 0]
        if X.ndim != 1:
            raise ValueError(f"expected one column of image paths. Got an array of shape {X.shape}.")
        X = X.tolist()
    if isinstance(X, np.ndarray):
        if X.dtype != np.uint8 or X.ndim != 4 or X.shape[3] != 3:
            raise ValueError(f"expected a uint8 array of shape (n, H, W, 3), {OTHERWISE}. Got {describe_array(X)}.")
        return list(X)
    try:
        items = list(X)
    except TypeError:
        raise TypeError(
            "expected a list or pandas column of paths, a list of PIL images, or a uint8 array (n, H, W, 3). "
            f"Got {type(X).__name__}."
        ) from None
    for position, item in enumerate(items):
        _check_item(position, item)
    return items


def _check_item(position: int, item: object) -> None:
    if isinstance(item, np.ndarray):
        check_array(item, f", at position {position}")
    elif not isinstance(item, (str, os.PathLike, Image.Image, LazyImage)):
        advice = ": os.fsdecode makes a path of bytes, PIL.Image.open an image" if isinstance(item, bytes) else ""
        raise TypeError(
            f"expected a path, a PIL image or a uint8 array. Got {type(item).__name__} ({item!r:.80}) "
            f"at position {position}{advice}."
        )
