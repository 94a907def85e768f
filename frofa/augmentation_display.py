"""Pictures of what augmentations do to an image's tokens, in scikit-learn's Display style."""

import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from sklearn.utils import check_random_state
from torch import Generator, Tensor

from frofa.augmentations import Augmentation, TokenBatch
from frofa.backbones.loading import ImageSize, load_backbone
from frofa.extraction.extractor import FrozenFeatureExtractor
from frofa.images.items import ImageItem
from frofa.images.reading import content, decode
from frofa.utils.drawing import RichDisplay, new_figure
from frofa.utils.optional import require

FloatArray = npt.NDArray[np.float64]
GridLike = tuple[int, int] | Tensor | None

PERCENTILES = (2, 98)
"""Range of each principal component that the colour scale spans, without its headroom."""
HEADROOM = 0.15  # of the colour scale, at either end, for tokens that an augmentation moves out of their range
TITLE_WIDTH = 26  # characters a line


class TokenPicture(NamedTuple):
    """Tokens of one image as colours, on their grid.

    Attributes
    ----------
    rgb : ndarray of shape (h, w, 3)
        In [0, 1].
    hidden : ndarray of bool, shape (h, w), or None
        True where the head does not see the token; None where it sees all.
    """

    rgb: npt.NDArray[np.floating]
    hidden: npt.NDArray[np.bool_] | None = None


