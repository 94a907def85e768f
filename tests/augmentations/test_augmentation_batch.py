"""Batches of tokens: grids, masks, prefix and targets, and what augmentations make of them."""

import math
from typing import Any

import pytest
import torch
from augmentation_helpers import (
    GEOMETRIC,
    HIDES_NOTHING,
    MASKING,
    NOISE,
    SINGLE,
    SPATIAL,
    STYLISTIC,
    TYPICAL,
    Case,
    assert_alike,
    batch_of,
    each,
    ragged_batch,
    same,
    seeded,
    tokens_of,
)
from torch import Tensor

from frofa.augmentations import (
    Augmentation,
    Crop,
    Equalize,
    MixUp,
    PatchDropout,
    RandomApply,
    RandomChoice,
    Rotate,
    Sequential,
    TokenBatch,
)

SIZES = [(3, 17), (1, 1), (7, 2), (8, 8), (2, 3), (9, 5)]
EVENLY: list[Augmentation] = [  # options of which each is drawn for each image: not the labels'
    RandomChoice([Rotate(), PatchDropout(0.6), Equalize(1, "c2")]),
    RandomApply([Crop(0.2), Rotate(fill="edge")]),
]


def alone(batch: TokenBatch, i: int, params: Any) -> tuple[TokenBatch, Any]:
    """One image of a padded batch as a batch of its own grid, and its parameters."""
    assert isinstance(batch.grid, Tensor)
    height, width = (int(size) for size in batch.grid[i])
    n_tokens, n_padded = height * width, batch.patches.shape[1]

    def own(value: Any) -> Any:
        if not isinstance(value, Tensor) or value.ndim == 0:
            return value
        one = value[i : i + 1]
        return one[:, :n_tokens] if one.ndim > 1 and one.shape[1] == n_padded else one

    tokens = TokenBatch.from_tokens(batch.patches[i : i + 1, :n_tokens], grid=(height, width))
    return tokens, {name: own(value) for name, value in params.items()}


@each([augment for augment in SINGLE if not augment.mixes_labels])
@pytest.mark.parametrize("padding", [0.0, 1e6, math.nan, math.inf])
def test_padded_images_are_augmented_as_if_alone(augment: Augmentation, padding: float) -> None:
    batch = ragged_batch(SIZES, 3, padding)
    params = augment.make_params(batch, seeded(1))
    out = augment.transform(batch, params)
    assert out.mask is not None
    for i in range(len(SIZES)):
        image, own = alone(batch, i, params)
        expected = augment.transform(image, own)
        n_tokens = image.patches.shape[1]
        cut = TokenBatch(out.patches[i : i + 1, :n_tokens], mask=out.mask[i : i + 1, :n_tokens])
        seen = torch.ones(1, n_tokens, dtype=torch.bool) if expected.mask is None else expected.mask
        assert_alike(cut, TokenBatch(expected.patches, mask=seen), augment)
        assert not out.mask[i, n_tokens:].any()


@each(EVENLY)
def test_choices_of_padded_images_keep_each_image_with_its_grid(augment: Augmentation) -> None:
    batch, ones = ragged_batch(SIZES, 3, 0.0), ragged_batch(SIZES, 3, 1.0)
    assert isinstance(batch.grid, Tensor)
    out = augment(batch, seeded())
    assert out.grid is batch.grid
    assert out.mask is not None
    assert batch.mask is not None
    assert not (out.mask & ~batch.mask).any()
    seen = out.mask.unsqueeze(2)
    assert torch.equal(out.patches * seen, augment(ones, seeded()).patches * seen)  # padding is never looked at


@each([augment for augment in STYLISTIC if augment not in SPATIAL])
@pytest.mark.parametrize("hidden", [1e6, math.nan, -math.inf])
def test_hidden_tokens_have_no_say(augment: Augmentation, hidden: float) -> None:
    x = tokens_of(TYPICAL)
    rows = torch.rand(x.shape[:2], generator=seeded(1)).argsort(1)[:, :20].sort(1).values
    mask = torch.zeros(x.shape[:2], dtype=torch.bool).scatter(1, rows, True)
    batch = TokenBatch(x.masked_fill(~mask.unsqueeze(2), hidden), mask=mask)
    params = dict(augment.make_params(batch, seeded()))
    out = augment.transform(batch, params)
    assert out.mask is mask
    each_row = rows.unsqueeze(2).expand(-1, -1, x.shape[2])
    if augment in NOISE:
        params["noise"] = params["noise"].gather(1, each_row)
    expected = augment.transform(TokenBatch(x.gather(1, each_row)), params)
    assert_alike(TokenBatch(out.patches.gather(1, each_row)), expected, augment)


@each([augment for augment in GEOMETRIC if "fill" not in repr(augment) and not isinstance(augment, Rotate)])
def test_the_mean_that_fills_is_of_seen_tokens(augment: Augmentation) -> None:
    batch = batch_of(TYPICAL)
    mask = torch.rand(batch.patches.shape[:2], generator=seeded(1)) < 0.5
    params = {name: torch.full_like(value, 1000) for name, value in augment.make_params(batch, seeded()).items()}
    out = augment.transform(batch.replace(mask=mask), params).patches[:, 0]
    mean = torch.stack([image[seen].mean(0) for image, seen in zip(batch.patches, mask, strict=True)])
    torch.testing.assert_close(out, mean, rtol=1e-4, atol=1e-4)


