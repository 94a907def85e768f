"""Images that a classifier gets wrong, or is least certain of, with what it says of them."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from frofa.displays.drawing import TEXT, Tile, draw_tiles
from frofa.displays.inputs import Predictions, from_classifier, from_folds, from_given
from frofa.exceptions import ImageReadError
from frofa.images.listing import count
from frofa.utils.drawing import RichDisplay, new_figure
from frofa.web.thumbnails import small

Show = Literal["worst", "unsure"]
PIXELS = 224
"""Longer side of the images that are kept."""
TILE = 1.55
"""Inches that a tile is wide."""
CHARACTERS = 28
"""A line of a tile has room for so many."""


@dataclass(frozen=True, eq=False)
class Mistake:
    """An image with what a classifier says of it.

    Attributes
    ----------
    index : int
        Position in the input.
    picture : PIL.Image.Image or None
        None if it cannot be read any more.
    true : str or None
        The label; None where there is none.
    predicted : str
    probability : float
        Of the predicted class.
    possible : tuple of str or None
        The prediction set; None where there is none.
    true_probability : float or None
        Of the label; None where there is none.
    """

    index: int
    picture: Image.Image | None
    true: str | None
    predicted: str
    probability: float
    possible: tuple[str, ...] | None = None
    true_probability: float | None = None


class MistakesDisplay(RichDisplay):
    """The worst or the least certain images, with true and predicted label, probability and prediction set.

    The worst are those whose true class has the least probability; the least certain those whose two most probable
    classes are closest, right or wrong.

    Parameters
    ----------
    mistakes : sequence of Mistake
    show : {"worst", "unsure"}, default="worst"
        Which images these are.
    confidence_level : float, default=None
        Of the prediction sets, if there are some.

    Attributes
    ----------
    mistakes : list of Mistake
    indices : ndarray of int, shape (n_mistakes,)
        Positions of the images in the input.
    ax_, figure_
        Matplotlib's, once drawn.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa import MistakesDisplay
    >>> from frofa.displays.mistakes import Mistake
    >>> display = MistakesDisplay([Mistake(7, None, "boot", "sneaker", 0.93, ("boot", "sneaker"))])
    >>> display.describe()
    'The worst mistakes, 1 image: boot taken for sneaker (93 %).'
    >>> display.plot().figure_.savefig("mistakes.png")  # doctest: +SKIP
    """

    def __init__(self, mistakes: Sequence[Mistake], *, show: Show = "worst", confidence_level: float | None = None):
        _check(show)
        self.mistakes = list(mistakes)
        self.show = show
        self.confidence_level = confidence_level

    @property
    def indices(self) -> npt.NDArray[np.intp]:
        """Positions of the images in the input."""
        return np.array([one.index for one in self.mistakes], np.intp)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        images: Any = None,
        show: Show = "worst",
        n_images: int = 12,
        confidence_level: float | None = 0.9,
        ax: Any = None,
    ) -> "MistakesDisplay":
        """Classify samples, and draw.

        Parameters
        ----------
        estimator, X, y
            As in `ConfusionDisplay.from_estimator`; the classifier has `predict_proba`. Labels are needed for
            ``show="worst"`` alone.
        images : sequence of n images, default=None
            As `FrozenFeatureExtractor` takes them; None shows X, which must be images then.
        show : {"worst", "unsure"}, default="worst"
        n_images : int, default=12
            Show at most so many.
        confidence_level : float or None, default=0.9
            Of prediction sets, of a classifier that has them; None shows none.
        ax : matplotlib Axes, default=None
            As in `plot`.

        Returns
        -------
        MistakesDisplay

        Raises
        ------
        TypeError, ValueError
            As of `ConfusionDisplay.from_estimator`; if there are no probabilities or no images; or if there were too
            few images to fit to for such a confidence level.
        ImportError
            If matplotlib is not installed.
        """
        _check(show)
        found = from_classifier(estimator, X, y, images=images, level=confidence_level, need_labels=show == "worst")
        return cls._of(found, show, n_images, confidence_level).plot(ax)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_proba: Any,
        *,
        images: Any,
        labels: Any = None,
        show: Show = "worst",
        n_images: int = 12,
        ax: Any = None,
    ) -> "MistakesDisplay":
        """Draw predictions that are known.

        Parameters
        ----------
        y_true : array-like of shape (n,)
        y_proba : array-like of shape (n, n_classes)
            Probabilities in the order of `labels`.
        images : sequence of n images
            As `FrozenFeatureExtractor` takes them.
        labels : array-like of shape (n_classes,), default=None
            The classes; None is those that are there, sorted.
        show, n_images, ax
            As in `from_estimator`.

        Returns
        -------
        MistakesDisplay

        Raises
        ------
        ValueError
            If lengths differ, or these are no probabilities.
        ImportError
            If matplotlib is not installed.
        """
        _check(show)
        if np.ndim(y_proba) != 2:
            raise ValueError(f"expected probabilities of shape (n, n_classes). Got {np.ndim(y_proba)} dimensions.")
        return cls._of(from_given(y_true, y_proba, classes=labels, images=images), show, n_images, None).plot(ax)

    @classmethod
    def from_cv_results(
        cls,
        cv_results: Mapping[str, Any],
        X: Any,
        y: Any = None,
        *,
        images: Any = None,
        show: Show = "worst",
        n_images: int = 12,
        confidence_level: float | None = 0.9,
        ax: Any = None,
    ) -> "MistakesDisplay":
        """Draw out-of-fold predictions of scikit-learn's ``cross_validate``, as `ConfusionDisplay` does.

        Other parameters are those of `from_estimator`.
        """
        _check(show)
        found = from_folds(cv_results, X, y, images=images, level=confidence_level)
        return cls._of(found, show, n_images, confidence_level).plot(ax)

    @classmethod
    def _of(cls, found: Predictions, show: Show, n_images: int, level: float | None) -> "MistakesDisplay":
        if found.pictures is None:
            raise ValueError("expected images to show: X that is images, or images=. Got features alone.")
        rows = choose(found.probabilities, found.truth, show)
        names = found.names
        chosen: list[Mistake] = []
        for i in rows.tolist():
            if len(chosen) == n_images:
                break
            try:
                picture = small(found.pictures[i], PIXELS, position=int(found.positions[i]))
            except ImageReadError:
                continue
            best, truth = int(found.predicted[i]), int(found.truth[i])
            possible = None if found.sets is None else tuple(names[j] for j in np.flatnonzero(found.sets[i]))
            true = None if truth < 0 else names[truth]
            probability = float(found.probabilities[i, best])
            given = None if truth < 0 else float(found.probabilities[i, truth])
            chosen.append(Mistake(int(found.positions[i]), picture, true, names[best], probability, possible, given))
        return cls(chosen, show=show, confidence_level=None if found.sets is None else level)

    def plot(self, ax: Any = None, *, n_columns: int = 4) -> "MistakesDisplay":
        """Draw the images in rows.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure of its own.
        n_columns : int, default=4
            Images in a row.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        if n_columns < 1:
            raise ValueError(f"expected n_columns of 1 or more. Got {n_columns}.")
        tiles = [_tile(one) for one in self.mistakes]
        n_lines = max((len(tile.lines) for tile in tiles), default=0)
        height = 1.03 + n_lines * 1.25 * TEXT / 72 / TILE
        n_columns = max(1, min(n_columns, len(tiles)))
        n_rows = -(-len(tiles) // n_columns) or 1
        if ax is None:
            ax = new_figure(max(TILE * n_columns, 4), max(TILE * height * n_rows, 1) + 0.4).add_subplot()
        self.ax_, self.figure_ = ax, ax.figure
        draw_tiles(ax, tiles, n_columns, height=height)
        ax.set(xlim=(0, n_columns), ylim=(n_rows * height, 0), aspect="equal")
        ax.set_axis_off()
        ax.set_title(self._title(), fontsize=10)
        return self

    def describe(self) -> str:
        """List the images by their labels, and say in which order."""
        order = ", the least probable truth first" if self.show == "worst" else ", the closest two classes first"
        order = order if len(self.mistakes) > 1 else ""
        said = "; ".join(_in_words(one) for one in self.mistakes) or "none"
        return f"{self._title()}{order}, {count(len(self.mistakes), 'image')}: {said}."

    def _title(self) -> str:
        return "The worst mistakes" if self.show == "worst" else "The least certain images"


def choose(probabilities: npt.NDArray[np.float64], truth: npt.NDArray[np.intp], show: Show) -> npt.NDArray[np.intp]:
    """Choose the samples to look at, the first ones first.

    Parameters
    ----------
    probabilities : ndarray of shape (n, n_classes)
    truth : ndarray of int, shape (n,)
        Positions of the true classes.
    show : {"worst", "unsure"}
        Wrong ones, by the probability of their true class; or all, by how close the two most probable classes are.

    Returns
    -------
    ndarray of int
        Rows.
    """
    if show == "worst":
        wrong = np.flatnonzero(probabilities.argmax(1) != truth)
        return wrong[np.argsort(probabilities[wrong, truth[wrong]], kind="stable")]
    best = np.sort(probabilities, axis=1)[:, -2:]
    return np.argsort(best[:, -1] - best[:, 0], kind="stable")


def _check(show: str) -> None:
    if show not in ("worst", "unsure"):
        raise ValueError(f"show must be 'worst' or 'unsure'. Got {show!r}.")


def _percent(probability: float) -> str:
    # Few decimals, but for what would be rounded to certainty.
    return f"{100 * probability:.{0 if 0.005 <= probability < 0.995 else 1}f} %"


def _in_words(one: Mistake) -> str:
    share = _percent(one.probability)
    if one.true is None or one.true == one.predicted:
        return f"{one.predicted} ({share})"
    truth = "" if one.true_probability is None else f", the truth {_percent(one.true_probability)}"
    return f"{one.true} taken for {one.predicted} ({share}{truth})"


def _tile(one: Mistake) -> Tile:
    """Put what is said of an image into lines that fit."""
    share = _percent(one.probability).replace(" ", "\N{NO-BREAK SPACE}")
    if one.true is None:
        said, frame = [f"{one.predicted}, {share}"], None
    elif one.true == one.predicted:
        said, frame = [f"right: {one.predicted}, {share}"], "good"
    else:
        said, frame = [f"is {one.true}", f"taken for {one.predicted}, {share}"], "bad"
    if one.possible is not None:
        said.append(f"set: {', '.join(one.possible) or 'empty'}")
    lines = [line for text in said for line in textwrap.wrap(text, CHARACTERS, max_lines=2, placeholder=" …")]
    return Tile(one.picture, lines, frame)
