"""Maps of images: points of similar ones near each other, and thumbnails of some."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import issparse

from frofa.compute.arrays import as_features
from frofa.displays.drawing import class_colours, shades, short
from frofa.displays.embedding import Method, embed
from frofa.displays.inputs import Predictions, from_classifier, from_folds, from_given, pictures_of
from frofa.estimators.core.confident.novelty import rows_of
from frofa.exceptions import ImageReadError
from frofa.images.image_set import ImageSet
from frofa.images.items import ImageItem
from frofa.images.listing import count
from frofa.utils.drawing import RichDisplay, ink, new_figure, plain, whole
from frofa.utils.optional import require
from frofa.web.thumbnails import small

Coordinates = npt.NDArray[np.float32]
AXES = {"pca": "principal component", "umap": "UMAP"}
MOST_SHAPES = 2000
MOST_NAMED = 20
"""Classes that a legend lists."""


class EmbeddingDisplay(RichDisplay):
    """Map of images by their features, coloured by class, with thumbnails of some.

    Parameters
    ----------
    coordinates : array-like of shape (n, 2)
        As `frofa.displays.embedding.embed` makes them.
    labels : array-like of shape (n,), default=None
        Classes, by which points are coloured; None colours all alike.
    right : array-like of bool, shape (n,), default=None
        Whether the prediction of each is right; those that are wrong are crosses.
    images : sequence of n images, default=None
        As `FrozenFeatureExtractor` takes them, for thumbnails; None draws none.
    method : {"pca", "umap"}, default="pca"
        What the coordinates are.
    explained : (float, float), default=None
        Shares of the variance along the axes.

    Attributes
    ----------
    coordinates, labels, right, images, method, explained
        As given, as arrays.
    shown_ : list of int
        The images with a thumbnail, once drawn.
    ax_, figure_
        Matplotlib's, once drawn.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa import EmbeddingDisplay
    >>> features = np.random.default_rng(0).normal(size=(20, 8))
    >>> display = EmbeddingDisplay.from_features(features, ["day", "night"] * 10)  # doctest: +SKIP
    >>> display.figure_.savefig("map.png")  # doctest: +SKIP
    """

    def __init__(
        self,
        coordinates: npt.ArrayLike,
        labels: Any = None,
        *,
        right: npt.ArrayLike | None = None,
        images: Sequence[ImageItem] | None = None,
        method: Method = "pca",
        explained: tuple[float, float] | None = None,
    ):
        self.coordinates: Coordinates = np.asarray(coordinates, np.float32)
        n = len(self.coordinates)
        if self.coordinates.shape != (n, 2) or not np.isfinite(self.coordinates).all():
            raise ValueError(f"expected finite coordinates of shape (n, 2). Got shape {self.coordinates.shape}.")
        self.labels = None if labels is None else np.asarray(labels)
        self.right = None if right is None else np.asarray(right, np.bool_)
        self.images = pictures_of(images, n, given=True)
        for name, values in (("labels", self.labels), ("right", self.right)):
            if values is not None and len(values) != n:
                raise ValueError(f"expected {n} {name}, one for each point. Got {len(values)}.")
        self.method = method
        self.explained = explained

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        images: Any = None,
        method: Method = "pca",
        random_state: int = 0,
        ax: Any = None,
        **options: Any,
    ) -> "EmbeddingDisplay":
        """Map the features from which a classifier predicts, and mark what it gets wrong.

        Parameters
        ----------
        estimator, X, images
            As in `ConfusionDisplay.from_estimator`.
        y : array-like of shape (n,), default=None
            Labels; without them, points have the colour of the predicted class, and none is marked.
        method : {"pca", "umap"}, default="pca"
            As of `frofa.displays.embedding.embed`.
        random_state : int, default=0
            Seed of UMAP.
        ax : matplotlib Axes, default=None
            As in `plot`.
        **options
            Others of `plot`.

        Returns
        -------
        EmbeddingDisplay

        Raises
        ------
        TypeError, ValueError
            As of `ConfusionDisplay.from_estimator`, or if features are no dense numbers.
        ImportError
            If matplotlib is not installed, or UMAP is asked for and not installed.
        """
        given = y is not None or (isinstance(X, ImageSet) and X.labels is not None)
        found = from_classifier(estimator, X, y, images=images, probabilities=False, need_labels=given)
        return cls._of(found, _rows(found.features), method, random_state).plot(ax, **options)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        *,
        features: Any,
        images: Any = None,
        method: Method = "pca",
        random_state: int = 0,
        ax: Any = None,
        **options: Any,
    ) -> "EmbeddingDisplay":
        """Map features (n, D), tokens (n, N, C) or FeatureBlocks, and mark which of the predictions (n,) are wrong."""
        found = from_given(y_true, y_pred, images=images)
        return cls._of(found, _rows(features), method, random_state).plot(ax, **options)

    @classmethod
    def from_features(
        cls,
        features: Any,
        labels: Any = None,
        *,
        images: Any = None,
        method: Method = "pca",
        random_state: int = 0,
        ax: Any = None,
        **options: Any,
    ) -> "EmbeddingDisplay":
        """Map features (n, D), tokens (n, N, C) or FeatureBlocks, of whatever they are."""
        coordinates, explained = embed(_rows(features), method, random_state)
        display = cls(coordinates, labels, images=images, method=method, explained=explained)
        return display.plot(ax, **options)

    @classmethod
    def from_cv_results(
        cls,
        cv_results: Mapping[str, Any],
        X: Any,
        y: Any = None,
        *,
        features: Any,
        images: Any = None,
        method: Method = "pca",
        random_state: int = 0,
        ax: Any = None,
        **options: Any,
    ) -> "EmbeddingDisplay":
        """Map features of all samples, and mark the out-of-fold mistakes of scikit-learn's ``cross_validate``."""
        found = from_folds(cv_results, X, y, images=images, probabilities=False)
        return cls._of(found, _rows(features)[found.positions], method, random_state).plot(ax, **options)

    @classmethod
    def _of(
        cls, found: Predictions, rows: npt.NDArray[np.float64], method: Method, random_state: int
    ) -> "EmbeddingDisplay":
        coordinates, explained = embed(rows, method, random_state)
        labelled = bool((found.truth >= 0).all())
        labels = found.classes[found.truth if labelled else found.predicted]
        right = found.right if labelled else None
        return cls(coordinates, labels, right=right, images=found.pictures, method=method, explained=explained)

    def plot(self, ax: Any = None, *, n_thumbnails: int = 60, thumbnail: float = 0.3) -> "EmbeddingDisplay":
        """Draw the map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure of its own.
        n_thumbnails : int, default=60
            Show at most so many images, none on top of another: mistakes first, the others spread out.
        thumbnail : float, default=0.3
            Longer side of a thumbnail, in inches.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        if ax is None:
            ax = new_figure(7.5, 5.2).add_subplot()
        self.ax_, self.figure_ = ax, ax.figure
        colours = self._draw_points(ax)
        ax.margins(0.06)
        self._label_axes(ax)
        self.shown_ = [] if self.images is None else self._draw_thumbnails(ax, colours, n_thumbnails, thumbnail)
        return self

    def describe(self) -> str:
        """Say what is on the map."""
        text = f"Map of {count(len(self.coordinates), 'image')} by their features ({self.method.upper()})"
        if self.labels is not None:
            text += f", {count(len(set(self.labels.tolist())), 'class')}"
        if self.right is not None:
            text += f", {int((~self.right).sum()):,} of the predictions wrong"
        return f"{text}."

    def _draw_points(self, ax: Any) -> list[Any]:
        """Draw points by class, with a legend, and give the colour of each."""
        n = len(self.coordinates)
        right = np.ones(n, np.bool_) if self.right is None else self.right
        labels = np.zeros(n, np.intp) if self.labels is None else np.array([str(one) for one in self.labels.tolist()])
        classes = np.unique(labels)
        handles = []
        colours = class_colours(len(classes))
        # Thousands of points are pixels, not shapes, in SVG.
        options = {"rasterized": n > MOST_SHAPES}
        for label, colour in zip(classes, colours, strict=True):
            own = labels == label
            at = self.coordinates[own & right]
            handles.append(ax.scatter(at[:, 0], at[:, 1], s=11, color=[colour], alpha=0.75, linewidths=0, **options))
            at = self.coordinates[own & ~right]
            ax.scatter(at[:, 0], at[:, 1], s=24, color=[colour], marker="x", linewidths=1.3, **options)
        names = [plain(short(str(label), 24)) for label in classes]
        if self.labels is None:
            handles, names = [], []
        elif len(classes) > MOST_NAMED:
            handles, names = handles[:MOST_NAMED], [*names[: MOST_NAMED - 1], f"… {len(classes)} classes"]
        if not right.all():
            handles.append(ax.scatter([], [], s=24, color=ink(), marker="x", linewidths=1.3))
            names.append("predicted wrong")
        if handles:
            # A name that begins with an underscore would be left out.
            names = [f" {one}" if one.startswith("_") else one for one in names]
            ax.legend(handles, names, fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)
        return [colours[i] for i in np.searchsorted(classes, labels)]

    def _label_axes(self, ax: Any) -> None:
        for i, set_label in enumerate((ax.set_xlabel, ax.set_ylabel)):
            share = "" if self.explained is None else f" ({100 * self.explained[i]:.0f} % of the variance)"
            set_label(f"{AXES.get(self.method, self.method)} {i + 1}{share}")
        ax.set_xticks([])
        ax.set_yticks([])

    def _draw_thumbnails(self, ax: Any, colours: Sequence[Any], most: int, inches: float) -> list[int]:
        """Draw images at their points, and give their positions."""
        assert self.images is not None
        offsets = require("matplotlib.offsetbox", "plot")
        # In inches, as the axes are drawn: their place is known once the layout is.
        figure = whole(ax.figure)
        figure.draw_without_rendering()
        at = ax.transData.transform(self.coordinates) / figure.dpi
        shown: list[int] = []
        for i in spread(at, self._order(), inches):
            if len(shown) == most:
                break
            try:
                picture = small(self.images[i], round(inches * 144), position=i)
            except ImageReadError:
                continue
            zoom = inches * 72 / max(picture.size)
            image = offsets.OffsetImage(picture, zoom=zoom, interpolation="nearest" if zoom > 1 else "antialiased")
            frame = {"linewidth": 1.2, "edgecolor": colours[i], "facecolor": shades()[0]}
            # Layout is done; thumbnails at the rim must not change it.
            box = offsets.AnnotationBbox(image, self.coordinates[i], pad=0.08, bboxprops=frame)
            box.set_in_layout(False)
            ax.add_artist(box)
            shown.append(i)
        return shown

    def _order(self) -> npt.NDArray[np.intp]:
        """Mistakes first, then the others, each in an order that is the same each time."""
        order = np.random.default_rng(0).permutation(len(self.coordinates))
        return order if self.right is None else order[np.argsort(self.right[order], kind="stable")]


def _rows(features: Any) -> npt.NDArray[np.float64]:
    """Turn features of any kind into one row of length one for each image, (n, D)."""
    if issparse(features):
        raise ValueError("expected dense features. Got a sparse matrix: features.toarray() makes it dense.")
    return rows_of(as_features(features))


def spread(at: npt.NDArray[Any], order: npt.NDArray[np.intp], side: float) -> list[int]:
    """Choose points one after another, each at least `side` from those before, along one of the axes.

    Examples
    --------
    >>> import numpy as np
    >>> spread(np.array([[0.0, 0.0], [0.5, 0.5], [0.2, 2.0]]), np.arange(3), 1.0)
    [0, 2]
    """
    cells: dict[tuple[int, int], list[int]] = {}
    chosen: list[int] = []
    for i in order.tolist():
        x, y = at[i]
        column, row = int(x // side), int(y // side)
        near = (j for dx in (-1, 0, 1) for dy in (-1, 0, 1) for j in cells.get((column + dx, row + dy), ()))
        if all(max(abs(at[j][0] - x), abs(at[j][1] - y)) >= side for j in near):
            cells.setdefault((column, row), []).append(i)
            chosen.append(i)
    return chosen
