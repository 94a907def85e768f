"""Packing: every item once, no sequence overfull, few sequences."""

import numpy as np
import pytest

from frofa.backbones.navit.packing import first_fit_decreasing


def test_every_item_once_and_no_sequence_overfull() -> None:
    lengths = np.random.default_rng(0).integers(1, 300, 2000).tolist()
    packs = first_fit_decreasing(lengths, 300)
    assert sorted(item for pack in packs for item in pack) == list(range(2000))
    filled = [sum(lengths[item] for item in pack) for pack in packs]
    assert max(filled) <= 300
    assert sum(filled) == sum(lengths)
    assert len(packs) <= 11 / 9 * np.ceil(sum(lengths) / 300) + 1
    assert sum(lengths) > 0.98 * 300 * len(packs)


def test_longest_first_into_the_first_with_room() -> None:
    assert first_fit_decreasing([3, 6, 4, 1], 7) == [[1, 3], [2, 0]]
    assert first_fit_decreasing([2, 5, 2, 2], 6) == [[1], [0, 2, 3]]
    assert first_fit_decreasing([7], 7) == [[0]]
    assert first_fit_decreasing([], 7) == []


@pytest.mark.parametrize("lengths", [[3, 8], [0, 3]])
def test_what_does_not_fit(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="expected lengths from 1 to 7"):
        first_fit_decreasing(lengths, 7)
