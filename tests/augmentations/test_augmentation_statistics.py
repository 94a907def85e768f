"""The distributions that augmentations draw from, with fixed seeds: tests of fit at one in ten thousand."""

import math
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from augmentation_helpers import NOISE, STYLISTIC, VARIANTS, Case, batch_of, each, seeded
from scipy import stats
from torch import Tensor

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

IMAGES = 2000
RARE = 1e-4


def draw(augment: Augmentation, name: str, *, images: int = IMAGES, tokens: int = 4, channels: int = 3) -> Tensor:
    batch = TokenBatch(torch.empty(images, tokens, channels), (1, tokens))
    value: Tensor = augment.make_params(batch, seeded(5))[name]
    return value


def assert_uniform(values: Tensor, low: float, high: float) -> None:
    assert stats.kstest(values.double().flatten().numpy(), "uniform", (low, high - low)).pvalue > RARE


def assert_equally_likely(counts: Any) -> None:
    assert stats.chisquare(np.asarray(counts)).pvalue > RARE


def assert_probability(hits: Tensor, p: float) -> None:
    assert stats.binomtest(int(hits.sum()), hits.numel(), p).pvalue > RARE


@pytest.mark.parametrize(
    ("augment", "name", "low", "high"),
    [
        (Brightness(0.4), "shift", -0.4, 0.4),
        (Brightness(1.0, "default"), "shift", -1, 1),
        (Contrast(1.0), "factor", 0.5, 2),
        (Contrast(0.3, "c"), "factor", 1 / 1.3, 1.3),
        (Solarize(0.4, "c2"), "threshold", 0.6, 1),
        (Sharpness(1.0), "factor", 0.1, 1.9),
        (Sharpness(0.5, "c"), "factor", 0.55, 1.45),
        (Rotate(30), "angle", -30, 30),
        (ShearX(0.2), "slope", -0.2, 0.2),
        (ShearY(0.3), "slope", -0.3, 0.3),
        (TranslateX(0.3), "shift", -0.3, 0.3),
        (TranslateY(1.0), "shift", -1, 1),
        *((kind(0.3), name, low, 1) for kind in (Crop, ResizedCrop) for name, low in (("side", 0.3), ("top", 0.0))),
        *((kind(0.3), "left", 0, 1) for kind in (Crop, ResizedCrop, InceptionCrop)),
        (PatchDropout(), "priority", 0, 1),
    ],
)
def test_draws_are_uniform(augment: Augmentation, name: str, low: float, high: float) -> None:
    values = draw(augment, name)
    assert_uniform(values, low, high)
    assert low <= values.min() <= values.max() <= high


@each(STYLISTIC)
def test_one_value_an_image_or_one_a_channel(augment: Any) -> None:
    [values] = augment.make_params(TokenBatch(torch.empty(500, 2, 6), (1, 2)), seeded()).values()
    values = values.float()
    expected = (500, 1, 1 if augment.variant == "default" else 6)
    assert values.shape == ((500, 2, 6) if augment in NOISE else expected)
    assert (values.std(0) > 0).all(), "shared between images"
    if values.shape[2] > 1:
        assert (values.std(2) > 0).any(), "shared between channels"
        correlations = np.corrcoef(values[:, 0].T.numpy()) - np.eye(6)
        assert abs(correlations).max() < 0.2


@pytest.mark.parametrize("variant", VARIANTS)
def test_brightness_shifts_uniformly_in_units_of_the_range(variant: Variant) -> None:
    base = torch.randn((IMAGES, 3, 2), generator=seeded(9), dtype=torch.float64)
    x = base * torch.logspace(-2, 2, IMAGES)[:, None, None]  # were the range the batch's, no shift would be in bounds
    dims = (1,) if variant == "c2" else (1, 2)
    shift = (Brightness(0.4, variant, clip=False)(x, seeded(1)) - x) / (x.amax(dims, True) - x.amin(dims, True))
    torch.testing.assert_close(shift, shift[:, :1].expand_as(shift))  # the same at all positions
    assert torch.allclose(shift[..., 0], shift[..., 1]) == (variant == "default")
    assert_uniform(shift[:, 0, 0], -0.4, 0.4)


