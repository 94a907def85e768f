"""Geometric augmentations and resized crops against torch's own sampling, torchvision, and plain indexing."""

import math
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from augmentation_helpers import Case, seeded, tokens_of
from PIL import Image
from torch import Tensor

from frofa.augmentations import (
    Augmentation,
    InceptionCrop,
    ResizedCrop,
    Rotate,
    ShearX,
    ShearY,
    TokenBatch,
    TranslateX,
    TranslateY,
)

Fill = Literal["mean", "edge", "zero"]
every_fill = pytest.mark.parametrize("fill", ["mean", "edge", "zero"])
every_grid = pytest.mark.parametrize("grid", [(1, 1), (2, 3), (7, 7), (8, 8), (3, 17)])
N = 4


def images_of(grid: tuple[int, int]) -> Tensor:
    return tokens_of(Case(N, grid, 3, torch.float64))


def ours(augment: Augmentation, x: Tensor, grid: tuple[int, int], **params: Tensor) -> Tensor:
    return augment.transform(TokenBatch.from_tokens(x, grid=grid), params).patches


def sampled(x: Tensor, grid: tuple[int, int], theta: Tensor, fill: Fill) -> Tensor:
    """Sample (n, N, C) at the places that `theta` (n, 2, 3) gives in normalised coordinates, x before y."""
    image = x.unflatten(1, grid).permute(0, 3, 1, 2)
    places = F.affine_grid(theta, list(image.shape), align_corners=False)
    filler = image.mean((2, 3), keepdim=True) if fill == "mean" else torch.zeros((), dtype=x.dtype)
    padding = "border" if fill == "edge" else "zeros"
    out = F.grid_sample(image - filler, places, padding_mode=padding, align_corners=False) + filler
    return out.flatten(2).transpose(1, 2)


def affine(grid: tuple[int, int], matrix: list[list[Any]], x_shift: Any = 0.0, y_shift: Any = 0.0) -> Tensor:
    """In units of tokens about the centre, x before y, to theta."""
    height, width = grid
    (a, b), (c, d) = matrix
    rows = [[a, b * height / width, x_shift * 2 / width], [c * width / height, d, y_shift * 2 / height]]
    return torch.stack([torch.stack([torch.as_tensor(v).double().expand(N) for v in row], -1) for row in rows], -2)


@every_fill
@every_grid
def test_rotate_samples_backwards_about_the_centre(fill: Fill, grid: tuple[int, int]) -> None:
    x, angle = images_of(grid), torch.tensor([-30.0, 0.0, 11.0, 137.0])
    cos, sin = angle.deg2rad().cos(), angle.deg2rad().sin()
    expected = sampled(x, grid, affine(grid, [[cos, -sin], [sin, cos]]), fill)
    torch.testing.assert_close(ours(Rotate(fill=fill), x, grid, angle=angle[:, None]), expected, rtol=1e-4, atol=1e-4)


@every_fill
@every_grid
def test_shear_shifts_in_proportion_to_the_distance_from_the_middle(fill: Fill, grid: tuple[int, int]) -> None:
    x, slope = images_of(grid), torch.tensor([-0.3, 0.0, 0.05, 0.9])
    sideways = sampled(x, grid, affine(grid, [[1.0, slope], [0.0, 1.0]]), fill)
    torch.testing.assert_close(ours(ShearX(fill=fill), x, grid, slope=slope[:, None]), sideways, rtol=1e-4, atol=1e-4)
    down = sampled(x, grid, affine(grid, [[1.0, 0.0], [slope, 1.0]]), fill)
    torch.testing.assert_close(ours(ShearY(fill=fill), x, grid, slope=slope[:, None]), down, rtol=1e-4, atol=1e-4)


@every_fill
@every_grid
def test_translate_shifts_by_a_part_of_the_side(fill: Fill, grid: tuple[int, int]) -> None:
    x, part = images_of(grid), torch.tensor([-0.3, 0.0, 0.05, 0.9])
    unit = [[1.0, 0.0], [0.0, 1.0]]
    right = sampled(x, grid, affine(grid, unit, x_shift=-part * grid[1]), fill)
    torch.testing.assert_close(ours(TranslateX(fill=fill), x, grid, shift=part[:, None]), right, rtol=1e-4, atol=1e-4)
    down = sampled(x, grid, affine(grid, unit, y_shift=-part * grid[0]), fill)
    torch.testing.assert_close(ours(TranslateY(fill=fill), x, grid, shift=part[:, None]), down, rtol=1e-4, atol=1e-4)


