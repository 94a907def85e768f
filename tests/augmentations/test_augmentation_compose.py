"""Compositions: in a row, with some probability, one of several, and automatic ones."""

from typing import Any

import pytest
import torch
from augmentation_helpers import COMPOSED, TYPICAL, batch_of, each, same, seeded
from torch import Tensor

from frofa.augmentations import (
    Augmentation,
    Brightness,
    Contrast,
    Crop,
    GaussianNoise,
    Invert,
    MixUp,
    PatchDropout,
    Posterize,
    RandAugment,
    RandomApply,
    RandomChoice,
    Rotate,
    Sequential,
    TokenBatch,
    TrivialAugment,
)

BATCH = batch_of(TYPICAL)
IDENTITY = Sequential([])


def inverted(x: Tensor) -> Tensor:
    return x.amin((1, 2), keepdim=True) + x.amax((1, 2), keepdim=True) - x


def by_image(batch: TokenBatch, n: int) -> TokenBatch:
    """The first image of a batch, n times: what differs then was drawn."""
    return batch.select(torch.zeros(n, dtype=torch.int64))


def test_sequential_applies_its_steps_in_order() -> None:
    steps = [Brightness(0.5), Posterize(1.0)]
    params = Sequential(steps).make_params(BATCH, seeded())
    by_hand = steps[1].transform(steps[0].transform(BATCH, params["brightness"]), params["posterize"])
    assert same(Sequential(steps)(BATCH, seeded()), by_hand)
    assert not same(Sequential(steps[::-1]).transform(BATCH, params), by_hand)
    assert Sequential([])(BATCH, seeded()) is BATCH


def test_equal_steps_draw_apart() -> None:
    params = Sequential([GaussianNoise(), GaussianNoise(), Crop()]).make_params(BATCH, seeded())
    assert list(params) == ["gaussiannoise-1", "gaussiannoise-2", "crop"]
    assert not torch.equal(params["gaussiannoise-1"]["noise"], params["gaussiannoise-2"]["noise"])


def test_a_sequence_that_hides_and_then_drops_tokens_narrows_the_mask() -> None:
    crop, dropout = Crop(0.5), PatchDropout(0.5)
    params = Sequential([crop, dropout]).make_params(BATCH, seeded())
    window = crop.transform(BATCH, params["crop"]).mask
    mask = Sequential([crop, dropout]).transform(BATCH, params).mask
    assert window is not None
    assert mask is not None
    assert not (mask & ~window).any()
    assert torch.equal(mask.sum(1), (window.sum(1) / 2).round().clamp(min=1).long())


def test_random_apply_changes_some_images_and_leaves_the_others() -> None:
    batch = by_image(BATCH, 200)
    augment = RandomApply([Invert(1), Rotate()], p=0.3)
    params = augment.make_params(batch, seeded())
    applied, out = params["applied"], augment.transform(batch, params)
    all_changed = Sequential(augment.steps).transform(batch, params["steps"])
    assert 30 < applied.sum() < 90
    assert same(out.select(applied), all_changed.select(applied))
    assert same(out.select(~applied), batch.select(~applied))
    assert same(RandomApply(augment.steps, p=0)(batch, seeded()), batch)
    assert same(RandomApply([Invert(1)], p=1)(batch, seeded()), Invert(1)(batch, seeded()))


def test_random_apply_chooses_masks_labels_and_prefix_too() -> None:
    augment = RandomApply([PatchDropout(0.6), MixUp(1.0)], p=0.5)
    params = dict(augment.make_params(BATCH, seeded()), applied=torch.tensor([True, False, False, True, False]))
    out = augment.transform(BATCH, params)
    applied, changed = params["applied"], Sequential(augment.steps).transform(BATCH, params["steps"])
    assert out.mask is not None
    assert not changed.select(applied).mask.all()  # type: ignore[union-attr]
    assert out.mask[~applied].all()
    assert same(out.select(applied), changed.select(applied))
    assert same(out.select(~applied).replace(mask=None), BATCH.select(~applied))


def test_a_choice_gives_each_image_what_was_drawn_for_it() -> None:
    batch = batch_of(TYPICAL._replace(n=7))
    out = RandomChoice([Invert(1), IDENTITY])(batch, seeded()).patches
    is_inverted = torch.isclose(out, inverted(batch.patches)).all(2).all(1)
    is_same = (out == batch.patches).all(2).all(1)
    assert (is_inverted ^ is_same).all()
    assert int(is_same.sum()) in (3, 4)
    others = [RandomChoice([Invert(1), IDENTITY])(batch, seeded(seed)).patches for seed in range(1, 5)]
    assert not all(torch.equal(other, out) for other in others)


