"""Geometric augmentations: rotate, shear and translate the grid of tokens."""

from abc import abstractmethod
from numbers import Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Generator, Tensor

from frofa.augmentations.base import Augmentation, Params, uniform
from frofa.augmentations.batch import TokenBatch
from frofa.augmentations.ops.dispatch import (
    FILLS,
    ROTATE,
    SHEAR_X,
    SHEAR_Y,
    TRANSLATE_X,
    TRANSLATE_Y,
    Fill,
    FusedStep,
)
from frofa.augmentations.ops.resample import Places, bilinear_taps, places, resample

FILL = [StrOptions({"mean", "edge", "zero"})]


class GeometricAugmentation(Augmentation):
    """An augmentation that takes each token from another, fractional place of the grid.

    All channels move together: variants by channel would tear tokens apart, and the paper has none. Tokens between
    places are bilinear (the reference code takes the nearest, which on a grid of 8 x 8 is mostly no change).
    """

    recordable = True
    fill: Fill

    @abstractmethod
    def source(self, y: Tensor, x: Tensor, at: Places, params: Params) -> tuple[Tensor, Tensor]:
        """Find the places that tokens come from which lie at (y, x), relative to the centre of the grid."""

    def fused_step(self) -> FusedStep | None:
        """Say which step of the fused kernel for choices does the same; None where there is none."""
        code = self._own_kernel()
        return None if code is None else FusedStep(code, fill=FILLS[self.fill])

    def transform(self, batch: TokenBatch, /, params: Params) -> TokenBatch:
        """Resample the grid."""
        # Rows and columns (1 or n, N), measured from the centre of each grid.
        at = places(batch, self)
        middle_y, middle_x = (at.height - 1) / 2, (at.width - 1) / 2
        y, x = self.source(at.rows - middle_y, at.columns - middle_x, at, params)
        # Four taps a token (n, N, 4), back in the grid's own coordinates.
        taps = bilinear_taps(y + middle_y, x + middle_x, at, edge=self.fill == "edge")
        return batch.replace(patches=resample(batch, taps, self.fill))


class Rotate(GeometricAugmentation):
    """Rotate the grid about its centre.

    Parameters
    ----------
    degrees : float, default=30.0
        The angle is drawn from U(-degrees, degrees), positive counter-clockwise. 0 is the identity.
    fill : {"mean", "edge", "zero"}, default="mean"
        What comes from outside of the grid: each channel's mean (like the reference code's mid-grey; our choice), the
        nearest token, or zero.

    References
    ----------
    Bär et al., CVPR 2024, section 4; AutoAugment's ``rotate``, of up to 30 degrees.

    Examples
    --------
    >>> import torch
    >>> from frofa.augmentations import Rotate
    >>> generator = torch.Generator().manual_seed(0)
    >>> Rotate(degrees=15)(torch.randn(8, 64, 192, generator=generator), generator).shape
    torch.Size([8, 64, 192])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "degrees": [Interval(Real, 0, 180, closed="both")],
        "fill": FILL,
    }
    strength = ("degrees", 0.0, 30.0)
    kernel = ROTATE

    def __init__(self, degrees: float = 30.0, *, fill: Fill = "mean"):
        self.degrees = degrees
        self.fill = fill

    def make_params(self, batch: TokenBatch, /, generator: Generator) -> Params:
        """Draw ``{"angle": U(-degrees, degrees)}``, shape (n, 1)."""
        return {"angle": uniform(batch, generator, -self.degrees, self.degrees, 1)}

    def source(self, y: Tensor, x: Tensor, at: Places, params: Params) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Rotate the places back by the angle."""
        # Rows grow downwards: a turn that is counter-clockwise to the eye takes tokens from here.
        angle = torch.deg2rad(params["angle"])
        cos, sin = angle.cos(), angle.sin()
        return cos * y + sin * x, cos * x - sin * y