@each([augment for augment in HIDES_NOTHING if not augment.mixes_labels])
def test_prefix_targets_and_mask_are_handed_on(augment: Augmentation) -> None:
    batch = batch_of(TYPICAL)
    mask = torch.rand(batch.patches.shape[:2], generator=seeded(1)) < 0.7
    out = augment(batch.replace(mask=mask), seeded())
    assert out.prefix is batch.prefix
    assert out.targets is batch.targets
    assert out.mask is mask
    assert same(out.replace(patches=batch.patches, mask=None), batch)


@each(MASKING)
def test_what_hides_tokens_moves_none(augment: Augmentation) -> None:
    batch = batch_of(TYPICAL)
    out = augment(batch, seeded())
    assert out.patches is batch.patches
    assert out.prefix is batch.prefix
    assert out.mask is not None
    with pytest.raises(ValueError, match=f"{type(augment).__name__} drops tokens, .* give it a TokenBatch"):
        augment(batch.patches, seeded())


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (7, 7), (3, 17)])
def test_patch_dropout_keeps_so_many_and_at_least_one(rate: float, grid: tuple[int, int]) -> None:
    out = PatchDropout(rate)(batch_of(Case(5, grid, 1, torch.float32)), seeded())
    assert out.mask is not None
    assert out.mask.sum(1).tolist() == [max(1, round((1 - rate) * math.prod(grid)))] * 5


@pytest.mark.parametrize("min_side", [0.01, 0.3, 1.0])
def test_a_crop_is_one_window_of_whole_tokens(min_side: float) -> None:
    batch = batch_of(Case(200, (5, 12), 1, torch.float32))
    params = Crop(min_side).make_params(batch, seeded())
    mask = Crop(min_side).transform(batch, params).mask
    assert mask is not None
    rows, columns = mask.view(200, 5, 12).any(2), mask.view(200, 5, 12).any(1)
    assert torch.equal(mask.view(200, 5, 12), rows[:, :, None] & columns[:, None])
    for shown, length in ((rows, 5), (columns, 12)):
        assert torch.equal(shown.sum(1, keepdim=True), (params["side"] * length).round().clamp(min=1).long())
        assert ((shown[:, 1:] != shown[:, :-1]).sum(1) <= 2).all()  # in one piece


def test_crops_and_dropout_of_hidden_tokens_leave_at_least_one() -> None:
    batch = batch_of(Case(300, (5, 5), 1, torch.float32))
    for augment in (Crop(0.01), PatchDropout(0.9)):
        out = Sequential([augment, augment, Crop(0.3)])(batch, seeded())
        first = augment.transform(batch, augment.make_params(batch, seeded()))
        assert out.mask is not None
        assert first.mask is not None
        assert out.mask.any(1).all()
        assert not (out.mask & ~first.mask).any()


def test_mixup_mixes_everything_in_one_proportion() -> None:
    batch = batch_of(TYPICAL)
    assert batch.targets is not None
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0])[:, None]
    batch = batch.replace(targets=batch.targets * weights)
    params = MixUp(1.0).make_params(batch, seeded())
    out = MixUp(1.0).transform(batch, params)
    assert out.targets is not None
    assert out.mask is None
    torch.testing.assert_close(out.targets.sum(), weights.sum())
    share, rest = params["proportion"], 1 - params["proportion"]
    assert 0 < share < 1
    for name in ("patches", "targets", "prefix"):
        x = getattr(batch, name)
        torch.testing.assert_close(getattr(out, name), share * x + rest * x[params["partner"]])


def test_mixup_shows_the_tokens_that_either_image_has() -> None:
    batch = ragged_batch([(2, 2), (1, 3)], 2, math.nan)
    params = {"partner": torch.tensor([1, 0]), "proportion": torch.tensor(0.75)}
    out = MixUp().transform(batch, params)
    assert out.mask is not None
    assert out.mask.tolist() == [[True] * 4, [True] * 4]
    torch.testing.assert_close(out.patches[:, 3], torch.tensor([[0.75], [0.25]]) * batch.patches[0, 3])
    torch.testing.assert_close(out.patches[0, :3], 0.75 * batch.patches[0, :3] + 0.25 * batch.patches[1, :3])
    for seed in range(5):
        off = MixUp(0)(batch, seeded(seed))
        assert off.mask is not None
        assert off.mask.tolist() == [[True] * 4, [True] * 3 + [False]]


def test_mixup_without_labels_is_an_error() -> None:
    for features in (tokens_of(TYPICAL), TokenBatch.from_tokens(tokens_of(TYPICAL))):
        with pytest.raises(ValueError, match="MixUp mixes labels too: give it a TokenBatch with targets"):
            MixUp()(features, seeded())


@each(SPATIAL)
def test_features_without_positions_are_described(augment: Augmentation) -> None:
    name = type(augment).__name__
    with pytest.raises(ValueError, match=f"{name} needs tokens on a grid, .* pooled features have no positions"):
        augment(torch.zeros(2, 8), seeded())
    with pytest.raises(ValueError, match=rf"{name} .* 6 tokens are no square: say .*grid=\(height, width\)"):
        augment(torch.zeros(2, 6, 8), seeded())