def test_a_choice_puts_masks_and_labels_back_in_order() -> None:
    batch = batch_of(TYPICAL._replace(n=9))
    choice = RandomChoice([Rotate(), MixUp(1.0), PatchDropout(0.6)])
    params = choice.make_params(batch, seeded())
    out = choice.transform(batch, params)
    assert out.mask is not None
    assert params["places"].sort().values.tolist() == list(range(9))
    for i, (option, drawn) in enumerate(params["parts"]):
        images = params["images"][3 * i : 3 * i + 3]
        assert torch.equal(params["places"][images], torch.arange(3 * i, 3 * i + 3))
        part = option.transform(batch.select(images), drawn)
        assert same(out.select(images).replace(mask=part.mask), part)
        assert out.mask[images].all() == (part.mask is None)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_there_may_be_more_options_than_images(n: int) -> None:
    batch = batch_of(TYPICAL._replace(n=n))
    for augment in (RandAugment(3, 0.5), TrivialAugment(), RandomChoice([Invert(1)] * 4)):
        assert augment(batch, seeded()).patches.shape == batch.patches.shape
    torch.testing.assert_close(RandomChoice([Invert(1)] * 4)(batch, seeded()).patches, inverted(batch.patches))


def test_a_choice_among_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="'choices' parameter of RandomChoice must not be empty"):
        RandomChoice([])(BATCH, seeded())


def test_rand_augment_applies_its_rounds_one_after_another() -> None:
    augment = RandAugment(2, 1.0, operations=[Invert()])
    params = augment.make_params(BATCH, seeded())
    assert list(params) == ["0", "1"]
    assert params["0"]["parts"][0][0].p == 1
    torch.testing.assert_close(augment.transform(BATCH, params).patches, BATCH.patches)  # inverted twice
    once = RandAugment(1, 1.0, operations=[Invert()])(BATCH, seeded())
    torch.testing.assert_close(once.patches, inverted(BATCH.patches))
    many = RandAugment(5, 1.0, operations=[Invert()])(BATCH, seeded())
    torch.testing.assert_close(many.patches, inverted(BATCH.patches))


@pytest.mark.parametrize("kind", [RandAugment, TrivialAugment])
def test_operations_are_the_given_ones_with_their_other_parameters(kind: Any) -> None:
    given = [Rotate(degrees=7, fill="zero"), Brightness(0.1, "default", clip=False)]
    names, generator = set(), seeded()
    for _ in range(20):
        params = kind(operations=given).make_params(BATCH, generator)
        rounds = params.values() if kind is RandAugment else [params]
        for option, _ in (part for round_ in rounds for part in round_["parts"]):
            names.add(type(option))
            assert isinstance(option, Brightness) or option.fill == "zero"
            assert isinstance(option, Rotate) or (option.variant, option.clip) == ("default", False)
    assert names == {Rotate, Brightness}
    assert [given[0].degrees, given[1].level] == [7, 0.1]


@pytest.mark.parametrize("augment", [RandAugment(operations=[IDENTITY]), TrivialAugment(operations=[IDENTITY])])
def test_the_identity_can_be_drawn(augment: Augmentation) -> None:
    assert same(augment(BATCH, seeded()), BATCH)


@pytest.mark.parametrize("augment", [RandAugment(operations=[MixUp()]), RandomApply([RandomChoice([MixUp()])])])
def test_mixing_of_labels_shows_through_compositions(augment: Augmentation) -> None:
    assert augment.mixes_labels
    assert Sequential([Crop(), augment]).mixes_labels
    assert not Sequential([Crop(), Contrast()]).mixes_labels
    assert not RandAugment().mixes_labels


@each(COMPOSED)
def test_parameters_are_drawn_apart_from_their_use(augment: Augmentation) -> None:
    params = augment.make_params(BATCH, seeded(3))
    assert same(augment.transform(BATCH, params), augment(BATCH, seeded(3)))
    empty = TokenBatch(torch.zeros_like(BATCH.patches), BATCH.grid, targets=BATCH.targets, prefix=BATCH.prefix)
    assert same(augment.transform(BATCH, augment.make_params(empty, seeded(3))), augment(BATCH, seeded(3)))
