"""Heat maps of words over images, in scikit-learn's Display style."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from frofa.displays.attention import enlarged, overlay
from frofa.displays.attention.captions import captions_of, draw_picture
from frofa.displays.looking_at_words import Maps, extractor_of, heat_of, words_of
from frofa.estimators.text.embeddings import class_texts
from frofa.extraction.extractor import FrozenFeatureExtractor
from frofa.images.image_set import as_image_list
from frofa.images.items import ImageItem, Images
from frofa.images.listing import count
from frofa.texts.extractor import FrozenTextExtractor
from frofa.utils.drawing import RichDisplay, new_figure

CELL = 1.8
"""Inches from one picture to the next."""
ROW = 1.3
"""Height of a row in units of that, with two lines of text."""
TINY = float(np.finfo(np.float64).tiny)


class WordsDisplay(RichDisplay):
    """Heat maps of words over images: which patches an image-text model finds them in.

    The heat of a patch is its share of what speaks for the text: the vector of an image is a sum over its patches,
    weighed by the model's last attention, and each of them adds to the score for a text, or takes from it.

    Parameters
    ----------
    pictures : sequence of n PIL images
        What the grid of patches covers, whole: images after the backbone's resizing and cropping.
    heat : sequence of n arrays of shape (m, rows, columns)
        Of each image, the heat of m texts over its patches; not negative.
    texts : sequence of m str, or of n such sequences
        The texts, the same for all images or each image's own.
    captions : sequence of n str, default=None
        What is written above the images.

    Attributes
    ----------
    focus_ : list of n arrays of float64, shape (m,)
        The largest heat of a patch in units of the mean one.
    shown_ : ndarray of int
        Positions of the images that were drawn.
    ax_, figure_
        Matplotlib's, once drawn.

    Notes
    -----
    Patches have seen the whole image through the backbone before, so that the heat of an object spreads beyond it; and
    the model was trained to compare whole images with texts, not patches. A map says where in an image words are found
    more than elsewhere, not whether they are true of it: for that, see the probabilities.

    References
    ----------
    ``method="score"``: Zhao et al., "Gradient-based visual explanation for transformer-based CLIP", ICML 2024, here
    with the model's own attention as weights. ``method="patches"``: Zhou, Loy and Dai, "Extract free dense labels from
    CLIP", ECCV 2022 (arXiv:2112.01071).

    Examples
    --------
    >>> import numpy as np
    >>> from PIL import Image
    >>> from frofa import WordsDisplay
    >>> display = WordsDisplay([Image.new("RGB", (64, 64))], [np.eye(4)[None]], ["a bird"])
    >>> display.focus_[0].tolist()
    [4.0]
    >>> display.plot().figure_.savefig("words.png")  # doctest: +SKIP
    """

    def __init__(
        self,
        pictures: Sequence[Image.Image],
        heat: Sequence[Any],
        texts: Sequence[Any],
        *,
        captions: Sequence[str] | None = None,
    ):
        self.pictures, self.captions, self._n_given = pictures, captions, len(pictures)
        self.heat: list[Maps] = [np.asarray(one, np.float32) for one in heat]
        own = bool(len(texts)) and not isinstance(texts[0], str)
        self.texts = [list(one) for one in texts] if own else [list(texts) for _ in self.heat]
        self._check()
        self.focus_ = [one.max((1, 2)) / np.maximum(one.mean((1, 2), dtype=np.float64), TINY) for one in self.heat]

    def _check(self) -> None:
        lengths = {len(self.pictures), len(self.heat), len(self.texts)}
        lengths |= {len(self.captions)} if self.captions is not None else set()
        if len(lengths) > 1 or not self.heat:
            raise ValueError(
                f"expected as many pictures, maps, texts and captions, one at least. Got {sorted(lengths)}."
            )
        for one, texts in zip(self.heat, self.texts, strict=True):
            if one.ndim != 3 or 0 in one.shape or len(one) != len(texts) or not (one >= 0).all():
                raise ValueError(
                    f"expected heat of shape ({len(texts)}, rows, columns), a map for each text, nowhere negative. "
                    f"Got shape {one.shape}, from {one.min(initial=0):.3g}."
                )

    @classmethod
    def from_texts(
        cls,
        model: str | FrozenFeatureExtractor,
        images: Images,
        texts: Sequence[str],
        *,
        text: Any = None,
        templates: Any = "{}",
        method: Literal["score", "patches"] = "score",
        n_images: int = 6,
        ax: Any = None,
    ) -> "WordsDisplay":
        """Look for texts in images, and draw.

        Parameters
        ----------
        model : str or FrozenFeatureExtractor
            A backbone that was trained with texts: a vision transformer with an attention-pooling head (SigLIP), a
            class token (CLIP), or an average of patches. Of an extractor, `image_size`, `background` and `device`
            count.
        images : list or column of paths, list of PIL images, uint8 array (n, H, W, 3), or ImageSet
        texts : sequence of m str, or str
        text : FrozenTextExtractor or another object with `transform`, or array of shape (m, D), default=None
            What embeds the texts; None is the text tower of `model`.
        templates : "auto", str or iterable of str, default="{}"
            Captions that the texts are put into, as of `ZeroShotClassifier`; by default they are taken as they are.
            Names of classes are found better in ``"auto"``.
        method : {"score", "patches"}, default="score"
            ``"score"`` shares out what speaks for the text in the vector of the whole image; ``"patches"`` compares
            each patch by itself, as if the model saw no other in its last attention, and takes the softmax over patches
            of the model's scale times the cosine. The former found objects more often (``benchmarks/words_where.py``).
        n_images, ax
            As in `plot`.

        Returns
        -------
        WordsDisplay

        Raises
        ------
        ValueError
            If the model has no patches that can be compared with texts.
        ModelNotFoundError
            If it has no text tower.
        """
        if method not in ("score", "patches"):
            raise ValueError(f"expected method 'score' or 'patches'. Got {method!r}.")
        _check_number(n_images)
        texts = [texts] if isinstance(texts, str) else list(texts)
        extractor = extractor_of(model)
        embedder = FrozenTextExtractor(extractor.model, device=extractor.device) if text is None else text
        # As classes that are called by their own texts, in the order in which they came.
        found = class_texts(np.arange(len(texts)), texts, embedder, templates)
        every = as_image_list(images)
        items = every[:n_images]
        pictures, maps = heat_of(extractor, items, found.embeddings, found.scale, method)
        display = cls(pictures, maps, texts, captions=[_caption(item, i) for i, item in enumerate(items)])
        display._n_given = len(every)
        return display.plot(ax, n_images=n_images)

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any = None, *, images: Images = None, n_images: int = 6, ax: Any = None
    ) -> "WordsDisplay":
        """Look for the words of the predicted classes in images, and draw; of wrong predictions, also of the true ones.

        Parameters
        ----------
        estimator : classifier
            Fitted: an ``ImageClassifier(prior="text")``, or a Pipeline of a `FrozenFeatureExtractor` and a
            `ZeroShotClassifier` or a head with ``prior="text"``.
        X : images
        y : array-like of shape (n,), default=None
            True labels; None takes those of an ImageSet, if there are some.
        images : images, default=None
            The pictures, where X is something else.
        n_images, ax
            As in `plot`.

        Returns
        -------
        WordsDisplay

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        TypeError
            If it knows no words.
        ValueError
            If X are features, or the model has no patches that can be compared with texts.
        """
        _check_number(n_images)
        known = words_of(estimator, X, y, images)
        found, shown = known.found, slice(0, n_images)
        assert found.pictures is not None  # or words_of had refused
        # Of each image, the predicted class, and the true one, which is the same where it is not known.
        best, truth = found.predicted[shown], found.truth[shown]
        pairs = np.stack([best, np.where(truth < 0, best, truth)], 1)
        pictures, maps = heat_of(known.extractor, found.pictures[shown], known.vectors[pairs], known.scale)
        chosen = [list(dict.fromkeys(pair)) for pair in pairs.tolist()]
        display = cls(
            pictures,
            [one[: len(classes)] for one, classes in zip(maps, chosen, strict=True)],
            [[found.names[i].replace("_", " ") for i in classes] for classes in chosen],
            captions=captions_of(found)[shown],
        )
        display._n_given = len(found.predicted)
        return display.plot(ax, n_images=n_images)

    def plot(self, ax: Any = None, *, n_images: int = 6) -> "WordsDisplay":
        """Draw images beside the heat of each text.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure of its own.
        n_images : int, default=6
            Images at most.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If no image is to be drawn.
        """
        _check_number(n_images)
        self.shown_: npt.NDArray[np.intp] = np.arange(len(self.heat))[:n_images]
        rows = [self._cells(int(i)) for i in self.shown_]
        # Beside its maps in a row; of one text, all images in a row above their maps.
        cells = [list(column) for column in zip(*rows, strict=True)] if max(map(len, rows)) == 2 else rows
        n_rows, n_columns = len(cells), max(map(len, cells))
        if ax is None:
            ax = new_figure(CELL * n_columns + 0.2, CELL * ROW * n_rows + 0.2).add_subplot()
        self.ax_, self.figure_ = ax, ax.figure
        for down, row in enumerate(cells):
            for right, (picture, caption) in enumerate(row):
                draw_picture(ax, picture, caption, right, -down * ROW)
        ax.set(xlim=(-0.03, n_columns - 0.03), ylim=(-ROW * n_rows + ROW - 1, ROW - 1), aspect="equal")
        ax.set_axis_off()
        return self

    def describe(self) -> str:
        """Say which images and texts are drawn, and how much of the heat a patch has."""
        shown = [self.focus_[i] for i in getattr(self, "shown_", range(len(self.focus_)))]
        texts = list(dict.fromkeys(text for one in self.texts for text in one))
        named = ", ".join(f"“{text}”" for text in texts[:5]) + (f" and {len(texts) - 5} more" if len(texts) > 5 else "")
        values = np.concatenate(shown)
        ends = list(dict.fromkeys(f"{value:.1f}" for value in (values.min(), values.max())))
        given = count(self._n_given, "image")
        images = given if len(shown) == self._n_given else f"the first {len(shown)} of {given}"
        return f"Heat of {named} over {images}: the most that a patch has is {' to '.join(ends)} times the mean."

    def _cells(self, i: int) -> list[tuple[Image.Image, str]]:
        """Make the picture of an image, and those of its maps, with what is written above."""
        picture = self.pictures[i]
        caption = f"image {i + 1}" if self.captions is None else self.captions[i]
        maps = zip(self.texts[i], self.heat[i], strict=True)
        return [(enlarged(picture), caption), *((overlay(picture, one), f"{text}\n{_most(one)}") for text, one in maps)]


def _check_number(n_images: int) -> None:
    if n_images < 1:
        raise ValueError(f"expected one image or more. Got n_images={n_images}.")


def _caption(item: ImageItem, position: int) -> str:
    """The name of an image's file, where it has one."""
    return Path(os.fsdecode(item)).name if isinstance(item, (str, os.PathLike)) else f"image {position + 1}"


def _most(heat: Maps) -> str:
    """Say how hot the hottest patch of a map (rows, columns) is."""
    mean = float(heat.mean(dtype=np.float64))
    return f"up to {heat.max() / mean:.1f} times the mean" if mean > 0 else "nowhere"