class ShearX(GeometricAugmentation):
    """Shift each row of the grid sideways, in proportion to its distance from the middle row.

    Parameters
    ----------
    factor : float, default=0.3
        Tokens sideways a row; drawn from U(-factor, factor). 0 is the identity.
    fill : {"mean", "edge", "zero"}, default="mean"
        As in `Rotate`.

    References
    ----------
    Bär et al., CVPR 2024, section 4; AutoAugment's ``shear_x``, of up to 0.3, which shears about a corner.

    Examples
    --------
    >>> import torch
    >>> from frofa.augmentations import ShearX
    >>> generator = torch.Generator().manual_seed(0)
    >>> ShearX(factor=0.1)(torch.randn(8, 64, 192, generator=generator), generator).shape
    torch.Size([8, 64, 192])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "factor": [Interval(Real, 0, None, closed="left")],
        "fill": FILL,
    }
    strength = ("factor", 0.0, 0.3)
    kernel = SHEAR_X

    def __init__(self, factor: float = 0.3, *, fill: Fill = "mean"):
        self.factor = factor
        self.fill = fill

    def make_params(self, batch: TokenBatch, /, generator: Generator) -> Params:
        """Draw ``{"slope": U(-factor, factor)}``, shape (n, 1)."""
        return {"slope": uniform(batch, generator, -self.factor, self.factor, 1)}

    def source(self, y: Tensor, x: Tensor, at: Places, params: Params) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Shear the columns by the rows."""
        return y, x + params["slope"] * y


class ShearY(ShearX):
    """Shift each column of the grid up or down, in proportion to its distance from the middle column.

    Parameters
    ----------
    factor : float, default=0.3
        Tokens down a column; drawn from U(-factor, factor). 0 is the identity.
    fill : {"mean", "edge", "zero"}, default="mean"
        As in `Rotate`.

    References
    ----------
    Bär et al., CVPR 2024, section 4; AutoAugment's ``shear_y``, of up to 0.3, which shears about a corner.

    Examples
    --------
    >>> import torch
    >>> from frofa.augmentations import ShearY
    >>> generator = torch.Generator().manual_seed(0)
    >>> ShearY(factor=0.1)(torch.randn(8, 64, 192, generator=generator), generator).shape
    torch.Size([8, 64, 192])
    """

    kernel = SHEAR_Y

    def source(self, y: Tensor, x: Tensor, at: Places, params: Params) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Shear the rows by the columns."""
        return y + params["slope"] * x, x


class TranslateX(GeometricAugmentation):
    """Shift the grid sideways.

    Parameters
    ----------
    fraction : float, default=0.3
        Of the grid's width; drawn from U(-fraction, fraction). 0 is the identity. The largest shift is our choice.
    fill : {"mean", "edge", "zero"}, default="mean"
        As in `Rotate`.

    References
    ----------
    Bär et al., CVPR 2024, section 4; AutoAugment's ``translate_x``.

    Examples
    --------
    >>> import torch
    >>> from frofa.augmentations import TranslateX
    >>> generator = torch.Generator().manual_seed(0)
    >>> TranslateX(fraction=0.1)(torch.randn(8, 64, 192, generator=generator), generator).shape
    torch.Size([8, 64, 192])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "fraction": [Interval(Real, 0, 1, closed="both")],
        "fill": FILL,
    }
    strength = ("fraction", 0.0, 0.3)
    kernel = TRANSLATE_X

    def __init__(self, fraction: float = 0.3, *, fill: Fill = "mean"):
        self.fraction = fraction
        self.fill = fill

    def make_params(self, batch: TokenBatch, /, generator: Generator) -> Params:
        """Draw ``{"shift": U(-fraction, fraction)}``, shape (n, 1)."""
        return {"shift": uniform(batch, generator, -self.fraction, self.fraction, 1)}

    def source(self, y: Tensor, x: Tensor, at: Places, params: Params) -> tuple[Tensor, Tensor]:
        """Shift the columns."""
        return y, x - params["shift"] * at.width


class TranslateY(TranslateX):
    """Shift the grid up or down.

    Parameters
    ----------
    fraction : float, default=0.3
        Of the grid's height; drawn from U(-fraction, fraction). 0 is the identity. The largest shift is our choice.
    fill : {"mean", "edge", "zero"}, default="mean"
        As in `Rotate`.

    References
    ----------
    Bär et al., CVPR 2024, section 4; AutoAugment's ``translate_y``.

    Examples
    --------
    >>> import torch
    >>> from frofa.augmentations import TranslateY
    >>> generator = torch.Generator().manual_seed(0)
    >>> TranslateY(fraction=0.1)(torch.randn(8, 64, 192, generator=generator), generator).shape
    torch.Size([8, 64, 192])
    """

    kernel = TRANSLATE_Y

    def source(self, y: Tensor, x: Tensor, at: Places, params: Params) -> tuple[Tensor, Tensor]:
        """Shift the rows."""
        return y - params["shift"] * at.height, x