class AugmentationDisplay(RichDisplay):
    """Pictures of an image's tokens before and after augmentations, in colours that can be compared.

    The first three principal components of the tokens as they were are red, green and blue, each scaled so that its 2nd
    to 98th percentile goes from 0.15 to 0.85. The same projection and scale are used after each augmentation, so that
    equal colours are equal (projected) tokens; values outside of [0, 1] are clipped.

    Parameters
    ----------
    before : TokenPicture
        The tokens without augmentation.
    after : mapping of str to TokenPicture
        The tokens after each augmentation, by title.
    image : ndarray of shape (H, W, 3), default=None
        The image as the backbone saw it, in [0, 1]; None leaves it out.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        One a picture, in the order drawn; there after `plot`.
    figure_ : matplotlib Figure
        The drawing; there after `plot`.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa.augmentation_display import AugmentationDisplay
    >>> from frofa.augmentations import Brightness, Crop, Rotate
    >>> tokens = np.random.default_rng(0).normal(size=(1, 64, 192))
    >>> display = AugmentationDisplay.from_features(tokens, [Brightness(), Rotate(), Crop()])
    >>> list(display.after), display.before.rgb.shape
    (['Brightness()', 'Rotate()', 'Crop()'], (8, 8, 3))
    >>> display.plot(ncols=2).figure_.savefig("augmentations.png")  # doctest: +SKIP
    """

    def __init__(
        self, before: TokenPicture, after: Mapping[str, TokenPicture], *, image: npt.NDArray[np.floating] | None = None
    ):
        self.before = before
        self.after = after
        self.image = image

    @classmethod
    def from_features(
        cls,
        tokens: npt.NDArray[Any] | Tensor,
        augmentations: Mapping[str, Augmentation] | Sequence[Augmentation],
        *,
        grid: GridLike = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> "AugmentationDisplay":
        """Augment tokens, and colour those of the first image.

        Parameters
        ----------
        tokens : array or Tensor of shape (n, N, C)
            Patch tokens, without class and register tokens. The first image is shown; the others are there for
            augmentations that mix images.
        augmentations : mapping of str to Augmentation, or sequence of Augmentation
            By title; in a sequence, the title is how the augmentation prints. Drawn in this order from one generator:
            the same augmentation given twice shows two draws.
        grid : (int, int) or Tensor of shape (n, 2), default=None
            As in `TokenBatch`; None takes N to be a square.
        random_state : int, RandomState or None, default=0
            Seed of the augmentations' draws.

        Returns
        -------
        AugmentationDisplay

        Raises
        ------
        ValueError
            If tokens do not lie on a grid or are not finite, or an augmentation is given what it cannot take.
        TypeError
            If `augmentations` holds something else.
        """
        # Colours are fitted to the first image's tokens as they are, and used for every picture alike.
        titled = _titled(augmentations)
        batch = _batch(tokens, grid)
        height, width = _first_grid(batch)
        n_tokens = height * width
        colours = _colours(_first(batch.patches, n_tokens))

        def picture(of: TokenBatch) -> TokenPicture:
            rgb = colours(_first(of.patches, n_tokens)).reshape(height, width, 3)
            hidden = None if of.mask is None else ~of.mask[0, :n_tokens].cpu().numpy().reshape(height, width)
            return TokenPicture(rgb, hidden)

        # One generator for all of them, so that the same augmentation given twice shows two draws.
        generator = Generator(batch.patches.device)
        generator.manual_seed(int(check_random_state(random_state).randint(2**31 - 1)))
        after = {}
        for title, augment in titled.items():
            if augment.mixes_labels and len(batch.patches) == 1:
                raise ValueError(
                    f"{augment!r} mixes images: give it others=[...], or the tokens of several. Got one image."
                )
            after[title] = picture(augment(batch, generator))
        return cls(picture(batch), after)

    @classmethod
    def from_image(
        cls,
        image: ImageItem,
        augmentations: Mapping[str, Augmentation] | Sequence[Augmentation],
        *,
        others: Sequence[ImageItem] = (),
        model: str = "frofa/vit_tiny_tin200",
        image_size: ImageSize = None,
        grid: tuple[int, int] | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> "AugmentationDisplay":
        """Extract the tokens of an image, augment and colour them.

        Parameters
        ----------
        image : path, PIL image, or uint8 array (H, W, 3)
        augmentations : mapping of str to Augmentation, or sequence of Augmentation
            As in `from_features`.
        others : sequence of images, default=()
            For augmentations that mix images.
        model, image_size
            As in `FrozenFeatureExtractor`. With an image size larger than the checkpoint's own, the grid is finer and
            the picture easier to read.
        grid : (int, int), default=None
            None takes the grid to have the proportions of the image that the backbone sees.
        random_state : int, RandomState or None, default=0
            Seed of the augmentations' draws.

        Returns
        -------
        AugmentationDisplay
            Its `image` is the one that the backbone saw: resized and cropped.

        Raises
        ------
        ImageReadError, ModelNotFoundError, ValueError
            As in `FrozenFeatureExtractor` and `from_features`.

        Examples
        --------
        >>> import numpy as np
        >>> from frofa.augmentation_display import AugmentationDisplay
        >>> from frofa.augmentations import Brightness
        >>> image = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
        >>> shown = {f"level {level}": Brightness(level, "c2") for level in (0.2, 0.5)}
        >>> display = AugmentationDisplay.from_image(image, shown)
        >>> list(display.after), display.image.shape
        (['level 0.2', 'level 0.5'], (64, 64, 3))
        """
        extractor = FrozenFeatureExtractor(model, image_size=image_size)
        tokens = extractor.transform([image, *others])
        # The picture shows what the backbone sees, whose proportions are those of the grid.
        pixels = _pixels(image, model, image_size)
        grid = grid or _proportional_grid(tokens.shape[1], pixels.shape)
        display = cls.from_features(tokens, augmentations, grid=grid, random_state=random_state)
        display.image = pixels
        return display

    def plot(self, *, ncols: int = 4, figure: Any = None) -> "AugmentationDisplay":
        """Draw the image, the tokens as they were, and those after each augmentation; hidden tokens grey and hatched.

        Parameters
        ----------
        ncols : int, default=4
            Pictures a row.
        figure : matplotlib Figure or SubFigure, default=None
            Where to draw; None makes one.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        if ncols < 1:
            raise ValueError(f"ncols must be at least 1. Got {ncols}.")
        shown = {} if self.image is None else {"image": TokenPicture(self.image)}
        panels = [*shown.items(), ("tokens", self.before), *self.after.items()]
        ncols = min(ncols, len(panels))
        nrows = -(-len(panels) // ncols)
        if figure is None:
            figure = new_figure(1.9 * ncols, 2.2 * nrows)
        # The last row may be longer than its pictures: axes without one stay blank.
        axes = figure.subplots(nrows, ncols, squeeze=False).flatten()
        for ax in axes:
            ax.set_axis_off()
        self.figure_, self.axes_ = figure, axes[: len(panels)]
        for ax, (title, picture) in zip(self.axes_, panels, strict=True):
            ax.set_title(title, fontsize="small")
            _draw(ax, picture)
        return self

    def describe(self) -> str:
        """Say what was done to the tokens."""
        return f"Tokens of an image as colours, as they were and after: {', '.join(map(str, self.after))}."


def _titled(augmentations: object) -> dict[str, Augmentation]:
    titled: dict[str, Any] = {}
    wrong: list[object] = []
    if isinstance(augmentations, Mapping):
        titled.update(augmentations)
    elif isinstance(augmentations, Sequence):
        # Titles are keys: the second augmentation of the same text has its number added.
        seen = Counter[str]()
        for augment in augmentations:
            text = textwrap.fill(" ".join(repr(augment).split()), TITLE_WIDTH, break_long_words=False)
            seen[text] += 1
            titled[text if seen[text] == 1 else f"{text} ({seen[text]})"] = augment
    else:
        wrong = [augmentations]
    wrong += [augment for augment in titled.values() if not isinstance(augment, Augmentation)]
    if wrong:
        raise TypeError(f"expected a mapping of titles to augmentations, or a list of them. Got {wrong[0]!r}.")
    return titled


def _batch(tokens: npt.NDArray[Any] | Tensor, grid: GridLike) -> TokenBatch:
    tokens = tokens.detach() if isinstance(tokens, Tensor) else torch.tensor(np.asarray(tokens))
    if tokens.ndim != 3:
        raise ValueError(
            "expected tokens of shape (n, N, C), as FrozenFeatureExtractor(output='tokens') gives. Got shape "
            f"{tuple(tokens.shape)}."
        )
    if not bool(tokens.isfinite().all()):
        raise ValueError("expected finite tokens. Got NaN or infinity.")
    # Each image is a class of its own (n, n), as augmentations that mix images mix targets, too.
    return TokenBatch.from_tokens(tokens, grid=grid, targets=torch.eye(len(tokens), device=tokens.device))


def _first_grid(batch: TokenBatch) -> tuple[int, int]:
    if batch.grid is None:
        raise ValueError(
            f"a picture needs tokens on a grid. Got {batch.patches.shape[1]} tokens, which are no square: say "
            "grid=(height, width), and leave out class and register tokens."
        )
    height, width = batch.grid[0].tolist() if isinstance(batch.grid, Tensor) else batch.grid
    return height, width


def _first(patches: Tensor, n_tokens: int) -> FloatArray:
    """The tokens of the first image, (N, C)."""
    return patches[0, :n_tokens].double().cpu().numpy()


def _colours(tokens: FloatArray) -> Callable[[FloatArray], FloatArray]:
    """A function from tokens (N, C) to colours (N, 3), by the principal components of `tokens`."""
    mean = tokens.mean(0)
    # The components (3, C) are those of largest variance; fewer tokens or channels leave zeros.
    components = np.linalg.svd(tokens - mean, full_matrices=False)[2][:3]
    # A component's sign is arbitrary; with its largest weight positive, colours are the same on every machine.
    components *= np.sign(components[np.arange(len(components)), np.abs(components).argmax(1)])[:, None]
    components = np.pad(components, ((0, 3 - len(components)), (0, 0)))
    # Each component's percentiles become 0.15 and 0.85, so that its middle is mid-grey.
    low, high = np.percentile((tokens - mean) @ components.T, PERCENTILES, axis=0)
    span = np.where(high - low > 1e-9 * np.abs(tokens).max(), high - low, np.inf)  # no spread: mid-grey
    middle = (low + high) / 2

    def colours(x: FloatArray) -> FloatArray:
        rgb: FloatArray = ((x - mean) @ components.T - middle) / span * (1 - 2 * HEADROOM) + 0.5
        return rgb.clip(0, 1)

    return colours


def _pixels(image: ImageItem, model: str, image_size: ImageSize) -> FloatArray:
    """The image as the backbone sees it, (H, W, 3) in [0, 1]."""
    backbone = load_backbone(model, image_size, "auto")
    upright, geometry = decode(content(image)[0]), backbone.preprocessing.geometry
    if geometry is not None:  # of a very long image, it computes the middle alone
        shown: FloatArray = np.asarray(geometry(upright)) / 255
        return shown
    normalised = backbone.preprocess(upright).permute(1, 2, 0).double().numpy()
    pixels: FloatArray = normalised * backbone.data_config["std"] + backbone.data_config["mean"]
    return pixels.clip(0, 1)


def _proportional_grid(n_tokens: int, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Height and width of the proportions of an image (H, W, 3); None if there is no such grid."""
    # Rows to columns as H to W, and rows * columns = N, give rows = sqrt(N * H / W).
    rows = max(1, round((n_tokens * shape[0] / shape[1]) ** 0.5))
    return (rows, n_tokens // rows) if n_tokens % rows == 0 else None


def _draw(ax: Any, picture: TokenPicture) -> None:
    rgb = np.array(picture.rgb)
    if picture.hidden is None:
        ax.imshow(rgb, interpolation="nearest")
        return
    # Hidden tokens are light grey, and hatched, as tokens may be of that grey by themselves.
    rgb[picture.hidden] = 0.85
    ax.imshow(rgb, interpolation="nearest")
    rectangle = require("matplotlib.patches", "plot").Rectangle
    squares = [rectangle((x - 0.5, y - 0.5), 1, 1) for y, x in np.argwhere(picture.hidden)]
    collection = require("matplotlib.collections", "plot").PatchCollection
    ax.add_collection(collection(squares, hatch="//////", facecolor="none", edgecolor="0.6", linewidth=0))
