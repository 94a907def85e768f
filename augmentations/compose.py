"""Compositions: in a row, with some probability, one of several."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Generator, Tensor

from frofa.augmentations.base import UNIT, Augmentation, Params, uniform
from frofa.augmentations.batch import TokenBatch
from frofa.augmentations.ops.dispatch import IDENTITY, FusedStep, fusible

Self = TypeVar("Self", bound="Composition")


class Composition(Augmentation):
    """An augmentation made of others, held in one parameter, a list, whose members have names as in a pipeline.

    Nested parameters are named as in `sklearn.pipeline.make_pipeline`: ``brightness__level``; equal types are numbered,
    ``brightness-1__level``, ``brightness-2__level``.
    """

    members: ClassVar[str]
    """Name of the parameter that holds the others."""

    @property
    def mixes_labels(self) -> bool:  # type: ignore[override]
        """Tell whether one of the members mixes labels."""
        return any(step.mixes_labels for step in self._members())

    @property
    def recordable(self) -> bool:  # type: ignore[override]
        """Tell whether all members can be recorded as a CUDA graph."""
        return all(step.recordable for step in self._members())

    def validate(self) -> None:
        """Raise an error that names the member or parameter that is wrong."""
        super().validate()
        value = getattr(self, self.members)
        if not isinstance(value, (list, tuple)):
            raise TypeError(self._wrong(value))
        if isinstance(self, Choice) and not value:
            raise ValueError(f"The {self.members!r} parameter of {type(self).__name__} must not be empty.")
        for step in value:
            if not isinstance(step, Augmentation):
                raise TypeError(self._wrong(step))
            step.validate()

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters, those of the members included if `deep`."""
        params: dict[str, Any] = super().get_params(deep=False)
        if deep:
            for name, step in self._named().items():
                params[name] = step
                params.update({f"{name}__{key}": value for key, value in step.get_params().items()})
        return params

    def set_params(self: Self, **params: Any) -> Self:
        """Set parameters: the list, a member by its name, or a member's parameter by ``name__parameter``."""
        if self.members in params:
            setattr(self, self.members, params.pop(self.members))
        named = self._named()
        replaced = {name: params.pop(name) for name in list(params) if name in named}
        if replaced:
            setattr(self, self.members, list({**named, **replaced}.values()))
        super().set_params(**params)
        return self

    def _wrong(self, got: object) -> str:
        return f"The {self.members!r} parameter of {type(self).__name__} must be a list of augmentations. Got {got!r}."

    def _members(self) -> Sequence[Augmentation]:
        members: Sequence[Augmentation] | None = getattr(self, self.members)
        return members or ()

    def _named(self) -> dict[str, Augmentation]:
        members = self._members()
        names = [type(step).__name__.lower() for step in members]
        total, seen = Counter(names), Counter[str]()
        named = {}
        for name, step in zip(names, members, strict=True):
            seen[name] += 1
            named[f"{name}-{seen[name]}" if total[name] > 1 else name] = step
        return named


class Sequential(Composition):
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

    members = "steps"

    def __init__(self, steps: Sequence[Augmentation]):
        self.steps = steps

    def make_params(self, batch: TokenBatch, /, generator: Generator) -> Params:
        """Draw the parameters of every step, keyed by its name."""
        return {name: step.make_params(batch, generator) for name, step in self._named().items()}

    def transform(self, batch: TokenBatch, /, params: Params) -> TokenBatch:
        """Apply the steps in order."""
        for name, step in self._named().items():
            batch = step.transform(batch, params[name])
        return batch

    def fused_step(self) -> FusedStep | None:
        """Say that without steps it is the identity; there is no fused kernel for steps in a row."""
        return None if self.steps else FusedStep(IDENTITY)

    def broadcast(self, params: Params, n: int) -> Params:
        """Repeat the parameters of every step for n images that are treated alike."""
        return {name: step.broadcast(params[name], n) for name, step in self._named().items()}

    def at_level(self, level: float) -> "Sequential":
        """Copy the composition with all steps at that level."""
        return Sequential([step.at_level(level) for step in self.steps])


