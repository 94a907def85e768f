"""frofa.augmentations: what holds for every augmentation in every variant."""

from typing import Any

import pytest
import torch
from augmentation_helpers import (
    ALL,
    CLIPPING,
    GEOMETRIC,
    HIDES_NOTHING,
    IN_RANGE,
    NOISE,
    NOT_SPATIAL,
    SINGLE,
    STRETCHING,
    STYLISTIC,
    TYPICAL,
    UNCLIPPED,
    VARIANTS,
    Case,
    assert_alike,
    batch_of,
    bounds,
    each,
    every_case,
    parts,
    permuted,
    same,
    seeded,
    tokens_of,
)
from torch import Tensor

import frofa.augmentations
from frofa.augmentations import (
    Augmentation,
    Brightness,
    ChannelDropout,
    Contrast,
    GaussianNoise,
    PatchDropout,
    TokenBatch,
    Variant,
    from_image,
    to_image,
)

every_variant = pytest.mark.parametrize("variant", VARIANTS)
MAY_GROW = [*UNCLIPPED, *NOISE, *(augment for augment in SINGLE if isinstance(augment, ChannelDropout))]
NO_CHANCE = [augment for augment in STYLISTIC if getattr(augment, "p", None) is None]


def test_every_public_augmentation_is_among_the_tested() -> None:
    public = [getattr(frofa.augmentations, name) for name in frofa.augmentations.__all__]
    kinds = {kind for kind in public if isinstance(kind, type) and issubclass(kind, Augmentation)}
    assert kinds - {Augmentation} == {type(augment) for augment in ALL}


@each(ALL)
@every_case
def test_level_zero_is_exactly_the_identity(augment: Augmentation, case: Case) -> None:
    batch = batch_of(case)
    out = augment.at_level(0)(batch, seeded())
    assert out.mask is None or out.mask.all()
    assert same(out.replace(mask=None), batch)


@each(ALL)
@every_case
def test_shape_and_dtype_are_kept_and_the_result_is_finite(augment: Augmentation, case: Case) -> None:
    batch = batch_of(case)
    out = augment(batch, seeded())
    assert out.grid == batch.grid
    for name, value in parts(batch).items():
        new = getattr(out, name)
        assert (new.shape, new.dtype, new.device) == (value.shape, value.dtype, value.device)
        assert new.isfinite().all()
    if out.mask is not None:
        assert out.mask.shape == batch.patches.shape[:2]
        assert out.mask.any(1).all()


@each([augment for augment in SINGLE if not isinstance(augment, GaussianNoise)])  # drawn in the features' dtype
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(augment: Augmentation, dtype: torch.dtype) -> None:
    batch = batch_of(TYPICAL._replace(dtype=dtype))
    mask = torch.rand(batch.patches.shape[:2], generator=seeded(1)) < 0.7
    for half in (batch, batch.replace(mask=mask)):
        assert half.prefix is not None
        wide = augment(half.replace(patches=half.patches.float(), prefix=half.prefix.float()), seeded())
        assert wide.prefix is not None
        rounded = wide.replace(patches=wide.patches.to(dtype), prefix=wide.prefix.to(dtype))
        assert same(augment(half, seeded()), rounded)


@each([*IN_RANGE, *STRETCHING, *(augment for augment in GEOMETRIC if "zero" not in repr(augment))])
@every_case
def test_the_range_is_kept(augment: Augmentation, case: Case) -> None:
    batch = batch_of(case)
    low, high = bounds(batch.patches, augment)
    slack = 4 * torch.finfo(case.dtype).eps * torch.maximum(low.abs(), high.abs())
    out = augment(batch, seeded()).patches
    assert (out >= low - slack).all()
    assert (out <= high + slack).all()


@each([*MAY_GROW, *(augment for augment in GEOMETRIC if "zero" in repr(augment))])
def test_the_range_is_left_where_nothing_keeps_to_it(augment: Augmentation) -> None:
    x = tokens_of(TYPICAL) + 100
    low, high = bounds(x, augment)
    out = augment(batch_of(TYPICAL).replace(patches=x), seeded()).patches
    assert ((out < low - 1e-2) | (out > high + 1e-2)).any()


@each(ALL)
@every_case
def test_permuting_images_commutes(augment: Augmentation, case: Case) -> None:
    batch = batch_of(case)
    order = torch.randperm(case.n, generator=seeded(1))
    params = augment.make_params(batch, seeded())
    expected = augment.transform(batch, params).select(order)
    assert_alike(augment.transform(batch.select(order), permuted(params, order)), expected, augment)


@each(ALL)
def test_the_generator_determines_the_result(augment: Augmentation) -> None:
    batch, generator = batch_of(TYPICAL), seeded(3)
    first, second = augment(batch, generator), augment(batch, generator)
    assert same(first, augment(batch, seeded(3)))
    assert not same(first, augment(batch, seeded(4)))
    assert not same(first, second)


@each(ALL)
def test_the_input_is_not_modified(augment: Augmentation) -> None:
    batch = batch_of(TYPICAL)
    copies = {name: value.clone() for name, value in parts(batch).items()}
    params = augment.make_params(batch, seeded())
    first = augment.transform(batch, params)
    assert not same(first, batch)
    assert same(TokenBatch(grid=batch.grid, **copies), batch)
    assert same(augment.transform(batch, params), first)  # neither are the parameters


