"""Augmentations of single values and channels: Gaussian noise and channel dropout."""

from numbers import Real
from typing import Any, ClassVar, Literal

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Generator, Tensor

from frofa.augmentations.base import Augmentation, Params, uniform
from frofa.augmentations.batch import TokenBatch
from frofa.augmentations.ops.pointwise import pointwise
from frofa.augmentations.stylistic import PointwiseAugmentation


class GaussianNoise(PointwiseAugmentation):
    """Add normal noise to every value, in units of the range.

    Parameters
    ----------
    std : float, default=0.1
        Standard deviation, in units of the range. 0 is the identity.
    variant : {"default", "c2"}, default="default"
        The range: of the image's feature map, or of each channel (on pooled features the identity). Every value has
        noise of its own in both, so that there is no ``"c"``.

    Notes
    -----
    One of the two augmentations of the paper's supplement that we chose ourselves, as we have not seen it.

    For a linear least-squares probe, noise is a penalty in closed form. With noise of standard deviation ``s_i`` on
    sample i, the expected loss of weights w is the loss without noise plus ``sum(s_i ** 2) * |w| ** 2``: ridge
    regression with ``alpha = sum(s_i ** 2)``. So a `RidgeProbeClassifier` needs no noisy copies, only a larger penalty.

    On a GPU it takes longer than the other pointwise operations: one random number a value is written and read again.

    References
    ----------
    Bishop, "Training with Noise is Equivalent to Tikhonov Regularization", Neural Computation 1995.

    Examples
    --------
    >>> import torch
    >>> from frofa.augmentations import GaussianNoise
    >>> generator = torch.Generator().manual_seed(0)
    >>> GaussianNoise(std=0.05)(torch.randn(8, 64, 192, generator=generator), generator).shape
    torch.Size([8, 64, 192])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "std": [Interval(Real, 0, None, closed="left")],
        "variant": [StrOptions({"default", "c2"})],
    }
    strength = ("std", 0.0, 0.5)
    operation = "brightness"
    drawn = "noise"

    def __init__(self, std: float = 0.1, variant: Literal["default", "c2"] = "default"):
        self.std = std
        self.variant = variant

    def draw(self, batch: TokenBatch, generator: Generator) -> Tensor:
        """Draw from N(0, std), one number a value: shape (n, N, C)."""
        x = batch.patches
        return torch.empty(x.shape, device=x.device, dtype=x.dtype).normal_(0, self.std, generator=generator)


class ChannelDropout(Augmentation):
    """Set random channels of an image to zero, and scale the others up to keep the mean.

    Parameters
    ----------
    rate : float, default=0.1
        Probability of each channel of each image, at all positions alike. 0 is the identity.

    Notes
    -----
    One of the two augmentations of the paper's supplement that we chose ourselves. It needs no range, so that it has no
    variants: dropout of whole channels as in `torch.nn.Dropout1d`. On pooled features it is ordinary dropout.

    References
    ----------
    Tompson et al., "Efficient Object Localization Using Convolutional Networks", CVPR 2015.

    Examples
    --------
    >>> import torch
    >>> from frofa.augmentations import ChannelDropout
    >>> ChannelDropout(rate=0.5)(torch.ones(1, 1, 8), torch.Generator().manual_seed(0)).flatten().tolist()
    [0.0, 2.0, 0.0, 0.0, 0.0, 2.0, 0.0, 2.0]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"rate": [Interval(Real, 0, 1, closed="left")]}
    recordable = True
    strength = ("rate", 0.0, 0.9)

    def __init__(self, rate: float = 0.1):
        self.rate = rate

    def make_params(self, batch: TokenBatch, /, generator: Generator) -> Params:
        """Draw ``{"scale": 0, or 1 / (1 - rate)}``, shape (n, 1, C)."""
        kept = uniform(batch, generator, 0, 1, 1, batch.patches.shape[2]) >= self.rate
        return {"scale": kept / (1 - self.rate)}

    def transform(self, batch: TokenBatch, /, params: Params) -> TokenBatch:
        """Scale."""
        return batch.replace(patches=pointwise(batch.patches, "scale", params["scale"], "c", clip=False, mask=None))
