"""Base of all augmentations: parameters as in scikit-learn, and randomness apart from mathematics."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import copy
from numbers import Real
from typing import Any, ClassVar, TypeAlias, TypeVar, overload

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval
from torch import Generator, Tensor

from frofa.augmentations.batch import TokenBatch
from frofa.augmentations.ops.dispatch import FusedStep

Params: TypeAlias = Mapping[str, Any]
Self = TypeVar("Self", bound="Augmentation")
UNIT = Interval(Real, 0, 1, closed="both")


class Augmentation(BaseEstimator, ABC):
    """A random change of frozen features, drawn anew at each call.

    Calling an augmentation draws parameters with `make_params` and applies them with `transform`; the two are apart, so
    that the same draw can be applied twice, looked at, or written by hand. Parameters are read and set as in
    scikit-learn (`get_params`, `set_params`, `clone`), so a search reaches ``head__augment__level``.

    A subclass implements `make_params` and `transform`, and names in ``strength`` the parameter that `at_level` sets.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {}
    strength: ClassVar[tuple[str, float, float] | None] = None
    """Name of the parameter that sets the strength, its value for the identity, and its strongest value in use."""
    mixes_labels: ClassVar[bool] = False
    recordable: ClassVar[bool] = False
    """Whether `apply` can be recorded as a CUDA graph: it draws from the generator alone, and never asks the device."""

    @overload
    def __call__(self, features: Tensor, /, generator: Generator) -> Tensor: ...
    @overload
    def __call__(self, features: TokenBatch, /, generator: Generator) -> TokenBatch: ...
    def __call__(self, features: Tensor | TokenBatch, /, generator: Generator) -> Tensor | TokenBatch:
        """Draw and apply.

        Parameters
        ----------
        features : Tensor of shape (n, N, C) or (n, C), or TokenBatch
            Floating point. Not modified. A plain tensor of N tokens lies on a square grid, if N is a square.
        generator : torch.Generator
            The only source of randomness, on the device of `features`.

        Returns
        -------
        Tensor or TokenBatch
            Of the type, shape, dtype and device of `features`.

        Raises
        ------
        ValueError
            If `features` are not floating point of two or three dimensions, or a parameter is out of range; if the
            augmentation needs a grid that features do not have; if it changes more than a tensor can hold (which tokens
            the head sees, or the labels).
        """
        self.validate()
        if isinstance(features, TokenBatch):
            return self.apply(features, generator)
        batch = self.apply(TokenBatch.from_tokens(features), generator)
        # A tensor has no place for the mask, and what is hidden must not be seen.
        if batch.mask is not None:
            raise ValueError(
                f"{type(self).__name__} drops tokens, which a tensor cannot say: give it a TokenBatch, and the mask of "
                "the result to the head."
            )
        return batch.patches.reshape(features.shape)

    def apply(self, batch: TokenBatch, generator: Generator) -> TokenBatch:
        """Draw and apply, without checks of parameters: what a training loop calls at every step."""
        return self.transform(batch, self.make_params(batch, generator))

    def validate(self) -> None:
        """Raise a ValueError that names the parameter if one is out of range."""
        self._validate_params()

    @abstractmethod
    def make_params(self, batch: TokenBatch, /, generator: Generator) -> Params:
        """Draw random parameters for a batch, of which only shapes, grid and device matter."""

    @abstractmethod
    def transform(self, batch: TokenBatch, /, params: Params) -> TokenBatch:
        """Apply drawn parameters: pure, without randomness."""

    def fused_step(self) -> FusedStep | None:
        """Say which step of the fused kernel for choices does the same; None where there is none."""
        return None

    def _own_kernel(self) -> int | None:
        """Code of the kernel that the class itself declares: a subclass may compute something else."""
        code: int | None = vars(type(self)).get("kernel")
        return code

    def make_view(self, batch: TokenBatch, /, generator: Generator) -> Params:
        """Draw one set of parameters, the same for all images of the batch: for augmentation at prediction."""
        return self.broadcast(self.make_params(batch.select(slice(1)), generator), len(batch.patches))

    def broadcast(self, params: Params, n: int) -> Params:
        """Turn the parameters drawn for one image into those of n images that are treated alike."""
        return {name: _broadcast(value, n) for name, value in params.items()}

    def __copy__(self: Self) -> Self:
        other = object.__new__(type(self))  # scikit-learn's way takes as long as a kernel's launch
        other.__dict__.update(self.__dict__)
        return other

    def at_level(self: Self, level: float) -> Self:
        """Copy the augmentation at another strength, with all other parameters as they are.

        Parameters
        ----------
        level : float
            In [0, 1]: 0 is the identity, 1 the strongest in use. Linear in the parameter that `strength` names.

        Examples
        --------
        >>> from frofa.augmentations import Rotate
        >>> Rotate().at_level(0.5)
        Rotate(degrees=15.0)
        """
        if self.strength is None:
            raise ValueError(f"{type(self).__name__} has no level.")
        if not 0 <= level <= 1:
            raise ValueError(f"level must be in [0, 1]. Got {level}.")
        # A shallow copy: members of compositions are shared, as nothing here changes them.
        name, neutral, strongest = self.strength
        other = copy(self)
        setattr(other, name, neutral + level * (strongest - neutral))
        return other


def _broadcast(value: Any, n: int) -> Any:
    return value.expand(n, *value.shape[1:]) if isinstance(value, Tensor) and value.ndim else value


def uniform(batch: TokenBatch, generator: Generator, low: float, high: float, *shape: int) -> Tensor:
    """Draw from U(low, high): shape (n, *shape), float32, on the batch's device."""
    empty = torch.empty((len(batch.patches), *shape), device=batch.patches.device)
    return empty.uniform_(low, high, generator=generator)
