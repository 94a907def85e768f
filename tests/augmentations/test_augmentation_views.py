"""One draw for all images, as for augmentation at prediction."""

from collections.abc import Iterator

import pytest
import torch
from augmentation_helpers import KEEPS_LABELS, TYPICAL, assert_alike, batch_of, each, ragged_batch, same, seeded

from frofa.augmentations import Augmentation, TokenBatch

SEEDS = range(4)


def images(batch: TokenBatch) -> Iterator[TokenBatch]:
    return (batch.select(slice(i, i + 1)) for i in range(len(batch.patches)))


@each(KEEPS_LABELS)
@pytest.mark.parametrize("seed", SEEDS)
def test_equal_images_stay_equal(augment: Augmentation, seed: int) -> None:
    batch = batch_of(TYPICAL).select(torch.zeros(5, dtype=torch.int64))
    first, *others = images(augment.transform(batch, augment.make_view(batch, seeded(seed))))
    for other in others:
        assert_alike(other, first, augment)


@each(KEEPS_LABELS)
def test_equal_images_differ_without_a_view(augment: Augmentation) -> None:
    batch = batch_of(TYPICAL).select(torch.zeros(5, dtype=torch.int64))
    first, *others = images(augment(batch, seeded()))
    assert not all(same(first, other) for other in others)


@each(KEEPS_LABELS)
@pytest.mark.parametrize("seed", SEEDS)
def test_an_image_does_not_depend_on_the_others(augment: Augmentation, seed: int) -> None:
    for batch in (batch_of(TYPICAL), ragged_batch([(3, 5), (1, 1), (4, 4), (2, 7)], 8, 0.0)):
        whole = augment.transform(batch, augment.make_view(batch, seeded(seed)))
        for image, out in zip(images(batch), images(whole), strict=True):
            assert_alike(augment.transform(image, augment.make_view(image, seeded(seed))), out, augment)


@each(KEEPS_LABELS)
def test_a_view_is_one_draw_for_all(augment: Augmentation) -> None:
    batch = batch_of(TYPICAL)
    drawn = augment.make_params(batch.select(slice(1)), seeded())
    view = augment.transform(batch, augment.broadcast(drawn, 5))
    assert same(augment.transform(batch, augment.make_view(batch, seeded())), view)
    assert_alike(next(images(view)), augment.transform(batch.select(slice(1)), drawn), augment)
    views = [augment.transform(batch, augment.make_view(batch, seeded(seed))) for seed in SEEDS]
    assert not all(same(views[0], other) for other in views)
