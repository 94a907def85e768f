"""Augmentations that show a part of the tokens: crops, with and without resizing, and patch dropout."""

import math
from numbers import Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval
from torch import Generator

from frofa.augmentations.base import Augmentation, Params, uniform
from frofa.augmentations.batch import TokenBatch
from frofa.augmentations.ops.resample import bilinear_taps, places, resample

FRACTION = [Interval(Real, 0, 1, closed="right")]


class Crop(Augmentation):
    """Show the head only a random window of the grid, of whole tokens; attention pooling takes any number of them.

    Nothing is moved or copied: the mask of the result says which tokens there are.

    Parameters
    ----------
    min_side : float, default=0.5
        The side of the window is drawn from U(min_side, 1), as a part of the grid's, and rounded to tokens, one at
        least. 1 is the identity. Its range is our choice.

    References
    ----------
    Bär et al., CVPR 2024, section 4; big_vision's ``random_crop``.

    Examples
    --------
    >>> import torch
    >>> from frofa.augmentations import Crop, TokenBatch
    >>> generator = torch.Generator().manual_seed(0)
    >>> batch = TokenBatch.from_tokens(torch.randn(2, 64, 192, generator=generator))
    >>> Crop(min_side=0.5)(batch, generator).mask.sum(1).tolist()
    [16, 25]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"min_side": FRACTION}
    recordable = True
    strength = ("min_side", 1.0, 0.1)

    def __init__(self, min_side: float = 0.5):
        self.min_side = min_side

    def make_params(self, batch: TokenBatch, /, generator: Generator) -> Params:
        """Draw ``{"side", "top", "left"}``, each of shape (n, 1); places as a part of the room there is."""
        return _draw_window(batch, generator, self.min_side)

    def transform(self, batch: TokenBatch, /, params: Params) -> TokenBatch:
        """Hide the tokens outside of the window."""
        # Sides of the windows in whole tokens, (n, 1).
        at = places(batch, self)
        height = (params["side"] * at.height).round().clamp(min=1)
        width = (params["side"] * at.width).round().clamp(min=1)
        # floor of U(0, room + 1): each of the places alike; the largest random value may round up to room + 1
        top = torch.minimum((params["top"] * (at.height - height + 1)).floor(), at.height - height)
        left = torch.minimum((params["left"] * (at.width - width + 1)).floor(), at.width - width)
        inside = (at.rows >= top) & (at.rows < top + height) & (at.columns >= left) & (at.columns < left + width)
        return batch.replace(mask=_both(batch.mask, inside))


class ResizedCrop(Augmentation):
    """Stretch a random square window of the grid to the whole of it.

    Parameters
    ----------
    min_side : float, default=0.5
        The side of the window is drawn from U(min_side, 1), as a part of the grid's; windows lie anywhere, not only on
        whole tokens. 1 is the identity. Its range is our choice.

    Notes
    -----
    Tokens between places are bilinear; at the window's border, they come from within the window and its neighbours.

    References
    ----------
    Bär et al., CVPR 2024, section 4.

    Examples
    --------
    >>> import torch
    >>> from frofa.augmentations import ResizedCrop
    >>> generator = torch.Generator().manual_seed(0)
    >>> ResizedCrop()(torch.randn(8, 64, 192, generator=generator), generator).shape
    torch.Size([8, 64, 192])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"min_side": FRACTION}
    recordable = True
    strength = ("min_side", 1.0, 0.1)

    def __init__(self, min_side: float = 0.5):
        self.min_side = min_side

    def make_params(self, batch: TokenBatch, /, generator: Generator) -> Params:
        """Draw ``{"side", "top", "left"}``, each of shape (n, 1)."""
        return _draw_window(batch, generator, self.min_side)

    def transform(self, batch: TokenBatch, /, params: Params) -> TokenBatch:
        """Resample the window."""
        return _stretch(batch, {"height": params["side"], "width": params["side"], **params}, self)


