"""Augmentations, batches and comparisons that the tests of `frofa.augmentations` share."""

from typing import Any, NamedTuple

import pytest
import torch
from torch import Generator, Tensor

from frofa.augmentations import (
    JPEG,
    Augmentation,
    Brightness,
    ChannelDropout,
    Contrast,
    Crop,
    Equalize,
    GaussianNoise,
    InceptionCrop,
    Invert,
    MixUp,
    PatchDropout,
    Posterize,
    RandAugment,
    RandomApply,
    RandomChoice,
    ResizedCrop,
    Rotate,
    Sequential,
    Sharpness,
    ShearX,
    ShearY,
    Solarize,
    TokenBatch,
    TranslateX,
    TranslateY,
    TrivialAugment,
    Variant,
)

VARIANTS: tuple[Variant, ...] = ("default", "c", "c2")
CLIPPING: tuple[type[Any], ...] = (Brightness, Contrast, Sharpness)
AT_LEVEL: tuple[type[Any], ...] = (*CLIPPING, Posterize, Solarize)
MOVING: tuple[type[Any], ...] = (Rotate, ShearX, ShearY, TranslateX, TranslateY)

UNCLIPPED: list[Augmentation] = [kind(1.0, variant, clip=False) for kind in CLIPPING for variant in VARIANTS]
NOISE: list[Augmentation] = [GaussianNoise(0.3), GaussianNoise(0.3, "c2")]
IN_RANGE: list[Augmentation] = [kind(1.0, v) for kind in AT_LEVEL for v in VARIANTS]
IN_RANGE += [kind(0.5, variant) for kind in (Invert, Equalize) for variant in VARIANTS]
IN_RANGE += [JPEG(5, variant) for variant in VARIANTS]
STYLISTIC = IN_RANGE + UNCLIPPED + NOISE
STRETCHING: list[Augmentation] = [ResizedCrop(0.3), InceptionCrop()]
GEOMETRIC: list[Augmentation] = [kind(fill=fill) for kind in MOVING for fill in ("mean", "edge", "zero")]
MASKING: list[Augmentation] = [Crop(0.3), PatchDropout(0.6)]
SINGLE = STYLISTIC + GEOMETRIC + STRETCHING + MASKING + [ChannelDropout(0.3), MixUp(1.0)]
COMPOSED: list[Augmentation] = [
    Sequential([Brightness(1.0), Contrast(1.0, "c"), Posterize(1.0)]),
    RandomApply([Solarize(1.0), MixUp(1.0)], p=0.6),
    RandomChoice([Rotate(), MixUp(1.0), PatchDropout()]),
    RandAugment(level=1.0),
    TrivialAugment(),
    Sequential([RandomChoice([Invert(0.9), RandomApply([JPEG(), Rotate()])]), Crop()]),
]
ALL = SINGLE + COMPOSED

ON_A_GRID: tuple[type[Any], ...] = (*MOVING, Sharpness, JPEG, Crop, ResizedCrop, InceptionCrop)
SPATIAL = [augment for augment in SINGLE if isinstance(augment, ON_A_GRID)]
NOT_SPATIAL = [augment for augment in SINGLE if not isinstance(augment, ON_A_GRID)]
HIDES_NOTHING = [augment for augment in SINGLE if augment not in MASKING]
KEEPS_LABELS = [augment for augment in ALL if not augment.mixes_labels]


def flat(augment: Augmentation) -> str:
    """Its repr in one line."""
    return " ".join(repr(augment).split())


def each(augments: list[Augmentation]) -> pytest.MarkDecorator:
    """One test for each of them."""
    return pytest.mark.parametrize("augment", augments, ids=flat)


class Case(NamedTuple):
    """Shape and type of a batch."""

    n: int
    grid: tuple[int, int]
    channels: int
    dtype: torch.dtype

    def __str__(self) -> str:
        return f"{self.n}x{self.grid[0]}x{self.grid[1]}x{self.channels}-{self.dtype}"


