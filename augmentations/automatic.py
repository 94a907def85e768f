"""RandAugment and TrivialAugment over operations in feature space."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval
from torch import Generator

from frofa.augmentations.base import UNIT, Augmentation, Params
from frofa.augmentations.batch import TokenBatch
from frofa.augmentations.compose import Choice, Composition, RandomChoice, Sequential, host_uniform
from frofa.augmentations.equalize import Equalize
from frofa.augmentations.geometric import Rotate, ShearX, ShearY, TranslateX, TranslateY
from frofa.augmentations.sharpness import Sharpness
from frofa.augmentations.stylistic import Brightness, Contrast, Invert, Posterize, Solarize

OPERATIONS: tuple[Augmentation, ...] = (
    Sequential([]),
    Brightness(),
    Contrast(),
    Equalize(),
    Invert(),
    Posterize(),
    Sharpness(),
    Solarize(),
    Rotate(),
    ShearX(),
    ShearY(),
    TranslateX(),
    TranslateY(),
)
"""Those of RandAugment that need no three colour channels, and the identity."""


class RandAugment(Composition):
    """Apply a few random operations to each image, all at the same level.

    Parameters
    ----------
    n_ops : int, default=2
        Operations an image, one after another; the same one may come twice.
    level : float, default=0.3
        In [0, 1]; each operation is set to it by `Augmentation.at_level`. 0 is the identity.
    operations : list of Augmentation, default=None
        What to choose among; nested parameters are named as in `Sequential`. None is the identity, brightness (c2),
        contrast, equalize, invert, posterize (c), sharpness, solarize, rotate, shear and translate.

    Notes
    -----
    Several of the operations need tokens on a grid, so that pooled features take `operations` of their own. The images
    of a batch are shared out among the operations, as in `RandomChoice`. On a GPU, a round takes about as long as one
    geometric operation on the whole batch, if tokens lie on one grid, none is hidden and all operations are among the
    default ones (in any variant, but for equalize in c2); otherwise each operation takes kernels of its own.

    References
    ----------
    Cubuk et al., "RandAugment", NeurIPS 2020; Bär et al., CVPR 2024, supplement (its variants are not stated in what we
    have seen; this one is our choice).

    Examples
    --------
    >>> import torch
    >>> from frofa.augmentations import RandAugment
    >>> generator = torch.Generator().manual_seed(0)
    >>> RandAugment(level=0.2)(torch.randn(8, 64, 192, generator=generator), generator).shape
    torch.Size([8, 64, 192])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_ops": [Interval(Integral, 1, None, closed="left")],
        "level": [UNIT],
        "operations": ["array-like", None],
    }
    members = "operations"
    strength = ("level", 0.0, 1.0)

    def __init__(self, n_ops: int = 2, level: float = 0.3, operations: Sequence[Augmentation] | None = None):
        self.n_ops = n_ops
        self.level = level
        self.operations = operations

    def validate(self) -> None:
        """Raise an error that names the member or parameter that is wrong."""
        _validate(self)

    @property
    def recordable(self) -> bool:  # type: ignore[override]
        """Whether all operations are."""
        return all(option.recordable for option in self.operations or OPERATIONS)

    def make_params(self, batch: TokenBatch, /, generator: Generator) -> Params:
        """Draw the parameters of each round, as in `RandomChoice`."""
        round_ = RandomChoice([option.at_level(self.level) for option in self.operations or OPERATIONS])
        return {str(i): round_.make_params(batch, generator) for i in range(self.n_ops)}

    def transform(self, batch: TokenBatch, /, params: Params) -> TokenBatch:
        """Apply one round after another."""
        for drawn in params.values():
            batch = RandomChoice(()).transform(batch, drawn)
        return batch

    def broadcast(self, params: Params, n: int) -> Params:
        """Those of each round."""
        return {name: RandomChoice(()).broadcast(drawn, n) for name, drawn in params.items()}


class TrivialAugment(Choice):
    """Apply one random operation to each image, at a random level.

    Parameters
    ----------
    max_level : float, default=1.0
        The level is drawn from U(0, max_level), for each operation of a batch. 0 is the identity.
    operations : list of Augmentation, default=None
        As in `RandAugment`.

    Notes
    -----
    As in `RandAugment`, on one round of operations. Levels are drawn on the host, so that training steps on a GPU are
    not recorded.

    References
    ----------
    Müller and Hutter, "TrivialAugment", ICCV 2021; Bär et al., CVPR 2024, supplement (its variants are not stated in
    what we have seen; this one is our choice).

    Examples
    --------
    >>> import torch
    >>> from frofa.augmentations import TrivialAugment
    >>> generator = torch.Generator().manual_seed(0)
    >>> TrivialAugment()(torch.randn(8, 64, 192, generator=generator), generator).shape
    torch.Size([8, 64, 192])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"max_level": [UNIT], "operations": ["array-like", None]}
    members = "operations"
    strength = ("max_level", 0.0, 1.0)
    recordable = False  # levels are drawn on the host

    def __init__(self, max_level: float = 1.0, operations: Sequence[Augmentation] | None = None):
        self.max_level = max_level
        self.operations = operations

    def validate(self) -> None:
        """Raise an error that names the member or parameter that is wrong."""
        _validate(self)

    def options(self, generator: Generator) -> Sequence[Augmentation]:
        """The given ones, or all, each at a level of its own."""
        operations = self.operations or OPERATIONS
        draws = host_uniform(generator, len(operations))
        return [option.at_level(self.max_level * draw) for option, draw in zip(operations, draws, strict=True)]


def _validate(augment: RandAugment | TrivialAugment) -> None:
    if augment.operations is None:
        Augmentation.validate(augment)
    else:
        Composition.validate(augment)