class InceptionCrop(Augmentation):
    """Stretch a random window of random area and aspect to the whole grid.

    Parameters
    ----------
    min_area : float, default=0.05
        The area of the window is drawn from U(min_area, 1), as a part of the grid's. 1 is the identity.
    max_aspect : float, default=4 / 3
        Width over height, in units of the grid's own, is drawn log-uniformly from [1 / max_aspect, max_aspect], and
        kept to what the area leaves room for (the reference draws again instead).

    Notes
    -----
    On a GPU it takes a third of the head's training step, as all that resamples: four tokens are read for each that is
    written, after a dozen small operations that find out which.

    References
    ----------
    Bär et al., CVPR 2024, section 4; big_vision's ``inception_crop``: area 5 to 100 %, aspect 3/4 to 4/3.

    Examples
    --------
    >>> import torch
    >>> from frofa.augmentations import InceptionCrop
    >>> generator = torch.Generator().manual_seed(0)
    >>> InceptionCrop()(torch.randn(8, 64, 192, generator=generator), generator).shape
    torch.Size([8, 64, 192])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "min_area": FRACTION,
        "max_aspect": [Interval(Real, 1, None, closed="left")],
    }
    recordable = True
    strength = ("min_area", 1.0, 0.05)

    def __init__(self, min_area: float = 0.05, max_aspect: float = 4 / 3):
        self.min_area = min_area
        self.max_aspect = max_aspect

    def make_params(self, batch: TokenBatch, /, generator: Generator) -> Params:
        """Draw ``{"height", "width", "top", "left"}``, each of shape (n, 1)."""
        area = uniform(batch, generator, self.min_area, 1, 1)
        span = math.log(self.max_aspect)
        room = area.log().neg_()  # at this log-aspect, the longer side is that of the grid
        aspect = uniform(batch, generator, -span, span, 1).clamp(-room, room)
        return {
            "height": (area * (-aspect).exp()).sqrt().clamp_(max=1),
            "width": (area * aspect.exp()).sqrt().clamp_(max=1),
            "top": uniform(batch, generator, 0, 1, 1),
            "left": uniform(batch, generator, 0, 1, 1),
        }

    def transform(self, batch: TokenBatch, /, params: Params) -> TokenBatch:
        """Resample the window."""
        return _stretch(batch, params, self)


class PatchDropout(Augmentation):
    """Hide random tokens from the head.

    Parameters
    ----------
    rate : float, default=0.5
        Part of each image's tokens that is hidden, rounded to tokens; one is always kept. 0 is the identity.

    References
    ----------
    Bär et al., CVPR 2024, section 4: "keep k random tokens".

    Examples
    --------
    >>> import torch
    >>> from frofa.augmentations import PatchDropout, TokenBatch
    >>> generator = torch.Generator().manual_seed(0)
    >>> batch = TokenBatch.from_tokens(torch.randn(2, 64, 192, generator=generator))
    >>> PatchDropout(rate=0.75)(batch, generator).mask.sum(1).tolist()
    [16, 16]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"rate": [Interval(Real, 0, 1, closed="left")]}
    recordable = True
    strength = ("rate", 0.0, 0.95)

    def __init__(self, rate: float = 0.5):
        self.rate = rate

    def make_params(self, batch: TokenBatch, /, generator: Generator) -> Params:
        """Draw ``{"priority": U(0, 1)}``, shape (n, N): the tokens of highest priority are kept."""
        return {"priority": uniform(batch, generator, 0, 1, batch.patches.shape[1])}

    def transform(self, batch: TokenBatch, /, params: Params) -> TokenBatch:
        """Hide the tokens of lowest priority."""
        priority, n_tokens = params["priority"], batch.patches.shape[1]
        if batch.mask is None:
            n_kept = max(1, round((1 - self.rate) * n_tokens))
            kept = torch.zeros_like(priority, dtype=torch.bool)
            return batch.replace(mask=kept.scatter_(1, priority.topk(n_kept, 1).indices, True))
        # Ranks (n, N) by priority, hidden tokens last; each image keeps its share of those it has.
        seen = priority.masked_fill(~batch.mask, -1)
        rank = seen.argsort(1, descending=True).argsort(1)
        n_kept_each = ((1 - self.rate) * batch.mask.sum(1, keepdim=True)).round().clamp(min=1)
        return batch.replace(mask=batch.mask & (rank < n_kept_each))


def _draw_window(batch: TokenBatch, generator: Generator, min_side: float) -> Params:
    return {
        "side": uniform(batch, generator, min_side, 1, 1),
        "top": uniform(batch, generator, 0, 1, 1),
        "left": uniform(batch, generator, 0, 1, 1),
    }


def _stretch(batch: TokenBatch, params: Params, who: Augmentation) -> TokenBatch:
    """Resample the window at (top, left), as parts of the room there is, of (height, width), as parts of the grid."""
    at = places(batch, who)
    top = params["top"] * (1 - params["height"]) * at.height
    left = params["left"] * (1 - params["width"]) * at.width
    # Centres of tokens (n, N) in the window; half a token is where the first one lies.
    rows = (at.rows + 0.5) * params["height"] + top - 0.5
    columns = (at.columns + 0.5) * params["width"] + left - 0.5
    return batch.replace(patches=resample(batch, bilinear_taps(rows, columns, at, edge=True)))


def _both(mask: torch.Tensor | None, other: torch.Tensor) -> torch.Tensor:
    if mask is None:
        return other
    both = mask & other
    return torch.where(both.any(1, keepdim=True), both, mask)  # a window on hidden tokens alone would leave none
