"""Composition of augmentations."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from torch import Generator, Tensor

from frofa.augmentations._base import Augmentation, Params


class Sequential(Augmentation):
    """Apply augmentations one after another; the order matters.

    The paper's best sequence is ``Sequential([Brightness(variant="c2"), Posterize(variant="c")])``: +7.7 points at 1
    shot; the reverse order is worse.

    Parameters
    ----------
    steps : list of Augmentation
        Nested parameters are named as in `sklearn.pipeline.make_pipeline`: ``brightness__level``; equal types are
        numbered, ``brightness-1__level``, ``brightness-2__level``.

    References
    ----------
    Bär et al., CVPR 2024, section 5 (sequences).

    Examples
    --------
    >>> import torch
    >>> from frofa.augmentations import Brightness, Posterize, Sequential
    >>> augment = Sequential([Brightness(0.5), Posterize(0.5)]).set_params(brightness__level=0.2)
    >>> generator = torch.Generator().manual_seed(0)
    >>> augment(torch.randn(8, 64, 192, generator=generator), generator).shape
    torch.Size([8, 64, 192])
    """

    def __init__(self, steps: Sequence[Augmentation]):
        self.steps = steps

    def validate(self) -> None:
        """Raise an error that names the step or parameter that is wrong."""
        if not isinstance(self.steps, (list, tuple)):
            raise TypeError(f"The 'steps' parameter of Sequential must be a list of augmentations. Got {self.steps!r}.")
        for step in self.steps:
            if not isinstance(step, Augmentation):
                raise TypeError(f"The 'steps' parameter of Sequential must be a list of augmentations. Got {step!r}.")
            step.validate()

    def make_params(self, features: Tensor, /, generator: Generator) -> Params:
        """Draw the parameters of every step, keyed by its name."""
        return {name: step.make_params(features, generator) for name, step in self._named_steps().items()}

    def transform(self, features: Tensor, /, params: Params) -> Tensor:
        """Apply the steps in order."""
        for name, step in self._named_steps().items():
            features = step.transform(features, params[name])
        return features

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters, those of the steps included if `deep`."""
        params: dict[str, Any] = {"steps": self.steps}
        if deep:
            for name, step in self._named_steps().items():
                params[name] = step
                params.update({f"{name}__{key}": value for key, value in step.get_params().items()})
        return params

    def set_params(self, **params: Any) -> "Sequential":
        """Set parameters: ``steps``, a step by its name, or a step's parameter by ``name__parameter``."""
        self.steps = params.pop("steps", self.steps)
        named = self._named_steps()
        replaced = {name: params.pop(name) for name in list(params) if name in named}
        if replaced:
            self.steps = list({**named, **replaced}.values())
        super().set_params(**params)
        return self

    def _named_steps(self) -> dict[str, Augmentation]:
        names = [type(step).__name__.lower() for step in self.steps]
        total, seen = Counter(names), Counter[str]()
        named = {}
        for name, step in zip(names, self.steps, strict=True):
            seen[name] += 1
            named[f"{name}-{seen[name]}" if total[name] > 1 else name] = step
        return named