@each(ALL)
@pytest.mark.parametrize(
    "x",
    [
        tokens_of(TYPICAL) * 1e30 / 20,
        tokens_of(TYPICAL) * 1e-38,
        tokens_of(TYPICAL) * 1e-43,
        torch.tensor([0.0, -3.7, 1e30])[:, None, None].expand(3, 49, 2),
        torch.tensor([60000.0, -65504.0, 65504.0]).half()[:, None, None].expand(3, 49, 2),
        tokens_of(TYPICAL._replace(dtype=torch.float64)).clamp(-1, 1).mul(65504).half(),
        tokens_of(TYPICAL._replace(dtype=torch.float64)).mul(1e30).bfloat16(),
    ],
    ids=["huge", "tiny", "subnormal", "constant", "constant half", "largest half", "huge bfloat16"],
)
def test_extreme_features_stay_finite(augment: Augmentation, x: Tensor) -> None:
    if x.dtype == torch.float16 and augment in MAY_GROW:
        x = x / 8  # they may leave the range, and then what half precision can hold
    batch = TokenBatch.from_tokens(x, targets=torch.eye(3)[torch.arange(len(x)) % 3])
    mask = torch.rand(x.shape[:2], generator=seeded(1)) < 0.7
    assert augment(batch, seeded()).patches.isfinite().all()
    assert augment(batch.replace(mask=mask), seeded()).patches.isfinite().all()


@each([augment for augment in STYLISTIC if augment not in UNCLIPPED or isinstance(augment, Brightness)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_constant_map_is_exactly_the_identity(augment: Augmentation, dtype: torch.dtype) -> None:
    x = torch.tensor([0.0, -3.7, 1e4], dtype=dtype)[:, None, None].expand(3, 9, 8)
    assert torch.equal(augment(x, seeded()), x)


@each([augment for augment in NO_CHANCE if getattr(augment, "variant", "") == "c2" and augment not in UNCLIPPED])
def test_c2_leaves_a_constant_channel_and_changes_the_others(augment: Augmentation) -> None:
    x = tokens_of(TYPICAL)
    x[:, :, 3] = 5.3
    out = augment(x, seeded())
    assert torch.equal(out[:, :, 3], x[:, :, 3])
    assert (out != x).any(1).any(0).tolist() == [True, True, True, False, True, True, True, True]


@each([augment for augment in HIDES_NOTHING if not augment.mixes_labels])
def test_a_tensor_gives_a_tensor_of_the_same_patches(augment: Augmentation) -> None:
    x = tokens_of(TYPICAL)
    assert torch.equal(augment(x, seeded()), augment(TokenBatch.from_tokens(x), seeded()).patches)


@each([augment for augment in NOT_SPATIAL if not augment.mixes_labels and not isinstance(augment, PatchDropout)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_pooled_features_are_one_token(augment: Augmentation, dtype: torch.dtype) -> None:
    x = tokens_of(TYPICAL._replace(dtype=dtype))
    pooled = augment(x[:, 0], seeded())
    assert pooled.dtype == dtype
    assert torch.equal(pooled, augment(x[:, :1], seeded())[:, 0])


def test_a_single_position_has_no_contrast_and_no_channel_range() -> None:
    pooled = tokens_of(TYPICAL)[:, 0]
    for variant in VARIANTS:
        torch.testing.assert_close(Contrast(1.0, variant)(pooled, seeded()), pooled)
    assert torch.equal(Brightness(1.0, "c2")(pooled, seeded()), pooled)
    assert not torch.equal(Brightness(1.0, "c")(pooled, seeded()), pooled)


@pytest.mark.parametrize("kind", CLIPPING)
@every_variant
def test_clipping_is_clipping_of_the_free_result(kind: Any, variant: Variant) -> None:
    x = tokens_of(TYPICAL)
    free = kind(1.0, variant, clip=False)(x, seeded())
    assert torch.equal(kind(1.0, variant)(x, seeded()), free.clamp(*bounds(x, kind(1.0, variant))))


@every_variant
@every_case
def test_images_are_in_the_unit_range_and_map_back(variant: Variant, case: Case) -> None:
    x = tokens_of(case)
    x[:, :, 0] = 5.3
    image = to_image(x, variant)
    low, high = bounds(image.pixels, Brightness(variant=variant))
    varies = image.span > 0
    assert (low == 0).all()
    assert torch.equal(high, varies.to(case.dtype))
    back = from_image(image)
    slack = 4 * torch.finfo(case.dtype).eps * x.abs().amax((1, 2), keepdim=True)
    assert ((back - x).abs() <= slack).all()
    assert torch.equal(back[(~varies).expand_as(x)], x[(~varies).expand_as(x)])
    assert variant != "c2" or not varies[:, :, 0].any()


@every_variant
@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e30])
def test_images_of_any_scale_are_in_the_unit_range(variant: Variant, scale: float) -> None:
    x = tokens_of(TYPICAL) * scale / 10
    image = to_image(x, variant)
    low, high = bounds(image.pixels, Brightness(variant=variant))
    assert (low == 0).all()
    assert (high == 1).all()
    assert ((from_image(image) - x).abs() <= 1e-6 * x.abs().amax((1, 2), keepdim=True)).all()


@each(ALL)
@pytest.mark.parametrize("x", [torch.zeros(4), torch.zeros(1, 2, 3, 4), torch.zeros(2, 3, 4, dtype=torch.int64)])
def test_wrong_features_are_described(augment: Augmentation, x: Tensor) -> None:
    with pytest.raises(ValueError, match=r"floating point features of shape .* Got shape \(.*\), torch\."):
        augment(x, seeded())
