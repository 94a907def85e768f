"""Confusions between classes: how many, and which images they are of."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from frofa.displays.drawing import Tile, between, draw_tiles, shades, short
from frofa.displays.inputs import Predictions, from_classifier, from_folds, from_given
from frofa.evaluation import confusion_matrix
from frofa.exceptions import ImageReadError
from frofa.images.listing import count
from frofa.utils.drawing import RichDisplay, ink, new_figure, plain
from frofa.web.thumbnails import small

Cell = tuple[int, int]
PIXELS = 96
"""Longer side of the images that are kept."""


class ConfusionDisplay(RichDisplay):
    """Confusion matrix, and images of the largest confusions beside it.

    Parameters
    ----------
    confusion_matrix : array-like of int, shape (n_classes, n_classes)
        A row for each true class, a column for each predicted one.
    display_labels : array-like of shape (n_classes,), default=None
        Names of the classes; None numbers them.
    images : mapping of (int, int) to sequence of PIL images, default=None
        By true and predicted class: images that the matrix counts there.

    Attributes
    ----------
    confusion_matrix : ndarray of int, shape (n_classes, n_classes)
    display_labels : list of str
    images : dict
    ax_, figure_
        Matplotlib's, once drawn; `ax_` are the matrix's axes.

    Examples
    --------
    >>> from frofa import ConfusionDisplay
    >>> display = ConfusionDisplay([[9, 1], [3, 7]], ["boot", "sneaker"])
    >>> display.largest()
    [(1, 0), (0, 1)]
    >>> display.describe()
    'Confusion matrix of 20 images, 2 classes, 16 of them right. Most often sneaker is taken for boot: 3.'
    >>> display.plot().figure_.savefig("confusion.png")  # doctest: +SKIP
    """

    def __init__(
        self,
        confusion_matrix: npt.ArrayLike,
        display_labels: Sequence[Any] | npt.NDArray[Any] | None = None,
        *,
        images: Mapping[Cell, Sequence[Image.Image]] | None = None,
    ):
        self.confusion_matrix: npt.NDArray[Any] = np.asarray(confusion_matrix)
        shape = self.confusion_matrix.shape
        if len(shape) != 2 or shape[0] != shape[1] or not shape[0]:
            raise ValueError(f"expected a matrix of shape (n_classes, n_classes). Got shape {shape}.")
        self.display_labels = [str(one) for one in (range(shape[0]) if display_labels is None else display_labels)]
        if len(self.display_labels) != shape[0]:
            raise ValueError(f"expected {shape[0]} names of classes. Got {len(self.display_labels)}.")
        self.images = {} if images is None else dict(images)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        images: Any = None,
        n_cells: int = 6,
        n_images: int = 6,
        ax: Any = None,
    ) -> "ConfusionDisplay":
        """Classify labelled samples, and draw.

        Parameters
        ----------
        estimator : classifier
            Fitted: an `ImageClassifier`, a pipeline that begins with a `FrozenFeatureExtractor`, a head, or any
            classifier of scikit-learn.
        X : images or features of n samples
            What the classifier takes. Samples without a label, or of a label that it does not know, are left out, and
            so are images that cannot be read if the classifier skips them.
        y : array-like of shape (n,), default=None
            Labels; not needed where X is an ImageSet that has them.
        images : sequence of n images, default=None
            As `FrozenFeatureExtractor` takes them, to be shown; None shows X, if that is images.
        n_cells, n_images : int, default=6
            As in `from_predictions`.
        ax : matplotlib Axes, default=None
            As in `plot`.

        Returns
        -------
        ConfusionDisplay

        Raises
        ------
        TypeError, ValueError
            If it is no fitted classifier, no label is known, or there is not one image for each sample.
        ImportError
            If matplotlib is not installed.
        """
        found = from_classifier(estimator, X, y, images=images, probabilities=False)
        return cls._of(found, n_cells, n_images).plot(ax)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        *,
        labels: Any = None,
        images: Any = None,
        n_cells: int = 6,
        n_images: int = 6,
        ax: Any = None,
    ) -> "ConfusionDisplay":
        """Count predictions that are known, and draw.

        Parameters
        ----------
        y_true : array-like of shape (n,)
        y_pred : array-like of shape (n,) or (n, n_classes)
            Labels, or probabilities, of which the largest is the prediction.
        labels : array-like of shape (n_classes,), default=None
            The classes in their order, that of the probabilities; None is those that are there, sorted.
        images : sequence of n images, default=None
            To be shown; None shows none.
        n_cells : int, default=6
            Show images of so many of the largest confusions.
        n_images : int, default=6
            Show at most so many images of each.
        ax : matplotlib Axes, default=None
            As in `plot`.

        Returns
        -------
        ConfusionDisplay

        Raises
        ------
        ValueError
            If lengths differ, or a label is none of the classes.
        ImportError
            If matplotlib is not installed.
        """
        return cls._of(from_given(y_true, y_pred, classes=labels, images=images), n_cells, n_images).plot(ax)

    @classmethod
    def from_cv_results(
        cls,
        cv_results: Mapping[str, Any],
        X: Any,
        y: Any = None,
        *,
        images: Any = None,
        n_cells: int = 6,
        n_images: int = 6,
        ax: Any = None,
    ) -> "ConfusionDisplay":
        """Draw out-of-fold predictions of scikit-learn's ``cross_validate``.

        Parameters
        ----------
        cv_results : dict
            Of ``cross_validate(..., return_estimator=True, return_indices=True)``.
        X, y
            What was given to it.
        images, n_cells, n_images, ax
            As in `from_estimator`.

        Returns
        -------
        ConfusionDisplay

        Raises
        ------
        ValueError
            If estimators or indices were not kept, or as of `from_estimator`.
        """
        return cls._of(from_folds(cv_results, X, y, images=images, probabilities=False), n_cells, n_images).plot(ax)

    @classmethod
    def _of(cls, found: Predictions, n_cells: int, n_images: int) -> "ConfusionDisplay":
        matrix = confusion_matrix(found.classes[found.truth], found.classes[found.predicted], found.classes)
        display = cls(matrix, found.names)
        pictures = found.pictures
        if pictures is not None:
            sure = found.probabilities.max(1)
            for true, other in display.largest(n_cells):
                rows = np.flatnonzero((found.truth == true) & (found.predicted == other))
                # The surest mistakes first: they are the ones to look at.
                rows = rows[np.argsort(-sure[rows], kind="stable")]
                display.images[true, other] = _readable([pictures[i] for i in rows.tolist()], n_images)
        return display

    def largest(self, n: int = 6) -> list[Cell]:
        """List the n largest confusions as (true, predicted), the largest first, equal ones by the order of classes."""
        off = self.confusion_matrix.copy()
        np.fill_diagonal(off, 0)
        order = np.argsort(-off, axis=None, kind="stable")[:n]
        cells = (divmod(int(i), len(off)) for i in order)
        return [(true, other) for true, other in cells if off[true, other] > 0]

    def plot(self, ax: Any = None, *, n_classes: int = 20) -> "ConfusionDisplay":
        """Draw the matrix, coloured by the share of each true class, with the images beside it.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw the matrix, without images; None makes a figure with both.
        n_classes : int, default=20
            Draw at most so many classes: those that are in the largest confusions. The title says so.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        chosen = self._most_confused(n_classes)
        side = 2.2 + 0.34 * max(len(chosen), 4)
        cells = [cell for cell in self.largest(len(self.images)) if self.images.get(cell)]
        if ax is None and cells:
            most = max(len(self.images[cell]) for cell in cells)
            figure = new_figure(side + 0.7 * most + 0.3, max(side - 0.4, 1.05 * len(cells)))
            left, right = figure.subplots(1, 2, width_ratios=[side, 0.7 * most + 0.3])
            self._draw_images(right, cells, most)
            ax = left
        elif ax is None:
            ax = new_figure(side, side - 0.4).add_subplot()
        self.ax_, self.figure_ = ax, ax.figure
        self._draw_matrix(ax, chosen)
        return self

    def describe(self) -> str:
        """Say how many are right, and what is confused most often."""
        n, n_classes = int(self.confusion_matrix.sum()), len(self.display_labels)
        right = int(self.confusion_matrix.trace())
        text = f"Confusion matrix of {count(n, 'image')}, {count(n_classes, 'class')}, {right:,} of them right."
        for true, other in self.largest(1):
            names = f"{self.display_labels[true]} is taken for {self.display_labels[other]}"
            text += f" Most often {names}: {self.confusion_matrix[true, other]:,}."
        return text

    def _most_confused(self, n: int) -> list[int]:
        """Choose classes of the largest confusions, in their order."""
        if n < 2:
            raise ValueError(f"expected n_classes of 2 or more. Got {n}.")
        chosen: set[int] = set()
        for cell in self.largest(self.confusion_matrix.size):
            if len(chosen | set(cell)) > n:
                break
            chosen |= set(cell)
        # Without confusions enough, the first classes fill up.
        others = [i for i in range(len(self.display_labels)) if i not in chosen]
        return sorted([*chosen, *others[: n - len(chosen)]])

    def _draw_matrix(self, ax: Any, chosen: Sequence[int]) -> None:
        table = self.confusion_matrix[np.ix_(chosen, chosen)]
        sizes = self.confusion_matrix.sum(1)[chosen]
        shares = table / np.where(sizes > 0, sizes, 1)[:, None]
        ground, full = shades()
        # By the square root, as small shares are what one looks for.
        ax.imshow(np.sqrt(shares), cmap=between(ground, full), vmin=0, vmax=1)
        points = 8 if len(chosen) <= 12 else 6
        for i, j in np.ndindex(table.shape):
            if table[i, j]:
                colour = ground if shares[i, j] > 0.3 else ink()
                ax.text(j, i, f"{table[i, j]:,}", ha="center", va="center", color=colour, fontsize=points)
        names = [plain(short(self.display_labels[i])) for i in chosen]
        slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        ax.set_xticks(range(len(chosen)), names, fontsize=points + 1, **slanted)
        ax.set_yticks(range(len(chosen)), names, fontsize=points + 1)
        ax.set(xlabel="predicted class", ylabel="true class")
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
        if len(chosen) < len(self.display_labels):
            ax.set_title(f"the {len(chosen)} most confused of {len(self.display_labels)} classes", fontsize=9)

    def _draw_images(self, ax: Any, cells: Sequence[Cell], most: int) -> None:
        """Draw a row of images for each confusion, below a line that says which it is."""
        ax.set(xlim=(0, most), ylim=(1.45 * len(cells), 0), aspect="equal")
        ax.set_axis_off()
        for row, (true, other) in enumerate(cells):
            n = int(self.confusion_matrix[true, other])
            names = f"{short(self.display_labels[true])} taken for {short(self.display_labels[other])}"
            ax.text(0.04, 1.45 * row + 0.3, plain(f"{n:,} \N{MULTIPLICATION SIGN} {names}"), fontsize=8, va="bottom")
            draw_tiles(ax, [Tile(one) for one in self.images[true, other]], most, top=1.45 * row + 0.38)


def _readable(items: Sequence[Any], n: int) -> list[Image.Image]:
    """Read the first n images that can be read."""
    found: list[Image.Image] = []
    for item in items:
        if len(found) == n:
            break
        try:
            found.append(small(item, PIXELS))
        except ImageReadError:
            continue
    return found
