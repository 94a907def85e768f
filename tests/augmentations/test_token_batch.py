"""TokenBatch: splitting tokens, checks, selection and joining."""

from typing import Any

import pytest
import torch
from augmentation_helpers import TYPICAL, batch_of, ragged_batch, same
from torch import Tensor

from frofa.augmentations import TokenBatch


def test_tokens_are_split_into_prefix_and_patches() -> None:
    tokens = torch.arange(2 * 7 * 3.0).view(2, 7, 3)
    batch = TokenBatch.from_tokens(tokens, n_prefix=3)
    assert torch.equal(batch.patches, tokens[:, 3:])
    assert batch.prefix is not None
    assert torch.equal(batch.prefix, tokens[:, :3])
    assert torch.equal(batch.tokens, tokens)
    assert TokenBatch.from_tokens(tokens).prefix is None
    assert torch.equal(TokenBatch.from_tokens(tokens).tokens, tokens)


@pytest.mark.parametrize(("n_prefix", "grid"), [(0, None), (1, None), (5, (2, 2)), (8, (1, 1)), (7, None)])
def test_a_square_number_of_patches_lies_on_a_square(n_prefix: int, grid: tuple[int, int] | None) -> None:
    squares = {0: (3, 3)}
    batch = TokenBatch.from_tokens(torch.zeros(2, 9, 3), n_prefix=n_prefix)
    assert batch.grid == squares.get(n_prefix, grid)


def test_pooled_features_are_one_token_without_positions() -> None:
    batch = TokenBatch.from_tokens(torch.zeros(4, 9), targets=torch.eye(4))
    assert batch.patches.shape == (4, 1, 9)
    assert batch.grid is None
    assert batch.targets is not None