CASES = [
    Case(1, (1, 1), 1, torch.float32),
    Case(5, (1, 1), 8, torch.float64),
    Case(2, (2, 3), 3, torch.float16),
    Case(5, (7, 7), 8, torch.bfloat16),
    Case(2, (8, 8), 1, torch.float64),
    Case(5, (3, 17), 3, torch.float32),
    Case(1, (8, 8), 3, torch.float16),
    Case(2, (2, 3), 2049, torch.bfloat16),
]
every_case = pytest.mark.parametrize("case", CASES, ids=str)
TYPICAL = Case(5, (7, 7), 8, torch.float32)


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def tokens_of(case: Case, seed: int = 0) -> Tensor:
    """Tokens with another scale for each image and another offset for each channel."""
    n, (height, width), channels, dtype = case
    generator = seeded(seed)
    scale = torch.rand(n, 1, 1, generator=generator) * 20 + 0.1
    offset = torch.randn(n, 1, channels, generator=generator)
    return (torch.randn(n, height * width, channels, generator=generator) * scale + offset).to(dtype)


def batch_of(case: Case, seed: int = 0) -> TokenBatch:
    """The tokens of a case, with their grid, one-hot targets and two prefix tokens."""
    prefix = tokens_of(case._replace(grid=(1, 2)), seed + 100)
    tokens = torch.cat([prefix, tokens_of(case, seed)], 1)
    return TokenBatch.from_tokens(tokens, n_prefix=2, grid=case.grid, targets=torch.eye(3)[torch.arange(case.n) % 3])


def ragged_batch(sizes: list[tuple[int, int]], channels: int, padding: float, seed: int = 0) -> TokenBatch:
    """Images of different grids, padded to one length; the mask shows their own tokens."""
    counts = torch.tensor([height * width for height, width in sizes])
    mask = torch.arange(int(counts.max())) < counts[:, None]
    tokens = tokens_of(Case(len(sizes), (1, int(counts.max())), channels, torch.float32), seed)
    tokens = tokens.masked_fill(~mask.unsqueeze(2), padding)
    targets = torch.eye(len(sizes))
    return TokenBatch.from_tokens(tokens, grid=torch.tensor(sizes), mask=mask, targets=targets)


def bounds(x: Tensor, augment: Any) -> tuple[Tensor, Tensor]:
    """Minimum and maximum that an augmentation keeps to: of each image's map, or of each of its channels."""
    dims = (1, 2) if getattr(augment, "variant", "c2") != "c2" else (1,)
    return x.amin(dims, keepdim=True), x.amax(dims, keepdim=True)


def permuted(params: Any, order: Tensor) -> Any:
    """The parameters that treat ``batch.select(order)`` as `params` treat the batch."""
    if not isinstance(params, dict):
        return params[order] if isinstance(params, Tensor) and params.ndim else params
    back = order.argsort()  # where the images have gone
    changed = {name: permuted(old, order) for name, old in params.items()}
    if "places" in params:  # of a choice: images go to the parts that they went to
        changed["images"] = back[params["images"]]
    if "partner" in params:
        changed["partner"] = back[params["partner"][order]]
    return changed


def parts(batch: TokenBatch) -> dict[str, Tensor]:
    """The tensors of a batch, but for its grid."""
    values = {name: getattr(batch, name) for name in ("patches", "mask", "targets", "prefix")}
    return {name: value for name, value in values.items() if value is not None}


def same(first: TokenBatch, second: TokenBatch) -> bool:
    """Whether two batches are equal, bit by bit."""
    ours, theirs = parts(first), parts(second)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def assert_alike(first: TokenBatch, second: TokenBatch, augment: Augmentation) -> None:
    """Equal up to rounding: summed in another order; of JPEG, what is half-way between steps may go either way."""
    ours, theirs = parts(first), parts(second)
    assert ours.keys() == theirs.keys()
    allowed = 0.02 if "JPEG" in repr(augment) else 0.0
    for name, one in ours.items():
        other = theirs[name]
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        if one.dtype == torch.bool:
            assert torch.equal(one, other), name
            continue
        slack = 8 * torch.finfo(one.dtype).eps * other.abs().amax(tuple(range(1, one.ndim)), keepdim=True).double()
        alike = (one.double() - other.double()).abs() <= slack  # which NaN is not
        assert alike.double().mean() >= 1 - allowed, f"{name} differ"
