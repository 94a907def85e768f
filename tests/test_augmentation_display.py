"""frofa.augmentation_display: colours that can be compared, hidden tokens, and what is drawn."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from sklearn.decomposition import PCA
from torch import Generator

from frofa import FrozenFeatureExtractor
from frofa.augmentation_display import AugmentationDisplay, TokenPicture
from frofa.augmentations import (
    Augmentation,
    Brightness,
    Crop,
    GaussianNoise,
    MixUp,
    PatchDropout,
    RandomApply,
    Rotate,
    Sequential,
    TokenBatch,
)

Tokens = npt.NDArray[np.float64]
from_features = AugmentationDisplay.from_features


class Reversed(Augmentation):
    """The tokens in reverse order."""

    def make_params(self, batch: TokenBatch, /, generator: Generator) -> dict[str, Any]:  # noqa: ARG002
        return {}

    def transform(self, batch: TokenBatch, /, params: Any) -> TokenBatch:  # noqa: ARG002
        return batch.replace(patches=batch.patches.flip(1))


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    """Three images of 8 x 8 tokens of 16 channels of different scales; read-only."""
    rng = np.random.default_rng(0)
    array = rng.normal(size=(3, 64, 16)) * np.geomspace(5, 0.5, 16) + rng.normal(size=16)
    array.flags.writeable = False
    return array


def inside(*pictures: TokenPicture) -> npt.NDArray[np.bool_]:
    """Where no picture is clipped."""
    kept: npt.NDArray[np.bool_] = np.all([(p.rgb > 1e-9) & (p.rgb < 1 - 1e-9) for p in pictures], axis=0)
    assert kept.any((0, 1)).all()
    return kept


def n_changed(display: AugmentationDisplay) -> int:
    return sum(not np.array_equal(display.before.rgb, picture.rgb) for picture in display.after.values())


def hidden(picture: TokenPicture) -> npt.NDArray[np.bool_]:
    assert picture.hidden is not None
    return picture.hidden


def test_the_identity_gives_the_same_picture(tokens: Tokens) -> None:
    display = from_features(tokens, [Brightness(level=0), Sequential([])])
    for picture in display.after.values():
        assert np.array_equal(picture.rgb, display.before.rgb)
        assert picture.hidden is None


def test_colours_are_the_principal_components_scaled(tokens: Tokens) -> None:
    scores = PCA(3).fit_transform(tokens[0])
    low, high = np.percentile(scores, (2, 98), axis=0)
    expected = (0.15 + 0.7 * (scores - low) / (high - low)).clip(0, 1).reshape(8, 8, 3)
    rgb = from_features(tokens, []).before.rgb
    for channel in range(3):  # a component's sign is arbitrary, and flips the scale
        either = expected[..., channel], 1 - expected[..., channel]
        assert any(np.allclose(rgb[..., channel], one, atol=1e-9) for one in either)


def test_colours_do_not_depend_on_where_tokens_lie_nor_on_other_images(tokens: Tokens) -> None:
    order = np.random.default_rng(1).permutation(64)
    rgb = from_features(tokens, []).before.rgb.reshape(64, 3)
    np.testing.assert_allclose(from_features(tokens[:1, order], []).before.rgb.reshape(64, 3), rgb[order], atol=1e-9)


def test_default_brightness_moves_all_colours_alike(tokens: Tokens) -> None:
    display = from_features(tokens, {"brighter": Brightness(0.05, "default", clip=False)})
    before, after = display.before, display.after["brighter"]
    shift = np.where(inside(before, after), after.rgb - before.rgb, np.nan)
    assert np.abs(np.nanmean(shift, (0, 1))).min() > 1e-4
    np.testing.assert_allclose(np.nanmin(shift, (0, 1)), np.nanmax(shift, (0, 1)), atol=1e-9)


def test_the_projection_and_scale_are_those_before(tokens: Tokens) -> None:
    display = from_features(tokens, [Reversed(), GaussianNoise(0.2)], grid=(4, 16))
    assert display.before.rgb.shape == (4, 16, 3)
    assert np.array_equal(display.after["Reversed()"].rgb, display.before.rgb[::-1, ::-1])
    assert not np.array_equal(display.after["GaussianNoise(std=0.2)"].rgb, display.before.rgb)


def test_hidden_tokens(tokens: Tokens) -> None:
    display = from_features(tokens, {"dropped": PatchDropout(0.75), "crop": Crop(0.3)})
    assert hidden(display.after["dropped"]).sum() == 48
    shown = ~hidden(display.after["crop"])
    assert 0 < shown.sum() < 64
    assert np.array_equal(shown, np.outer(shown.any(1), shown.any(0)))  # a window
    assert np.array_equal(display.after["crop"].rgb, display.before.rgb)


def test_draws_come_from_one_generator_that_the_seed_determines(tokens: Tokens) -> None:
    two = [Rotate(), Rotate()]
    display = from_features(tokens, two)
    first, second = display.after.values()
    assert list(display.after) == ["Rotate()", "Rotate() (2)"]
    assert not np.array_equal(first.rgb, second.rgb)
    again, other = from_features(tokens, two, random_state=0), from_features(tokens, two, random_state=1)
    state = from_features(tokens, two, random_state=np.random.RandomState(1))
    assert np.array_equal(state.after["Rotate()"].rgb, other.after["Rotate()"].rgb)
    assert np.array_equal(again.after["Rotate() (2)"].rgb, second.rgb)
    assert not np.array_equal(other.after["Rotate()"].rgb, first.rgb)


def test_mixup_takes_another_image(tokens: Tokens) -> None:
    pair = tokens[[0, 0]].copy()
    pair[1, :, 0] += 1000
    assert n_changed(from_features(pair, [MixUp(1.0)] * 20)) == 20
    with pytest.raises(
        ValueError, match=r"RandomApply.* mixes images: give it others=\[...\], or the tokens of several"
    ):
        from_features(tokens[:1], [RandomApply([MixUp()])])


def test_grids_of_different_sizes(tokens: Tokens) -> None:
    padded = tokens.copy()
    padded[0, 12:] = 1e3
    grids = torch.tensor([[3, 4], [8, 8], [8, 8]])
    display = from_features(padded, [PatchDropout(0.5)], grid=grids)
    assert display.after["PatchDropout()"].rgb.shape == (3, 4, 3)
    assert hidden(display.after["PatchDropout()"]).shape == (3, 4)
    assert np.array_equal(display.before.rgb, from_features(tokens[:1, :12], [], grid=(3, 4)).before.rgb)


def test_tensors_and_half_precision(tokens: Tokens) -> None:
    rgb = from_features(tokens, []).before.rgb
    half = torch.tensor(tokens, dtype=torch.float16, requires_grad=True)
    np.testing.assert_allclose(from_features(half, [Brightness()]).before.rgb, rgb, atol=0.01)


def test_no_spread_is_grey() -> None:
    assert np.all(from_features(np.ones((1, 4, 5)), [Brightness()]).before.rgb == 0.5)
    rng = np.random.default_rng(0)
    line = rng.normal(size=(1, 16, 1)) * rng.normal(size=5)  # one component; what else there is, is rounding
    rgb = from_features(line, []).before.rgb
    assert np.all(rgb[..., 1:] == 0.5)
    assert len(np.unique(rgb[..., 0])) > 8


@pytest.mark.parametrize(
    ("shape", "augmentations", "error", "message"),
    [
        ((5, 16), [Rotate()], ValueError, r"expected tokens of shape \(n, N, C\).* Got shape \(5, 16\)"),
        ((1, 65, 16), [], ValueError, r"needs tokens on a grid. Got 65 tokens, which are no square: say grid"),
        ((1, 64, 16), Rotate(), TypeError, r"a mapping of titles to augmentations, or a list.* Got Rotate\(\)"),
        ((1, 64, 16), ["rotate"], TypeError, r"a mapping of titles to augmentations, or a list.* Got 'rotate'"),
        ((1, 64, 16), {"none": None}, TypeError, r"a mapping of titles to augmentations, or a list.* Got None"),
        ((1, 64, 16), [Rotate(degrees=-1)], ValueError, r"The 'degrees' parameter of Rotate"),
    ],
)
def test_errors_say_what_was_expected(
    shape: tuple[int, ...], augmentations: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        from_features(np.zeros(shape), augmentations)


def test_tokens_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"floating point features.* Got shape \(1, 4, 3\), torch.int64"):
        from_features(np.zeros((1, 4, 3), np.int64), [])
    with pytest.raises(ValueError, match=r"expected finite tokens. Got NaN or infinity"):
        from_features(np.full((1, 4, 3), np.nan), [])
    with pytest.raises(ValueError, match=r"grid must be \(height, width\) with height \* width = 4 tokens"):
        from_features(np.zeros((1, 4, 3)), [], grid=(3, 3))


def test_an_image_is_shown_as_the_backbone_sees_it(small_vit: str, tmp_path: Path) -> None:
    pixels = np.zeros((100, 150, 3), np.uint8)
    pixels[:, :75] = 255, 51, 102
    pixels[:, 75:] = 51, 0, 204
    file = tmp_path / "image.png"
    Image.fromarray(pixels).save(file)
    extractor = FrozenFeatureExtractor(small_vit, image_size=(32, 48))
    expected = from_features(extractor.transform([file]), [], grid=(4, 6))
    for image in (file, pixels, Image.fromarray(pixels)):
        display = AugmentationDisplay.from_image(image, [Rotate()], model=small_vit, image_size=(32, 48))
        assert np.array_equal(display.before.rgb, expected.before.rgb)
        assert display.after["Rotate()"].rgb.shape == (4, 6, 3)
        assert display.image is not None
        assert display.image.shape == (32, 48, 3)
        np.testing.assert_allclose(display.image[:, [0, -1]], [[[1, 0.2, 0.4], [0.2, 0, 0.8]]] * 32, atol=1e-6)


def test_other_images_are_mixed_in(small_vit: str, image_paths: list[str]) -> None:
    [image, *others] = image_paths[:3]
    mixed = AugmentationDisplay.from_image(image, [MixUp(1.0)] * 20, others=others, model=small_vit)
    assert n_changed(mixed) == 20
    with pytest.raises(ValueError, match="mixes images"):
        AugmentationDisplay.from_image(image, [MixUp(1.0)], model=small_vit)


def drawn(ax: Any) -> npt.NDArray[Any]:
    [image] = ax.get_images()
    return np.asarray(image.get_array())


def test_plot_draws_every_picture_and_marks_hidden_tokens(tokens: Tokens) -> None:
    display = from_features(tokens, {"noise": GaussianNoise(), "dropped": PatchDropout(0.5)})
    display.image = np.full((20, 20, 3), 0.25)
    dropped = display.after["dropped"]
    dropped.rgb.flags.writeable = False
    assert display.plot(ncols=3) is display
    assert [ax.get_title() for ax in display.axes_] == ["image", "tokens", "noise", "dropped"]
    expected = [display.image, display.before.rgb, display.after["noise"].rgb]
    for ax, rgb in zip(display.axes_, expected, strict=False):
        assert np.array_equal(drawn(ax), rgb)
        assert not ax.collections
    assert np.all(drawn(display.axes_[3])[hidden(dropped)] == drawn(display.axes_[3])[hidden(dropped)][0, 0])
    assert np.array_equal(drawn(display.axes_[3])[~hidden(dropped)], dropped.rgb[~hidden(dropped)])
    [hatched] = display.axes_[3].collections
    assert hatched.get_hatch()
    assert len(hatched.get_paths()) == 32
    assert {ax.get_subplotspec().rowspan.start for ax in display.axes_} == {0, 1}
    display.figure_.savefig(io.BytesIO())


def test_plot_draws_into_a_given_figure(tokens: Tokens) -> None:
    from matplotlib.figure import Figure

    figure: Any = Figure()
    left, right = figure.subfigures(1, 2)
    display = from_features(tokens, [Rotate()]).plot(figure=right)
    assert display.figure_ is right
    assert right.axes == list(display.axes_)
    assert not left.axes
    with pytest.raises(ValueError, match=r"ncols must be at least 1. Got 0"):
        display.plot(ncols=0)


def test_without_matplotlib_the_error_names_the_extra(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    display = from_features(tokens, [Rotate()])
    with pytest.raises(ImportError, match=r"pip install 'frofa\[plot\]'"):
        display.plot()


def test_heavy_libraries_are_imported_where_they_are_used() -> None:
    code = "import sys, frofa.augmentation_display; print({'timm', 'matplotlib'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