def test_the_mask_of_tokens_shows_the_prefix() -> None:
    batch = batch_of(TYPICAL)
    assert batch.token_mask is None
    mask = torch.rand(5, 49, generator=torch.Generator().manual_seed(0)) < 0.5
    whole = batch.replace(mask=mask).token_mask
    assert whole is not None
    assert whole[:, :2].all()
    assert torch.equal(whole[:, 2:], mask)
    assert batch.replace(mask=mask, prefix=None).token_mask is mask


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": torch.zeros(3)}, r"floating point features .* Got shape \(3,\), torch.float32"),
        ({"tokens": torch.zeros(1, 2, 3, 4)}, r"Got shape \(1, 2, 3, 4\), torch.float32"),
        ({"tokens": torch.zeros(2, 6, 3, dtype=torch.int32)}, r"Got shape \(2, 6, 3\), torch.int32"),
        ({"tokens": [[1.0, 2.0]]}, "floating point features .* Got list"),
        ({"n_prefix": 6}, "n_prefix must leave at least one of the 6 tokens. Got 6"),
        ({"n_prefix": -1}, "n_prefix must leave at least one of the 6 tokens. Got -1"),
        ({"grid": (2, 2)}, r"height \* width = 6 tokens. Got \(2, 2\)"),
        ({"grid": (-2, -3)}, r"height \* width = 6 tokens. Got \(-2, -3\)"),
        ({"grid": (2, 3), "n_prefix": 1}, r"height \* width = 5 tokens. Got \(2, 3\)"),
        ({"grid": torch.tensor([[2, 3]])}, r"each of the 2 images, of at most 6 tokens. Got \[\[2, 3\]\]"),
        ({"grid": torch.tensor([[2, 3], [7, 1]])}, r"of at most 6 tokens. Got \[\[2, 3\], \[7, 1\]\]"),
        ({"grid": torch.tensor([[2, 3], [0, 1]])}, r"of at most 6 tokens. Got \[\[2, 3\], \[0, 1\]\]"),
        ({"grid": torch.tensor([[2.0, 3.0], [1.0, 1.0]])}, r"of at most 6 tokens. Got \[\[2\.0"),
        ({"mask": torch.ones(2, 6)}, r"mask must be bool of shape \(2, 6\). Got torch.float32, \(2, 6\)"),
        (
            {"mask": torch.ones(2, 5, dtype=torch.bool)},
            r"mask must be bool of shape \(2, 6\). Got torch.bool, \(2, 5\)",
        ),
        ({"mask": torch.ones(6, dtype=torch.bool)}, r"mask must have 2 dimensions and 2 rows. Got \(6,\)"),
        ({"mask": torch.ones(2, 6, dtype=torch.bool), "n_prefix": 2}, r"mask must be bool of shape \(2, 4\)"),
        ({"targets": torch.eye(3)}, r"targets must have 2 dimensions and 2 rows. Got \(3, 3\)"),
        ({"targets": torch.zeros(2)}, r"targets must have 2 dimensions and 2 rows. Got \(2,\)"),
        ({"tokens": torch.zeros(2, 6), "targets": torch.eye(3)}, "targets must have 2 dimensions and 2 rows"),
    ],
)
def test_what_does_not_fit_is_described(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TokenBatch.from_tokens(**{"tokens": torch.zeros(2, 6, 3), **changes})


def test_selected_images_keep_what_belongs_to_them() -> None:
    whole, ragged = batch_of(TYPICAL), ragged_batch([(2, 3), (1, 4), (5, 1)], 2, 0.0)
    for batch in (whole, ragged):
        rows = torch.tensor([2, 0])
        chosen = batch.select(rows)
        assert torch.equal(chosen.patches, batch.patches[rows])
        for name in ("mask", "targets", "prefix"):
            value = getattr(batch, name)
            assert getattr(chosen, name) is None if value is None else torch.equal(getattr(chosen, name), value[rows])
        assert same(batch.select(slice(0, 1)), batch.select(torch.tensor([0])))
    assert whole.select(slice(1)).grid == (7, 7)
    grid = ragged.select(torch.tensor([2, 0])).grid
    assert isinstance(grid, Tensor)
    assert grid.tolist() == [[5, 1], [2, 3]]


def test_joining_is_the_inverse_of_selecting() -> None:
    for batch in (batch_of(TYPICAL), ragged_batch([(2, 3), (1, 4), (5, 1)], 2, 0.0)):
        joined = TokenBatch.join([batch.select(slice(1)), batch.select(slice(1, None))])
        assert same(joined, batch)
        assert torch.equal(torch.as_tensor(joined.grid), torch.as_tensor(batch.grid))


def test_joining_shows_all_tokens_of_what_has_no_mask() -> None:
    batch = batch_of(TYPICAL)
    hidden = torch.zeros(5, 49, dtype=torch.bool)
    joined = TokenBatch.join([batch.replace(mask=hidden), batch])
    assert joined.mask is not None
    assert joined.mask.all(1).tolist() == [False] * 5 + [True] * 5
    assert same(TokenBatch.join([batch]), batch)


def test_padding_is_hidden_without_being_asked() -> None:
    tokens, grid = torch.zeros(2, 6, 3), torch.tensor([[2, 3], [1, 2]])
    batch = TokenBatch.from_tokens(tokens, grid=grid)
    assert batch.mask is not None
    assert batch.mask.sum(1).tolist() == [6, 2]
    shown = torch.ones(2, 6, dtype=torch.bool)
    shown[:, 0] = False
    both = TokenBatch.from_tokens(tokens, grid=grid, mask=shown).mask
    assert both is not None
    assert both.sum(1).tolist() == [5, 1]
    assert TokenBatch.from_tokens(tokens, grid=grid[[0, 0]]).mask is None


def test_what_is_no_grid_and_no_mask_is_an_error() -> None:
    tokens = torch.zeros(2, 6, 3)
    for grid in (8, [[2, 3], [2, 3]], (2, 3, 1)):
        with pytest.raises(ValueError, match="grid must be"):
            TokenBatch.from_tokens(tokens, grid=grid)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"mask must have 2 dimensions .* Got list"):
        TokenBatch.from_tokens(tokens, mask=[True] * 6)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one token of every image"):
        TokenBatch.from_tokens(tokens, mask=torch.zeros(2, 6, dtype=torch.bool))
    with pytest.raises(ValueError, match="no prefix, grid or mask"):
        TokenBatch.from_tokens(tokens[:, 0], n_prefix=1)


def test_repr_says_shapes() -> None:
    batch = TokenBatch.from_tokens(torch.zeros(2, 10, 3), n_prefix=1, targets=torch.eye(2))
    assert (
        repr(batch) == "TokenBatch(patches=shape (2, 9, 3), grid=(3, 3), targets=shape (2, 2), prefix=shape (2, 1, 3))"
    )