@every_grid
@pytest.mark.parametrize("angle", [-25.0, 10.0, 90.0])
def test_rotate_is_torchvisions(grid: tuple[int, int], angle: float) -> None:
    vision: Any = pytest.importorskip("torchvision.transforms.v2.functional")
    x = images_of(grid)
    expected = vision.rotate(x.unflatten(1, grid).permute(0, 3, 1, 2), angle, Image.Resampling.BILINEAR.value)
    out = ours(Rotate(fill="zero"), x, grid, angle=torch.full((N, 1), angle))
    torch.testing.assert_close(out, expected.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("quarters", [1, 2, 3])
@every_fill
def test_quarter_turns_are_exact_and_counter_clockwise(quarters: int, fill: Fill) -> None:
    x = images_of((7, 7))
    out = ours(Rotate(180, fill=fill), x, (7, 7), angle=torch.full((N, 1), 90.0 * quarters))
    expected = torch.rot90(x.unflatten(1, (7, 7)), quarters, (1, 2)).flatten(1, 2)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-4)


def test_whole_shifts_move_tokens_right_and_down() -> None:
    x = images_of((4, 8))
    image = x.unflatten(1, (4, 8))
    quarter = torch.full((N, 1), 0.25)
    right = ours(TranslateX(fill="zero"), x, (4, 8), shift=quarter).unflatten(1, (4, 8))
    assert torch.equal(right, F.pad(image[:, :, :-2], (0, 0, 2, 0)))
    down = ours(TranslateY(fill="edge"), x, (4, 8), shift=quarter).unflatten(1, (4, 8))
    assert torch.equal(down, torch.cat([image[:, :1], image[:, :-1]], 1))
    away = ours(TranslateX(fill="mean"), x, (4, 8), shift=torch.ones(N, 1))
    torch.testing.assert_close(away, x.mean(1, keepdim=True).expand_as(x), rtol=1e-6, atol=1e-6)


def window(grid: tuple[int, int], height: Tensor, width: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """Theta of a window, in parts of the grid: its size, and its place as a part of the room."""
    return affine(
        grid,
        [[width, 0.0], [0.0, height]],
        x_shift=(left * (1 - width) + width / 2 - 0.5) * grid[1],
        y_shift=(top * (1 - height) + height / 2 - 0.5) * grid[0],
    )


@every_grid
@pytest.mark.parametrize("augment", [ResizedCrop(0.1), InceptionCrop(0.05, 2.0)], ids=repr)
def test_crops_stretch_their_window(augment: Augmentation, grid: tuple[int, int]) -> None:
    x = images_of(grid)
    params = augment.make_params(TokenBatch.from_tokens(x, grid=grid), seeded(2))
    height, width = (params.get(name, params.get("side"))[:, 0] for name in ("height", "width"))
    expected = sampled(x, grid, window(grid, height, width, params["top"][:, 0], params["left"][:, 0]), "edge")
    torch.testing.assert_close(ours(augment, x, grid, **params), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("side", "place"), [(4, (0, 0)), (2, (1, 5)), (6, (2, 1)), (1, (7, 0)), (8, (0, 0))])
def test_a_window_of_whole_tokens_is_interpolated(side: int, place: tuple[int, int]) -> None:
    x, (top, left) = images_of((8, 8)), place
    inside = x.unflatten(1, (8, 8))[:, top : top + side, left : left + side].permute(0, 3, 1, 2)
    expected = F.interpolate(inside, (8, 8), mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
    room = max(8 - side, 1)
    params = {"side": side / 8, "top": top / room, "left": left / room}
    drawn = {name: torch.full((N, 1), value) for name, value in params.items()}
    out = ours(ResizedCrop(0.1), x, (8, 8), **drawn).unflatten(1, (8, 8))
    source = (torch.arange(8) + 0.5) * side / 8 - 0.5  # ours looks beyond the window, interpolate does not
    within = (source >= 0) & (source <= side - 1)
    torch.testing.assert_close(out[:, within][:, :, within], expected[:, within][:, :, within], rtol=1e-4, atol=1e-4)


def test_an_upper_left_window_meets_the_corner() -> None:
    x = images_of((8, 8))
    corner = {"side": torch.full((N, 1), 0.5), "top": torch.zeros(N, 1), "left": torch.zeros(N, 1)}
    out = ours(ResizedCrop(), x, (8, 8), **corner)
    torch.testing.assert_close(out[:, 0], x[:, 0])
    assert math.isclose(float(out[0, 1, 0]), float(0.75 * x[0, 0, 0] + 0.25 * x[0, 1, 0]), rel_tol=1e-5)
