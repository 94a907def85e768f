"""Images with their labels and names."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from frofa.images.listing import count

if TYPE_CHECKING:
    import numpy.typing as npt

    from frofa.images.reading import ImageItem


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Images with their labels and names, in one order.

    It unpacks to its items and labels, as what `load_image_folder` returns does: ``paths, labels = load_images(...)``.
    An extractor takes it whole, for its items.

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

    items: "Sequence[ImageItem]"
    labels: "npt.NDArray[Any] | None"
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