@pytest.mark.parametrize(("level", "most"), [(0.1, 1), (0.5, 4), (1.0, 7)])
def test_posterize_drops_a_uniform_number_of_bits(level: float, most: int) -> None:
    bits, counts = np.unique(draw(Posterize(level), "dropped_bits").numpy(), return_counts=True)
    assert bits.tolist() == list(range(most + 1))
    assert_equally_likely(counts)


def test_jpeg_qualities_are_uniform_and_whole() -> None:
    qualities, counts = np.unique(draw(JPEG(90, "c"), "quality").numpy(), return_counts=True)
    assert qualities.tolist() == list(range(90, 101))
    expected = np.array([0.5, *[1] * 9, 0.5]) * 3 * IMAGES / 10  # what is rounded to the ends is half as much
    assert stats.chisquare(counts, expected).pvalue > RARE


@pytest.mark.parametrize("p", [0.1, 0.5, 1.0])
def test_probabilities(p: float) -> None:
    assert_probability(draw(Invert(p, "c"), "inverted") == 1, p)
    assert_probability(draw(Equalize(p), "equalized"), p)
    assert_probability(draw(RandomApply([], p), "applied"), p)
    assert_probability(draw(ChannelDropout(1 - p), "scale") != 0, p)


def test_channel_dropout_keeps_the_mean() -> None:
    assert set(draw(ChannelDropout(0.75), "scale").flatten().tolist()) == {0.0, 4.0}


@pytest.mark.parametrize("variant", ["default", "c2"])
def test_noise_is_normal_in_units_of_the_range(variant: Any) -> None:
    x = torch.randn((IMAGES, 3, 2), generator=seeded(9)) * torch.logspace(-2, 2, IMAGES)[:, None, None]
    dims = (1,) if variant == "c2" else (1, 2)
    noise = (GaussianNoise(0.3, variant)(x, seeded(1)) - x) / (x.amax(dims, True) - x.amin(dims, True))
    assert stats.kstest(noise.flatten().numpy(), "norm", (0, 0.3)).pvalue > RARE
    assert abs(np.corrcoef(noise.flatten(1).T.numpy()) - np.eye(6)).max() < 0.1  # each value has its own


def test_patch_dropout_hides_every_token_equally_often() -> None:
    batch = batch_of(Case(IMAGES, (3, 4), 1, torch.float32))
    for mask in (None, torch.ones(IMAGES, 12, dtype=torch.bool)):
        kept = PatchDropout(0.6)(batch.replace(mask=mask), seeded()).mask
        assert kept is not None
        assert_equally_likely(kept.sum(0))
        assert abs(np.corrcoef(kept.T.float().numpy()) - np.eye(12)).max() < 0.25  # -1 / 11 by their number


def test_crops_lie_everywhere_alike() -> None:
    shown = Crop(0.2)(batch_of(Case(4000, (8, 8), 1, torch.float32)), seeded()).mask
    assert shown is not None
    for along in (shown.view(-1, 8, 8).any(2), shown.view(-1, 8, 8).any(1)):
        sides, starts = along.sum(1), along.int().argmax(1)
        for side in (3, 5, 7):
            assert_equally_likely(torch.bincount(starts[sides == side], minlength=9 - side))


def test_inception_crops_have_uniform_area_and_log_uniform_aspect() -> None:
    batch = TokenBatch(torch.empty(IMAGES, 4, 1), (2, 2))
    params = InceptionCrop(0.05, 4 / 3).make_params(batch, seeded())
    height, width = params["height"], params["width"]
    assert height.max() <= 1
    assert width.max() <= 1
    assert_uniform(height * width, 0.05, 1)
    aspect, bound = (width / height).log(), math.log(4 / 3)
    assert aspect.abs().max() <= bound + 1e-5
    assert_uniform(aspect[height * width < 3 / 4], -bound, bound)  # of larger windows, the grid cuts some aspects off


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_mixup_proportions_are_beta_distributed(alpha: float) -> None:
    assert stats.kstest(proportions(alpha), "beta", (alpha, alpha)).pvalue > RARE


