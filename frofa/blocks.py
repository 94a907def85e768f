"""Features of several outputs and views of the same images, by name."""

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt

from frofa.ragged import RaggedTokens, image_positions

Array = npt.NDArray[Any]


class FeatureBlocks:
    """Named blocks of features of the same images, each of one view or of several.

    This is what `frofa.FrozenFeatureExtractor` returns for several outputs (``output="auto"`` or a list) or several
    views (`n_views`). It is indexed by images, as scikit-learn's splitters and searches do: a slice, positions or a
    mask give FeatureBlocks of these images with all of their blocks and views, so that views of one image always stay
    together. Where an array is wanted, as by scikit-learn's own estimators, it is one: ``np.asarray(blocks)`` has the
    vector blocks side by side, each averaged over its views.

    Parameters
    ----------
    blocks : mapping of str to sequence of array-like
        For each block its views, the plain image first: vectors (n, C), or tokens (n, N, C), which may be lazy as those
        of a store are, or RaggedTokens. All blocks have the same images and the same number of views.

    Attributes
    ----------
    names : tuple of str
        All blocks, in order.
    vectors : tuple of str
        Blocks of vectors (n, C).
    tokens : tuple of str
        Blocks of tokens (n, N, C).
    n_views : int
        Views of each image.
    shape : tuple of int
        That of ``np.asarray(blocks)``: (n, sum of the channels of vector blocks), or (n, N, C) of the first block where
        there are tokens alone.
    ndim : int
    dtype : dtype

    Raises
    ------
    ValueError
        If there is no block or no view, or if blocks differ in their images or number of views.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa import FeatureBlocks
    >>> plain, mirrored = np.zeros((4, 2)), np.ones((4, 2))
    >>> blocks = FeatureBlocks({"pooled": [plain, mirrored], "mean": [plain, plain]})
    >>> blocks
    FeatureBlocks(4 images, 2 views, pooled: 2 channels, mean: 2 channels)
    >>> np.asarray(blocks[:1])
    array([[0.5, 0.5, 0. , 0. ]])
    >>> blocks.block("pooled").shape, blocks.select(["mean"], n_views=1).shape
    ((4, 2, 2), (4, 2))
    """

    def __init__(self, blocks: Mapping[str, Sequence[Any]]):
        self._views = {str(name): tuple(views) for name, views in blocks.items()}
        _check(self._views)
        self.names = tuple(self._views)
        self.vectors = tuple(name for name in self.names if self._views[name][0].ndim == 2)
        self.tokens = tuple(name for name in self.names if self._views[name][0].ndim == 3)
        self.n_views = len(self._views[self.names[0]])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of ``np.asarray(self)``."""
        if self.vectors:
            return len(self), sum(self.widths.values())
        shape: tuple[int, ...] = tuple(self._views[self.names[0]][0].shape)
        return shape

    ndim = property(lambda self: len(self.shape))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of ``np.asarray(self)``."""
        names = self.vectors or self.names[:1]
        return np.result_type(*(view.dtype for name in names for view in self._views[name]))

    @property
    def widths(self) -> dict[str, int]:
        """Channels of each vector block, in the order in which ``np.asarray(self)`` has them."""
        return {name: int(self._views[name][0].shape[1]) for name in self.vectors}

    def views(self, name: str) -> tuple[Any, ...]:
        """Give the views of a block as they are, lazy ones not read: `n_views` features of all images."""
        if name not in self._views:
            raise KeyError(f"expected one of the blocks {', '.join(self.names)}. Got {name!r}.")
        return self._views[name]

    def block(self, name: str) -> Array:
        """Read all views of a block, in its own dtype: (n, n_views, C), or (n, n_views, N, C) of tokens."""
        return np.stack([np.asarray(view) for view in self.views(name)], axis=1)

    def select(self, names: Iterable[str] | None = None, *, n_views: int | None = None) -> "FeatureBlocks":
        """Choose blocks by name, in this order, and the first `n_views` views; None keeps all."""
        chosen = self.names if names is None else tuple(names)
        most = self.n_views if n_views is None else n_views
        if not 1 <= most <= self.n_views:
            raise ValueError(f"expected n_views of 1 to {self.n_views}. Got {n_views}.")
        return FeatureBlocks({name: self.views(name)[:most] for name in chosen})

    def feature_names(self) -> list[str]:
        """Name the columns of ``np.asarray(self)``: block and channel, such as ``"mean_0"``."""
        return [f"{name}_{channel}" for name, width in self.widths.items() for channel in range(width)]

    def _digested(self) -> dict[str, list[Any]]:
        """Parts that a digest is made of: views as they are, lazy ones by what they say of themselves."""
        return {
            name: [view._digested() if hasattr(view, "_digested") else view for view in views]
            for name, views in self._views.items()
        }

    def __len__(self) -> int:
        return len(self._views[self.names[0]][0])

    def __repr__(self) -> str:
        shapes = (f"{name}: {_described(views[0])}" for name, views in self._views.items())
        many = "view" if self.n_views == 1 else "views"
        return f"FeatureBlocks({len(self)} images, {self.n_views} {many}, {', '.join(shapes)})"

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("FeatureBlocks are put together in a new array: copy=False is not possible.")
        if not self.vectors:
            return np.asarray(self._views[self.names[0]][0], dtype)
        # Side by side, (n, sum of C).
        wanted = self.dtype if dtype is None else dtype
        return np.concatenate([_average(self._views[name]) for name in self.vectors], axis=1).astype(wanted, copy=False)

    def __getitem__(self, item: Any) -> Any:
        rows, *others = item if isinstance(item, tuple) else (item,)
        whole = all(other is Ellipsis or (isinstance(other, slice) and other == slice(None)) for other in others)
        if isinstance(rows, Integral) or not whole:
            return np.asarray(self)[item]
        if rows is Ellipsis:
            return self
        # Lists of positions and masks in any container; features of every kind take arrays and slices.
        chosen = rows if isinstance(rows, slice) else image_positions(rows, len(self))
        return FeatureBlocks({name: [view[chosen] for view in views] for name, views in self._views.items()})


