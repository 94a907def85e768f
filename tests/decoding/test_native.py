"""Images as patches: what timm's NaFlex evaluation transform gives, bit for bit."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from timm.data.naflex_transforms import get_image_size_for_seq

from frofa.backbones.loading import load_backbone
from frofa.backbones.navit.backbone import native_backbone
from frofa.decoding.patches import grids_of, native_grid, patchify

MODEL = "frofa/vit_tiny_tin200"


@pytest.mark.parametrize("patch_size", [(16, 16), (14, 14), (8, 16)])
def test_grids_are_those_of_timm(patch_size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    sizes = np.round(np.exp(rng.uniform(0, 9, (300, 2)))).astype(int).tolist()
    for height, width in [*sizes, [1, 5000], [5000, 1], [1, 1], [64, 64]]:
        for budget in (1, 2, 64, 256, 1000):
            _, target = get_image_size_for_seq((height, width), patch_size, budget)
            grid = native_grid(height, width, patch_size, budget)
            assert (grid[0] * patch_size[0], grid[1] * patch_size[1]) == target
            assert 1 <= grid[0] * grid[1] <= budget
            _, target = get_image_size_for_seq((height, width), patch_size, budget, max_ratio=1.0)
            grid = native_grid(height, width, patch_size, budget, enlarge=False)
            assert (grid[0] * patch_size[0], grid[1] * patch_size[1]) == target
            assert max(target[0] - height - patch_size[0], target[1] - width - patch_size[1]) < 0


def test_an_image_too_large_to_shrink() -> None:
    with pytest.raises(ValueError, match="1000000000 x 1000 pixels is too large to be resized to 16 patches"):
        native_grid(10**9, 1000, (16, 16), 16)


@pytest.mark.parametrize("size", [(64, 64), (500, 375), (30, 200), (3, 300), (8, 512), (11, 7)])
@pytest.mark.parametrize("budget", [1, 64, 100])
def test_patches_are_those_of_timm(size: tuple[int, int], budget: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    backbone = native_backbone(load_backbone(MODEL, None, "cpu"), budget)
    config: dict[str, Any] = load_backbone(MODEL, None, "cpu").data_config
    transform = create_transform(**config, naflex=True, patch_size=8, max_seq_len=budget, patchify=True)
    expected = transform(Image.fromarray(pixels))
    found = backbone.preprocess(Image.fromarray(pixels))
    assert torch.equal(found, expected["patches"])
    row: Any = backbone.preprocessing.geometry(Image.fromarray(pixels))  # type: ignore[misc]
    [grid] = grids_of(row[None])
    assert grid.tolist() == (expected["patch_coord"].max(0).values + 1).tolist()


def test_the_budget_of_64_gives_one_row_of_64_patches() -> None:
    assert native_grid(8, 512, (8, 8), 64) == (1, 64)
    assert native_grid(512, 8, (8, 8), 64) == (64, 1)
    assert native_grid(300, 200, (8, 8), 1) == (1, 1)


def test_patchify_goes_row_by_row() -> None:
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    patches = patchify(pixels, (2, 3))
    assert patches.shape == (4, 18)
    np.testing.assert_array_equal(patches[1], pixels[:2, 3:].ravel())
    np.testing.assert_array_equal(patches[2], pixels[2:, :3].ravel())


def test_specs_of_budgets_differ() -> None:
    backbone = load_backbone(MODEL, None, "cpu")
    small, large = native_backbone(backbone, 16), native_backbone(backbone, 17)
    assert small.data_config == {**large.data_config, "max_tokens": 16}
    assert native_backbone(backbone, 16) is small
