"""Thumbnails: their geometry, what they cost, and the bound that many keep."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from frofa.exceptions import ImageReadError
from frofa.web.thumbnails import SETTINGS, data_uri, small, thumbnail, thumbnails, uri_length

NOISE = np.random.default_rng(0)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth picture with some grain, as JPEG and WebP expect it."""
    rough = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    smooth = Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)
    grain = np.random.default_rng(seed).normal(0, 6, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8))


@pytest.mark.parametrize(("kind", "format"), [("webp", "WEBP"), ("jpeg", "JPEG"), ("png", "PNG")])
def test_the_longer_side_has_the_size(kind: Any, format: str) -> None:  # noqa: A002
    image = opened(thumbnail(photo(300, 150), 60, kind=kind))
    assert (image.format, image.size, image.mode) == (format, (60, 30), "RGB")
    assert opened(thumbnail(photo(150, 300), 60, kind=kind)).size == (30, 60)


def test_small_images_are_not_enlarged_and_thin_ones_keep_a_pixel() -> None:
    assert opened(thumbnail(photo(28, 20), 160)).size == (28, 20)
    assert opened(thumbnail(photo(4000, 3), 40)).size == (40, 1)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F", "YCbCr"])
def test_any_mode_is_taken(mode: str) -> None:
    assert opened(thumbnail(Image.new(mode, (50, 40)), 20)).mode == "RGB"


def test_it_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((400, 800, 3), np.uint8)
    pixels[:, :400, 0] = 255
    path = tmp_path / "turned.jpg"
    Image.fromarray(pixels).save(path, exif=exif)
    image = opened(thumbnail(path, 40, kind="png"))
    # A quarter turn clockwise: what was left is on top.
    assert image.size == (20, 40)
    assert image.getpixel((10, 4))[0] > 200 > 50 > image.getpixel((10, 36))[0]  # type: ignore[index]
    assert not image.getexif()


def test_large_photos_are_decoded_to_a_fraction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.jpg"
    photo(1600, 1200).save(path)
    decoded = []
    resize = Image.Image.resize

    def watched(self: Image.Image, *sizes: Any, **options: Any) -> Image.Image:
        decoded.append(self.size)
        return resize(self, *sizes, **options)

    monkeypatch.setattr(Image.Image, "resize", watched)
    fast = small(path, 100)
    assert decoded == [(200, 150)]
    exact = small(path, 100, exact=True)
    assert decoded[1] == (1600, 1200)
    assert np.abs(np.asarray(fast, float) - np.asarray(exact, float)).mean() < 3


def test_errors_name_the_image(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(ImageReadError, match=r"position 3 .*text\.jpg.*not an image"):
        thumbnail(tmp_path / "text.jpg", 50, position=3)
    with pytest.raises(ImageReadError, match="No such file"):
        thumbnail(tmp_path / "none.jpg", 50)


@pytest.mark.parametrize(
    ("wrong", "message"), [((0,), "1 pixel"), ((50, 101), "0 to 100"), ((50, 70, "gif"), "webp, jpeg, png")]
)
def test_settings_are_checked(wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        thumbnail(photo(20, 20), *wrong)


def test_the_length_of_a_uri_is_counted() -> None:
    for n in range(5):
        assert uri_length(bytes(n), "webp") == len(data_uri(bytes(n), "webp"))


def test_all_fit_in_the_best_setting_that_does() -> None:
    items = [photo(320, 240, seed) for seed in range(60)]
    large, less = thumbnails(items, 10**9), thumbnails(items, 150_000)
    assert large.setting == SETTINGS[0]
    assert SETTINGS[-1].size < less.setting.size < 256
    assert 75_000 < less.n_bytes <= 150_000
    assert not less.n_left_out
    assert all(max(opened(one).size) == less.setting.size for one in less.data if one)


def test_a_misleading_sample_keeps_the_bound() -> None:
    # Images that the sample looks at are flat, others are noise.
    items: list[Any] = [Image.new("RGB", (200, 200))] * 480
    for i in set(range(480)) - {i * 480 // 48 for i in range(48)}:
        items[i] = photo(64, 64, i % 7)
    made = thumbnails(items, 500_000)
    assert made.n_bytes <= 500_000
    assert not made.n_left_out


def test_what_does_not_fit_is_left_out_from_the_end_of_the_order() -> None:
    items = [NOISE.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(20)]
    order = [7, 3, *(i for i in range(20) if i not in (7, 3))]
    made = thumbnails(items, 2_000, order)
    there = [i for i, one in enumerate(made.data) if one is not None]
    assert made.setting == SETTINGS[-1]
    assert 2 <= len(there) < 20
    assert sorted(order[: len(there)]) == there
    assert made.n_left_out == 20 - len(there)


def test_images_that_cannot_be_read_are_listed(tmp_path: Path) -> None:
    made = thumbnails([photo(20, 20), tmp_path / "none.png"], 10_000)
    assert made.data[1] is None
    assert made.data[0] is not None
    assert made.failed[1].position == 1


def test_images_that_are_not_asked_for_have_none() -> None:
    made = thumbnails([photo(20, 20, i) for i in range(4)], 100_000, [2, 0], largest=16)
    assert [one is not None for one in made.data] == [True, False, True, False]
    assert made.setting.size == 16
    with pytest.raises(ValueError, match="each once"):
        thumbnails([photo(20, 20)], 1000, [0, 0])


def test_no_images_need_nothing() -> None:
    assert thumbnails([], 0).data == []
