"""Attention of token heads over images, in scikit-learn's Display style."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from frofa.displays.attention.captions import captions_of, draw_picture
from frofa.displays.attention.looking import Grid, Maps, laid_out
from frofa.displays.attention.overlay import enlarged, overlay, said
from frofa.displays.attention.pictures import as_given
from frofa.displays.attention.sources import look, look_by_folds
from frofa.images.image_set import as_image_list
from frofa.images.items import Images
from frofa.images.listing import count
from frofa.utils.drawing import RichDisplay, new_figure

Head = int | Literal["mean", "each"]
Order = Literal["given", "focused"]
CELL = 1.8
"""Inches from one picture to the next."""
ROW = 1.3
"""Height of a row in units of that, with two lines of text."""


class AttentionDisplay(RichDisplay):
    """Heat maps of what a token head looks at, over images as the backbone saw them.

    Parameters
    ----------
    pictures : sequence of n PIL images
        What the grid of tokens covers, whole: images after the backbone's resizing and cropping. Those that
        `from_estimator` makes are read from their files when they are drawn.
    attention : sequence of n arrays of shape (n_maps, rows, columns)
        For each image a map for each attention head (or slot) over its grid of patches. Weights are not negative; those
        of a map add up to 1, or less where class and register tokens take the rest.
    captions : sequence of n str, default=None
        What is written above the images.
    name : str, default=""
        The head, for the title.
    maps : str, default="attention head"
        What one of the maps is.

    Attributes
    ----------
    focus_ : ndarray of float64, shape (n,)
        The largest weight of a patch in units of the mean one, of the map in which it is largest: 1 is an even look
        at all of the image. ``order="focused"`` sorts by it.
    shown_ : ndarray of int
        Positions of the images that were drawn.
    ax_, figure_
        Matplotlib's, once drawn.

    Notes
    -----
    Attention says which tokens a head reads, not what it makes of them. Tokens have seen the whole image through the
    backbone before, and those of a convolutional network a part around their place. Heads that start at fresh weights
    (``init="random"``) and see few images often look nearly evenly at all tokens, which the maps then say.

    Examples
    --------
    >>> import numpy as np
    >>> from PIL import Image
    >>> from frofa import AttentionDisplay
    >>> images = [Image.new("RGB", (64, 64)), Image.new("RGB", (96, 64))]
    >>> weights = [np.full((2, 4, 4), 1 / 16), np.full((2, 4, 6), 1 / 24)]
    >>> AttentionDisplay(images, weights).focus_.tolist()
    [1.0, 1.0]
    >>> AttentionDisplay(images, weights).plot().figure_.savefig("attention.png")  # doctest: +SKIP
    """

    def __init__(
        self,
        pictures: Sequence[Image.Image],
        attention: Sequence[Any],
        *,
        captions: Sequence[str] | None = None,
        name: str = "",
        maps: str = "attention head",
    ):
        self.pictures = pictures
        self.attention: list[Maps] = [np.asarray(one, np.float32) for one in attention]
        self.captions, self.name, self.maps = captions, name, maps
        for one in self.attention:
            if one.ndim != 3 or 0 in one.shape or not (one >= 0).all():
                raise ValueError(
                    f"expected weights of shape (n_maps, rows, columns), none of them negative. Got shape {one.shape}, "
                    f"from {one.min(initial=0):.3g}."
                )
        lengths = {len(pictures), len(self.attention)} | ({len(captions)} if captions is not None else set())
        if len(lengths) > 1 or not self.attention:
            raise ValueError(f"expected as many pictures, weights and captions, one at least. Got {sorted(lengths)}.")
        self.focus_ = np.array([_focus(one) for one in self.attention])

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        images: Images = None,
        grid: Grid | None = None,
        member: str | None = None,
        head: Head = "mean",
        n_images: int = 6,
        order: Order = "given",
        ax: Any = None,
    ) -> "AttentionDisplay":
        """Look at images through a fitted classifier, and draw.

        Parameters
        ----------
        estimator : classifier
            Fitted: an ``ImageClassifier(effort="high")``, a Pipeline of a `FrozenFeatureExtractor` and a head on
            tokens, or such a head by itself: `MAPClassifier`, `SoftMoEClassifier`, or a `FewShotClassifier` of these.
        X : images, or features of these
            Images for classifiers that take images; tokens of any kind for a head by itself.
        y : array-like of shape (n,), default=None
            True labels, which captions of wrong predictions name; None takes those of an ImageSet, if there are some.
        images : list or column of paths, list of PIL images, uint8 array (n, H, W, 3), or ImageSet, default=None
            The pictures of features. They are shown whole: crop them first if the backbone saw less.
        grid : (int, int), default=None
            Rows and columns of the tokens of features; None takes the head's own, else a square.
        member : str, default=None
            Member of a blend, such as ``"map brightness 0.3"``; None is the token head that counts most.
        head, n_images, order, ax
            As in `plot`.

        Returns
        -------
        AttentionDisplay

        Raises
        ------
        TypeError
            If there is no head that looks at tokens.
        ValueError
            If none of a blend's counts, pictures of features are missing, or the grid is not that of the tokens.
        """
        looking, found, pictures, weights = look(estimator, X, y, images, grid, member)
        display = cls(pictures, weights, captions=captions_of(found), name=looking.name, maps=looking.maps)
        return display.plot(ax, head=head, n_images=n_images, order=order)

    @classmethod
    def from_predictions(
        cls,
        images: Images,
        attention: Any,
        *,
        grid: Grid | None = None,
        n_prefix: int = 0,
        captions: Sequence[str] | None = None,
        name: str = "",
        maps: str = "attention head",
        head: Head = "mean",
        n_images: int = 6,
        order: Order = "given",
        ax: Any = None,
    ) -> "AttentionDisplay":
        """Draw weights that are known already.

        Parameters
        ----------
        images : list or column of paths, list of PIL images, uint8 array (n, H, W, 3), or ImageSet
            Shown whole.
        attention : array-like of shape (n, n_maps, N) or list of n arrays (n_maps, N_i) or (n_maps, rows, columns)
            What a head's `attention` returns, or maps.
        grid : (int, int), default=None
            Rows and columns; None takes a square.
        n_prefix : int, default=0
            Class and register tokens before the others, which are no patches.
        captions, name, maps
            As in the constructor.
        head, n_images, order, ax
            As in `plot`.

        Returns
        -------
        AttentionDisplay
        """
        arrays = [np.asarray(one, np.float32) for one in attention]
        weights = [one if one.ndim == 3 else laid_out(one, n_prefix, grid) for one in arrays]
        display = cls(as_given(as_image_list(images)), weights, captions=captions, name=name, maps=maps)
        return display.plot(ax, head=head, n_images=n_images, order=order)

    @classmethod
    def from_cv_results(
        cls,
        cv_results: Any,
        X: Any,
        y: Any = None,
        *,
        images: Images = None,
        grid: Grid | None = None,
        head: Head = "mean",
        n_images: int = 6,
        order: Order = "given",
        ax: Any = None,
    ) -> "AttentionDisplay":
        """Look at each image through the classifier of a cross-validation that did not see it, and draw.

        Parameters
        ----------
        cv_results : dict
            What scikit-learn's ``cross_validate(..., return_estimator=True, return_indices=True)`` returned.
        X, y, images, grid
            As in `from_estimator`; X as it was cross-validated.
        head, n_images, order, ax
            As in `plot`.

        Returns
        -------
        AttentionDisplay
            Images come in the order of X; those that were in no test part are left out.
        """
        pictures, weights, captions, looking = look_by_folds(cv_results, X, y, images, grid)
        display = cls(pictures, weights, captions=captions, name=looking.name, maps=looking.maps)
        return display.plot(ax, head=head, n_images=n_images, order=order)

    def plot(
        self, ax: Any = None, *, head: Head = "mean", n_images: int = 6, order: Order = "given"
    ) -> "AttentionDisplay":
        """Draw images beside what the head looks at.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure of its own.
        head : "mean", "each" or int, default="mean"
            The mean over the maps, under each image; all maps, in a row for each image; or the map of one attention
            head (or slot), from 0.
        n_images : int, default=6
            Images at most.
        order : {"given", "focused"}, default="given"
            The first images, or those in which some map has the largest weight.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If an image has no such map, or another parameter is wrong.
        """
        if order not in ("given", "focused") or n_images < 1:
            raise ValueError(f"expected order 'given' or 'focused', and images. Got {order!r}, n_images={n_images}.")
        ranked = np.argsort(-self.focus_, kind="stable") if order == "focused" else np.arange(len(self.focus_))
        self.shown_: npt.NDArray[np.intp] = ranked[:n_images]
        rows = [self._cells(int(i), head) for i in self.shown_]
        # An image beside its maps, in a row; with one map, an image above its map, in a column.
        cells = rows if head == "each" else [list(column) for column in zip(*rows, strict=True)]
        n_rows, n_columns = len(cells), max(map(len, cells))
        if ax is None:
            ax = new_figure(CELL * n_columns + 0.2, CELL * ROW * n_rows + 0.4).add_subplot()
        self.ax_, self.figure_ = ax, ax.figure
        for down, row in enumerate(cells):
            for right, (picture, caption) in enumerate(row):
                draw_picture(ax, picture, caption, right, -down * ROW)
        ax.set(xlim=(-0.03, n_columns - 0.03), ylim=(-ROW * n_rows + ROW - 1, ROW - 1), aspect="equal")
        ax.set_axis_off()
        if self.name:
            ax.set_title(f"attention of {self.name}", fontsize=10)
        return self

    def describe(self) -> str:
        """Say which images are drawn, and how evenly the head looks at them."""
        shown = getattr(self, "shown_", np.arange(len(self.focus_)))
        of = f" of {self.name}" if self.name else ""
        return (
            f"Attention{of} over {count(len(shown), 'image')}: the most that a patch gets in one of the maps is "
            f"{self.focus_[shown].min():.1f} to {self.focus_[shown].max():.1f} times an even share."
        )

    def _cells(self, i: int, head: Head) -> list[tuple[Image.Image, str]]:
        """Make the picture of an image, and those of its maps, with what is written above."""
        picture, weights = self.pictures[i], self.attention[i]
        caption = f"image {i + 1}" if self.captions is None else self.captions[i]
        mean = weights.mean(0)
        if head == "each":
            chosen = [(f"mean\n{said(mean)}", mean)]
            chosen += [(f"{self.maps} {k}\n{said(one)}", one) for k, one in enumerate(weights)]
        elif head == "mean":
            chosen = [(said(mean), mean)]
        else:
            if not -len(weights) <= head < len(weights):
                raise ValueError(f"expected one of {len(weights)} maps, 'mean' or 'each'. Got head={head!r}.")
            chosen = [(f"{self.maps} {head}\n{said(weights[head])}", weights[head])]
        return [(enlarged(picture), caption), *((overlay(picture, one), text) for text, one in chosen)]


def _focus(weights: Maps) -> float:
    """Give the largest weight of a map in units of the mean one, of the map of which it is largest."""
    means = np.maximum(weights.mean((1, 2), dtype=np.float64), np.finfo(np.float64).tiny)
    return float((weights.max((1, 2)) / means).max())