def _check(blocks: Mapping[str, tuple[Any, ...]]) -> None:
    if not blocks:
        raise ValueError("expected at least one block. Got none.")
    for name, views in blocks.items():
        for view in views:
            if getattr(view, "ndim", 0) not in (2, 3):
                shape = getattr(view, "shape", None)
                raise ValueError(f"block {name!r} needs features (n, C) or tokens (n, N, C). Got shape {shape}.")
        if not views or any(
            view.shape[1:] != views[0].shape[1:] for view in views if not isinstance(view, RaggedTokens)
        ):
            raise ValueError(
                f"block {name!r} needs one view or more, all of one shape. Got {[view.shape for view in views]}."
            )
    sizes = {name: (len(views[0]), len(views)) for name, views in blocks.items()}
    counts = {len(view) for views in blocks.values() for view in views}
    if len(counts) > 1 or len({n_views for _, n_views in sizes.values()}) > 1:
        listed = ", ".join(f"{name} {n} x {n_views}" for name, (n, n_views) in sizes.items())
        raise ValueError(f"blocks need the same images and views. Got images x views: {listed}.")


def _average(views: Sequence[Any]) -> Array:
    """Average views (n, C), of which there may be many halves, in float64; lazy ones are read one after another."""
    if len(views) == 1:
        return np.asarray(views[0])
    total = np.array(views[0], np.float64)
    for view in views[1:]:
        total += np.asarray(view)
    return total / len(views)


def _described(view: Any) -> str:
    return f"{view.shape[1]} channels" if view.ndim == 2 else f"{view.shape[1]} x {view.shape[2]} tokens"