@pytest.mark.parametrize("alpha", [0.02, 0.001, 1e-5])
def test_mixup_of_a_small_alpha_hardly_mixes(alpha: float) -> None:
    values = proportions(alpha)
    between = stats.beta.cdf(0.9, alpha, alpha) - stats.beta.cdf(0.1, alpha, alpha)
    assert stats.binomtest(int(((values > 0.1) & (values < 0.9)).sum()), len(values), between).pvalue > RARE
    assert stats.binomtest(int((values > 0.5).sum()), len(values)).pvalue > RARE


def proportions(alpha: float) -> npt.NDArray[np.float64]:
    batch, generator = TokenBatch(torch.empty(2, 1, 1)), seeded()
    return np.array([float(MixUp(alpha).make_params(batch, generator)["proportion"]) for _ in range(1500)])


def test_mixup_partners_are_equally_likely() -> None:
    batch, generator = TokenBatch(torch.empty(5, 1, 1)), seeded()
    partners = torch.stack([MixUp().make_params(batch, generator)["partner"] for _ in range(1000)])
    assert torch.equal(partners.sort(1).values, torch.arange(5).expand(1000, 5))
    for image, column in enumerate(partners.T):
        counts = torch.bincount(column, minlength=5).tolist()
        assert counts.pop(image) == 0  # an image is mixed with another one
        assert_equally_likely(counts)


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_each_choice_is_equally_likely_for_every_image(n: int) -> None:
    choice, generator = RandomChoice([Invert(), Rotate(), Sequential([])]), seeded()
    batch = TokenBatch(torch.empty(n, 4, 1), (2, 2))
    counts = [Counter[str]() for _ in range(n)]
    for _ in range(600):
        params = choice.make_params(batch, generator)
        part = params["places"] // (len(params["images"]) // 3)
        assert part.bincount().max() <= -(-n // 3)
        for image, option in enumerate(part.tolist()):
            counts[image][repr(params["parts"][option][0])] += 1
    for count in counts:
        assert_equally_likely([count[repr(option)] for option in choice.choices])


def option_of_one(params: Any) -> Any:
    """What the only image of a batch gets."""
    return params["parts"][int(params["places"][0])][0]


def test_trivial_augment_draws_operation_and_level() -> None:
    augment, batch, generator = TrivialAugment(0.8), TokenBatch(torch.empty(1, 4, 1), (2, 2)), seeded()
    drawn = [option_of_one(augment.make_params(batch, generator)) for _ in range(2600)]
    counts = Counter(type(option).__name__ for option in drawn)
    assert len(counts) == 13
    assert_equally_likely(list(counts.values()))
    levels = [option.degrees / 30 for option in drawn if isinstance(option, Rotate)]
    assert_uniform(torch.tensor(levels), 0, 0.8)


def test_rand_augment_draws_each_round_anew_at_its_level() -> None:
    augment, batch, generator = RandAugment(2, 0.4), TokenBatch(torch.empty(1, 4, 1), (2, 2)), seeded()
    pairs = [augment.make_params(batch, generator) for _ in range(1300)]
    first, second = ([option_of_one(params[round_]) for params in pairs] for round_ in ("0", "1"))
    both = [type(one) is type(other) for one, other in zip(first, second, strict=True)]
    assert stats.binomtest(sum(both), len(both), 1 / 13).pvalue > RARE
    for drawn in (first, second):
        assert_equally_likely(list(Counter(type(option).__name__ for option in drawn).values()))
        assert {option.degrees for option in drawn if isinstance(option, Rotate)} == {12.0}