class RandomApply(Composition):
    """Apply an augmentation to some of the images.

    Parameters
    ----------
    steps : list of Augmentation
        Applied one after another, as in `Sequential`.
    p : float, default=0.5
        Probability of each image. 0 is the identity.

    Notes
    -----
    All images are augmented, and the result is taken for some: no waiting for how many. `at_level` sets `p`.

    Examples
    --------
    >>> import torch
    >>> from frofa.augmentations import Invert, RandomApply
    >>> tokens = torch.tensor([[0.0], [1.0]]).expand(4, 2, 1)
    >>> RandomApply([Invert(p=1)], p=0.5)(tokens, torch.Generator().manual_seed(0))[:, 0, 0].tolist()
    [1.0, 0.0, 1.0, 1.0]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"p": [UNIT]}
    members = "steps"
    strength = ("p", 0.0, 1.0)

    def __init__(self, steps: Sequence[Augmentation], p: float = 0.5):
        self.steps = steps
        self.p = p

    def make_params(self, batch: TokenBatch, /, generator: Generator) -> Params:
        """Draw ``{"applied": True with probability p, shape (n,), "steps": those of `Sequential`}``."""
        applied = uniform(batch, generator, 0, 1) < self.p
        return {"applied": applied, "steps": Sequential(self.steps).make_params(batch, generator)}

    def transform(self, batch: TokenBatch, /, params: Params) -> TokenBatch:
        """Take the augmented images where they are to be."""
        changed, applied = Sequential(self.steps).transform(batch, params["steps"]), params["applied"]

        def choose(new: Tensor | None, old: Tensor | None) -> Tensor | None:
            if new is None or new is old:
                return new
            if old is None:  # a mask that was not there before: all tokens are seen
                old = torch.ones_like(new)
            return torch.where(applied.view(-1, *(1,) * (new.ndim - 1)), new, old)

        names = ("patches", "mask", "targets", "prefix")
        return batch.replace(**{name: choose(getattr(changed, name), getattr(batch, name)) for name in names})

    def broadcast(self, params: Params, n: int) -> Params:
        """Repeat the parameters of the steps for n images, all of which are augmented, or none."""
        applied = params["applied"].expand(n)
        return {"applied": applied, "steps": Sequential(self.steps).broadcast(params["steps"], n)}


class Choice(Composition):
    """Each image gets one of several augmentations, drawn at random.

    As many places are laid out as give every augmentation the same number, and images are put on them at random: all
    work is done once, on shapes that are known beforehand. Places left over hold copies of the first image.
    """

    @abstractmethod
    def options(self, generator: Generator) -> Sequence[Augmentation]:
        """List the augmentations to choose among."""

    def make_params(self, batch: TokenBatch, /, generator: Generator) -> Params:
        """Draw ``{"places": (n,), "images": (n_places,), "parts": [(augmentation, its parameters), ...]}``."""
        options, n, device = self.options(generator), len(batch.patches), batch.patches.device
        if not options:
            raise ValueError(self._wrong([]))
        # As many places for each option as hold all images; images are put on them at random.
        size = -(-n // len(options))
        places = torch.randperm(size * len(options), generator=generator, device=device)[:n]
        # The inverse: which image lies on a place; places left over hold the first.
        images = torch.zeros(size * len(options), dtype=torch.int64, device=device)
        images.scatter_(0, places, torch.arange(n, device=device))
        if batch.mask is None and not isinstance(batch.grid, Tensor):  # all images have one outline, and none is copied
            outlines = [batch.select(slice(size))] * len(options)
        else:
            outlines = [batch.select(share) for share in images.split(size)]
        parts = [
            (option, option.make_params(outline, generator)) for option, outline in zip(options, outlines, strict=True)
        ]
        return {"places": places, "images": images, "parts": parts}

    def transform(self, batch: TokenBatch, /, params: Params) -> TokenBatch:
        """Apply each augmentation to its share, and put the images back in order."""
        if fusible(batch.patches):
            from frofa.augmentations.ops.triton_choice import fused_choice  # loads Triton

            # None where one of the options has no fused kernel.
            patches = fused_choice(batch, params)
            if patches is not None:
                return batch.replace(patches=patches)
        parts = params["parts"]
        shares = params["images"].split(len(params["images"]) // len(parts))
        done = [
            option.transform(batch.select(share), drawn) for (option, drawn), share in zip(parts, shares, strict=True)
        ]
        return TokenBatch.join(done).select(params["places"]).replace(grid=batch.grid)

    def broadcast(self, params: Params, n: int) -> Params:
        """Give all n images the augmentation, and its parameters, that the one image got."""
        option, drawn = params["parts"][int(params["places"][0])]
        alike = torch.arange(n, device=params["places"].device)
        return {"places": alike, "images": alike, "parts": [(option, option.broadcast(drawn, n))]}


class RandomChoice(Choice):
    """Apply one of several augmentations to each image, all equally likely.

    Parameters
    ----------
    choices : list of Augmentation
        Nested parameters are named as in `Sequential`. An empty `Sequential` among them leaves images as they are.

    Notes
    -----
    The images of a batch are shared out evenly: of 64 images and four choices, 16 get each. Where they do not divide,
    some places hold copies of the first image, which a `MixUp` among the choices may take as partners.

    Examples
    --------
    >>> import torch
    >>> from frofa.augmentations import Invert, RandomChoice, Sequential
    >>> tokens = torch.tensor([[0.0], [1.0]]).expand(4, 2, 1)
    >>> RandomChoice([Invert(p=1), Sequential([])])(tokens, torch.Generator().manual_seed(0))[:, 0, 0].tolist()
    [1.0, 1.0, 0.0, 0.0]
    """

    members = "choices"

    def __init__(self, choices: Sequence[Augmentation]):
        self.choices = choices

    def options(self, generator: Generator) -> Sequence[Augmentation]:  # noqa: ARG002 (the contract's)
        """List the augmentations that were given."""
        return self.choices

    def at_level(self, level: float) -> "RandomChoice":
        """Copy the composition with all choices at that level."""
        return RandomChoice([option.at_level(level) for option in self.choices])


def host_uniform(generator: Generator, n: int) -> list[float]:
    """Draw numbers that the host needs, in [0, 1), without waiting for the device.

    From a GPU's generator they are derived from its seed and its place in the sequence, which the host knows.
    """
    if generator.device.type == "cpu":
        return torch.rand(n, generator=generator).tolist()
    host = Generator().manual_seed(hash((generator.initial_seed(), generator.get_offset())) % 2**63)
    return torch.rand(n, generator=host).tolist()
