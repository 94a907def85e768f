"""frofa.augmentations: the definitions, against plain NumPy and against statistics of many draws."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.base import clone
from torch import Generator, Tensor

from frofa.augmentations import Augmentation, Brightness, Contrast, Posterize, Sequential, Variant, from_image, to_image

VARIANTS: tuple[Variant, ...] = ("default", "c", "c2")
TYPES: tuple[type[Any], ...] = (Brightness, Contrast, Posterize)
ALL: list[Augmentation] = [kind(level=1.0, variant=variant) for kind in TYPES for variant in VARIANTS]
ALL.append(Sequential([Brightness(1.0), Contrast(1.0, "c"), Posterize(1.0)]))
every_augmentation = pytest.mark.parametrize("augment", ALL, ids=repr)
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@pytest.fixture
def tokens(read_only_tokens: npt.NDArray[np.float32]) -> Tensor:
    return torch.tensor(read_only_tokens)


def draws(augment: Augmentation, images: int, channels: int, seed: int = 0) -> Any:
    [values] = augment.make_params(torch.empty(images, 2, channels), seeded(seed)).values()
    return values


@pytest.mark.parametrize("kind", TYPES)
@every_variant
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_level_zero_is_exactly_the_identity(kind: Any, variant: Variant, dtype: torch.dtype, tokens: Tensor) -> None:
    x = tokens.to(dtype) * 31
    assert torch.equal(kind(level=0, variant=variant)(x, seeded()), x)
    assert torch.equal(Sequential([kind(level=0.0, variant=variant)] * 2)(x, seeded()), x)


@every_augmentation
def test_constant_map_is_exactly_the_identity(augment: Augmentation) -> None:
    x = torch.tensor([0.0, -3.7, 1e4])[:, None, None].expand(3, 9, 8)
    assert torch.equal(augment(x, seeded()), x)


@pytest.mark.parametrize("kind", TYPES)
def test_c2_leaves_a_constant_channel_and_changes_the_others(kind: Any, tokens: Tensor) -> None:
    x = tokens.clone()
    x[:, :, 3] = 5.3
    out = kind(level=1.0, variant="c2")(x, seeded())
    assert torch.equal(out[:, :, 3], x[:, :, 3])
    assert (out != x).any(1).sum(0).gt(0).tolist() == [True, True, True, False, True, True, True, True]


@every_augmentation
def test_input_and_global_random_state_are_untouched(augment: Augmentation, tokens: Tensor) -> None:
    before, state = tokens.clone(), torch.get_rng_state()
    assert not torch.equal(augment(tokens, seeded()), before)
    assert torch.equal(tokens, before)
    assert torch.equal(torch.get_rng_state(), state)


@every_augmentation
def test_the_generator_determines_the_result(augment: Augmentation, tokens: Tensor) -> None:
    generator = seeded(3)
    first, second = augment(tokens, generator), augment(tokens, generator)
    assert torch.equal(first, augment(tokens, seeded(3)))
    assert not torch.equal(first, augment(tokens, seeded(4)))
    assert not torch.equal(first, second)


@every_augmentation
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_and_shape_are_kept(augment: Augmentation, dtype: torch.dtype, tokens: Tensor) -> None:
    x = tokens.to(dtype)
    out = augment(x, seeded())
    assert out.dtype == dtype
    assert out.shape == x.shape
    if not isinstance(augment, Sequential):  # computed in float32 at least, and rounded once
        precise = augment(x.to(torch.promote_types(dtype, torch.float32)), seeded())
        torch.testing.assert_close(out, precise.to(dtype), rtol=0, atol=0)
    pooled = augment(x[:, 0], seeded())
    assert pooled.dtype == dtype
    torch.testing.assert_close(pooled, augment(x[:, :1], seeded())[:, 0], rtol=0, atol=0)


def test_a_single_position_has_no_contrast_and_no_channel_range(tokens: Tensor) -> None:
    pooled = tokens[:, 0]
    for variant in VARIANTS:
        torch.testing.assert_close(Contrast(1.0, variant)(pooled, seeded()), pooled)
    assert torch.equal(Brightness(1.0, "c2")(pooled, seeded()), pooled)
    assert not torch.equal(Brightness(1.0, "c")(pooled, seeded()), pooled)


@pytest.mark.parametrize("kind", TYPES)
@every_variant
def test_clipping_keeps_the_range_of_the_variant(kind: Any, variant: Variant, tokens: Tensor) -> None:
    dims = (1,) if variant == "c2" else (1, 2)
    low, high = tokens.amin(dims, keepdim=True), tokens.amax(dims, keepdim=True)
    slack = 1e-5 * (high - low)
    out = kind(level=1.0, variant=variant)(tokens, seeded())
    assert (out >= low - slack).all()
    assert (out <= high + slack).all()
    if kind is not Posterize:
        free = kind(level=1.0, variant=variant, clip=False)(tokens, seeded())
        assert ((free < low - slack) | (free > high + slack)).any()


@pytest.mark.parametrize("kind", TYPES)
@every_variant
def test_one_value_an_image_or_one_a_channel(kind: Any, variant: Variant) -> None:
    values = draws(kind(level=1.0, variant=variant), 500, 6)
    assert values.shape == ((500, 1, 1) if variant == "default" else (500, 1, 6))
    assert (values.std(0) > 0).all(), "shared between images"
    if variant != "default":
        assert (values.std(2) > 0).any(), "shared between channels"


@every_variant
def test_brightness_shifts_uniformly_in_units_of_the_range(variant: Variant) -> None:
    level, images = 0.4, 4000
    base = torch.randn((images, 3, 2), generator=seeded(9), dtype=torch.float64)
    x = base * torch.logspace(-2, 2, images)[:, None, None]  # were the range the batch's, no shift would be in bounds
    dims = (1,) if variant == "c2" else (1, 2)
    shift = (Brightness(level, variant, clip=False)(x, seeded(1)) - x) / (x.amax(dims, True) - x.amin(dims, True))
    torch.testing.assert_close(shift, shift[:, :1].expand_as(shift))  # the same at all positions
    assert torch.allclose(shift[..., 0], shift[..., 1]) == (variant == "default")
    values = shift[:, 0, 0]
    assert values.abs().max() <= level + 1e-9
    assert values.abs().max() > 0.99 * level
    assert abs(values.mean()) < 4 * level / np.sqrt(3 * images)
    assert values.var() == pytest.approx(level**2 / 3, rel=0.06)


@pytest.mark.parametrize("level", [0.3, 1.0])
def test_contrast_factor_is_uniform(level: float) -> None:
    low, high = 1 / (1 + level), 1 + level
    factor = draws(Contrast(level, "c"), 2000, 4)
    assert low <= factor.min() < low + 0.01
    assert high - 0.01 < factor.max() <= high
    assert factor.mean() == pytest.approx((low + high) / 2, abs=4 * (high - low) / np.sqrt(12 * 8000))
    assert factor.var() == pytest.approx((high - low) ** 2 / 12, rel=0.06)


@pytest.mark.parametrize(("level", "most"), [(0.1, 1), (0.5, 4), (1.0, 7)])
def test_posterize_drops_a_uniform_number_of_bits(level: float, most: int) -> None:
    bits, counts = np.unique(draws(Posterize(level), 2000, 4).numpy(), return_counts=True)
    assert bits.tolist() == list(range(most + 1))
    expected = 8000 / (most + 1)
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()


def by_numpy(augment: Any, image: npt.NDArray[np.float64], value: npt.NDArray[np.float64]) -> Any:
    """One image (N, C), straight from the paper; `value` is broadcast against the channels."""
    axis = 0 if augment.variant == "c2" else None
    low, high = image.min(axis, keepdims=True), image.max(axis, keepdims=True)
    pixels = (image - low) / (high - low)
    if isinstance(augment, Brightness):
        pixels = np.clip(pixels + value, 0, 1)
    elif isinstance(augment, Contrast):
        mean = pixels.mean(0)
        pixels = np.clip((pixels - mean) * value + mean, 0, 1)
    else:
        dropped = np.broadcast_to(value.astype(np.uint8), pixels.shape)
        bits = np.rint(pixels * 255).astype(np.uint8) & np.left_shift(np.uint8(255), dropped)
        pixels = np.where(dropped == 0, pixels, bits / 255)
    return pixels * (high - low) + low


@pytest.mark.parametrize("augment", ALL[:9], ids=repr)
def test_transform_agrees_with_numpy(augment: Augmentation, tokens: Tensor) -> None:
    x = tokens.double()
    params = augment.make_params(x, seeded(5))
    [values] = params.values()
    expected = [
        by_numpy(augment, image.numpy(), value.double().numpy()) for image, value in zip(x, values, strict=True)
    ]
    np.testing.assert_allclose(augment.transform(x, params).numpy(), expected, rtol=1e-9, atol=1e-9)


@every_variant
def test_images_are_in_the_unit_range_and_map_back(variant: Variant, tokens: Tensor) -> None:
    image = to_image(tokens, variant)
    dims = (1,) if variant == "c2" else (1, 2)
    assert (image.pixels.amin(dims) == 0).all()
    assert (image.pixels.amax(dims) == 1).all()
    torch.testing.assert_close(from_image(image), tokens, rtol=1e-5, atol=1e-5)


def test_sequential_applies_its_steps_in_order(tokens: Tensor) -> None:
    steps = [Brightness(0.5), Posterize(1.0)]
    params = Sequential(steps).make_params(tokens, seeded())
    by_hand = steps[1].transform(steps[0].transform(tokens, params["brightness"]), params["posterize"])
    assert torch.equal(Sequential(steps)(tokens, seeded()), by_hand)
    assert not torch.equal(Sequential(steps[::-1]).transform(tokens, params), by_hand)
    assert torch.equal(Sequential([])(tokens, seeded()), tokens)


def test_sequential_parameters_are_reached_by_name() -> None:
    augment = Sequential([Brightness(0.2), Posterize(), Posterize(0.3)])
    assert augment.get_params()["brightness__level"] == 0.2
    assert augment.get_params()["posterize-2__level"] == 0.3
    assert set(augment.get_params(deep=False)) == {"steps"}
    copy = clone(augment).set_params(**{"brightness__level": 0.9, "posterize-1": Contrast(0.7), "posterize-2": ALL[8]})
    assert repr(augment) == "Sequential(steps=[Brightness(level=0.2), Posterize(), Posterize(level=0.3)])"
    assert list(map(repr, copy.steps)) == ["Brightness(level=0.9)", "Contrast(level=0.7)", repr(ALL[8])]
    copy.set_params(steps=[Brightness()], brightness__clip=False)
    assert repr(copy) == "Sequential(steps=[Brightness(clip=False)])"
    with pytest.raises(ValueError, match="sharpness"):
        augment.set_params(sharpness__level=1)


@pytest.mark.parametrize(
    ("augment", "error", "message"),
    [
        (Brightness(level=1.5), ValueError, "'level' parameter of Brightness .* Got 1.5"),
        (Contrast(level=-0.1), ValueError, "'level' parameter of Contrast .* Got -0.1"),
        (Posterize(level="much"), ValueError, "'level' parameter of Posterize .* Got 'much'"),  # type: ignore[arg-type]
        (Brightness(level=float("nan")), ValueError, "'level' parameter of Brightness .* Got nan"),
        (Contrast(variant="c3"), ValueError, "'variant' parameter of Contrast .* Got 'c3'"),  # type: ignore[arg-type]
        (Brightness(clip=3), ValueError, "'clip' parameter of Brightness .* Got 3"),  # type: ignore[arg-type]
        (Sequential([Brightness(), Posterize(2)]), ValueError, "'level' parameter of Posterize .* Got 2"),
        (Sequential([Brightness(), "blur"]), TypeError, "list of augmentations. Got 'blur'"),  # type: ignore[list-item]
        (Sequential(Brightness()), TypeError, "'steps' parameter .* Got Brightness"),
    ],
)
def test_invalid_parameters_are_named(augment: Augmentation, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        augment(torch.zeros(2, 3, 4), seeded())


@every_augmentation
@pytest.mark.parametrize("x", [torch.zeros(4), torch.zeros(1, 2, 3, 4), torch.zeros(2, 3, 4, dtype=torch.int64)])
def test_wrong_features_are_described(augment: Augmentation, x: Tensor) -> None:
    with pytest.raises(ValueError, match=r"floating point features of shape .* Got shape \(.*\), torch\."):
        augment(x, seeded())
