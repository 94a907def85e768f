"""What all augmentations share: parameters, randomness apart from mathematics, and the three variants."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from numbers import Real
from typing import Any, ClassVar, TypeAlias

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Generator, Tensor

from frofa.augmentations._mapping import Variant, feature_range

Params: TypeAlias = Mapping[str, Any]


class Augmentation(BaseEstimator, ABC):
    """A random change of frozen features, drawn anew at each call.

    Calling an augmentation draws parameters with `make_params` and applies them with `transform`; the two are apart, so
    that the same draw can be applied twice, looked at, or written by hand. Parameters are read and set as in
    scikit-learn (`get_params`, `set_params`, `clone`), so a search reaches ``head__augment__level``.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {}

    def __call__(self, features: Tensor, /, generator: Generator) -> Tensor:
        """Draw and apply.

        Parameters
        ----------
        features : Tensor of shape (n, N, C) or (n, C)
            Floating point. Not modified.
        generator : torch.Generator
            The only source of randomness, on the device of `features`.

        Returns
        -------
        Tensor
            Same shape, dtype and device.

        Raises
        ------
        ValueError
            If `features` are not floating point of two or three dimensions, or a parameter is out of range.
        """
        self.validate()
        if features.ndim not in (2, 3) or not features.is_floating_point():
            raise ValueError(
                f"{type(self).__name__} takes floating point features of shape (n, tokens, channels) or (n, channels). "
                f"Got shape {tuple(features.shape)}, {features.dtype}."
            )
        return self.transform(features, self.make_params(features, generator))

    def validate(self) -> None:
        """Raise a ValueError that names the parameter if one is out of range."""
        self._validate_params()

    @abstractmethod
    def make_params(self, features: Tensor, /, generator: Generator) -> Params:
        """Draw random parameters for `features`, of which only shape and device matter."""

    @abstractmethod
    def transform(self, features: Tensor, /, params: Params) -> Tensor:
        """Apply drawn parameters: pure, without randomness."""


class PointwiseAugmentation(Augmentation):
    """An augmentation that changes each value at its place, in one of the three variants.

    A subclass draws with `make_params` and changes features with `adjust`. Computation is in float32 at least. Clipping
    pixels to [0, 1] is done as clipping features to the range that [0, 1] stands for.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "level": [Interval(Real, 0, 1, closed="both")],
        "variant": [StrOptions({"default", "c", "c2"})],
        "clip": ["boolean"],
    }
    level: float
    variant: Variant
    clip: bool

    @abstractmethod
    def adjust(self, features: Tensor, low: Tensor, high: Tensor, params: Params) -> Tensor:
        """Change features (n, N, C) with the given range, both (n, 1, C); the result is a new tensor."""

    def transform(self, features: Tensor, /, params: Params) -> Tensor:
        """Adjust, and clip to the range if asked."""
        tokens = features if features.ndim == 3 else features.unsqueeze(1)
        x = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
        # One value a channel, also where all are equal: PyTorch's CPU kernels are several times faster on them.
        low, high = (bound.expand(-1, 1, x.shape[2]).contiguous() for bound in feature_range(x, self.variant))
        adjusted = self.adjust(x, low, high, params)
        if self.clip:
            adjusted = adjusted.clamp_(low, high)
        return adjusted.to(features.dtype).reshape(features.shape)

    def _uniform(self, features: Tensor, generator: Generator, low: float, high: float) -> Tensor:
        """U(low, high): one value an image, shape (n, 1, 1), or one an image and channel, shape (n, 1, C)."""
        channels = 1 if self.variant == "default" else features.shape[-1]
        draw = torch.rand((features.shape[0], 1, channels), generator=generator, device=features.device)
        return draw * (high - low) + low
