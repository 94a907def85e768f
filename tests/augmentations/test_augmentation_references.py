"""Augmentations against independent implementations: Pillow, its JPEG codec, torch's sampling, torchvision, NumPy."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from augmentation_helpers import TYPICAL, VARIANTS, Case, batch_of, each, seeded
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from scipy.fft import dctn

from frofa.augmentations import (
    JPEG,
    Augmentation,
    Brightness,
    ChannelDropout,
    Contrast,
    Equalize,
    GaussianNoise,
    Invert,
    MixUp,
    Posterize,
    Sharpness,
    Solarize,
    TokenBatch,
    Variant,
)
from frofa.augmentations.jpeg import quantisation_steps

Grey = npt.NDArray[np.uint8]
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def grey_images(height: int, width: int, channels: int = 3, seed: int = 0) -> Grey:
    """Smooth pictures with some noise, (height, width, channels), each channel from 0 to 255."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 3 + c) + np.cos(y / (c + 2)) + rng.normal(size=y.shape) / 4 for c in range(channels)]
    pixels = np.stack(waves, -1)
    low, high = pixels.min((0, 1)), pixels.max((0, 1))
    grey: Grey = np.rint((pixels - low) / (high - low) * 255).astype(np.uint8)
    return grey


def ours(augment: Augmentation, pixels: npt.NDArray[Any], **params: float) -> npt.NDArray[np.float64]:
    """Augment images of channels from 0 to 255, whose features are their pixels: all variants see the same range."""
    tokens = torch.from_numpy(pixels.astype(np.float32)).flatten(0, 1)[None]
    batch = TokenBatch.from_tokens(tokens, grid=(pixels.shape[0], pixels.shape[1]))
    drawn = {name: torch.full((1, 1, 1), value) for name, value in params.items()}
    return augment.transform(batch, drawn).patches[0].view(pixels.shape).double().numpy()


def pillows(change: Any, pixels: Grey) -> npt.NDArray[np.float64]:
    """Change every channel as a grey image."""
    channels = [np.asarray(change(Image.fromarray(pixels[..., c]))) for c in range(pixels.shape[2])]
    return np.stack(channels, -1).astype(np.float64)


@every_variant
@pytest.mark.parametrize("dropped", range(8))
def test_posterize_is_pillows(variant: Variant, dropped: int) -> None:
    pixels = grey_images(9, 11)
    expected = pillows(lambda image: ImageOps.posterize(image, 8 - dropped), pixels)
    np.testing.assert_allclose(ours(Posterize(1.0, variant), pixels, dropped_bits=dropped), expected, atol=1e-4)


@every_variant
def test_invert_is_pillows(variant: Variant) -> None:
    pixels = grey_images(9, 11)
    np.testing.assert_allclose(ours(Invert(1, variant), pixels, inverted=1), pillows(ImageOps.invert, pixels))


@every_variant
@pytest.mark.parametrize("threshold", [0, 17, 128, 254])
def test_solarize_is_pillows(variant: Variant, threshold: int) -> None:
    pixels = grey_images(9, 11)
    expected = pillows(lambda image: ImageOps.solarize(image, threshold + 1), pixels)  # Pillow: from there on
    np.testing.assert_allclose(ours(Solarize(1, variant), pixels, threshold=(threshold + 0.5) / 255), expected)


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 1.7])
def test_contrast_is_pillows_within_rounding(factor: float) -> None:
    pixels = grey_images(12, 9)
    expected = pillows(lambda image: ImageEnhance.Contrast(image).enhance(factor), pixels)  # of a rounded mean
    np.testing.assert_allclose(ours(Contrast(), pixels, factor=factor), expected, atol=1.5)


@pytest.mark.parametrize("variant", ["default", "c2"])
def test_equalize_is_pillows_within_rounding(variant: Variant) -> None:
    rng = np.random.default_rng(0)
    pixels = np.sort(rng.beta(2, 5, (64 * 64, 1)) * 254, 0).astype(np.uint8)
    pixels[0], pixels[-16:] = 0, 255  # 4096 - 16 pixels below the highest bin: Pillow's steps of 1 / 255 are whole
    pixels = rng.permutation(pixels).reshape(64, 64, 1)
    expected = pillows(ImageOps.equalize, pixels)
    assert abs(expected - pixels).max() > 30
    np.testing.assert_allclose(ours(Equalize(1, variant), pixels, equalized=True), expected, atol=0.51)


def test_equalize_counts_the_map_or_the_channel() -> None:
    pixels = np.array([0, 0, 0, 255, 0, 60, 120, 255], np.uint8).reshape(2, 4, 1, order="C").transpose(2, 1, 0)
    assert ours(Equalize(1, "c2"), pixels, equalized=True)[0].T.tolist() == [[0, 0, 0, 255], [0, 85, 170, 255]]
    assert ours(Equalize(1, "c"), pixels, equalized=True)[0].T.tolist() == [[0, 0, 0, 255], [0, 170, 212.5, 255]]


@every_variant
@pytest.mark.parametrize("factor", [0.0, 0.1, 0.7, 1.0, 1.9])
@pytest.mark.parametrize("grid", [(1, 1), (2, 9), (3, 17), (8, 8), (13, 10)])
def test_sharpness_is_pillows_within_a_grey_level(variant: Variant, factor: float, grid: tuple[int, int]) -> None:
    pixels = grey_images(*grid) if grid != (1, 1) else np.full((1, 1, 3), 7, np.uint8)
    out = ours(Sharpness(1, variant), pixels, factor=factor)
    sharpened = pillows(lambda image: ImageEnhance.Sharpness(image).enhance(factor), pixels)
    np.testing.assert_allclose(out, sharpened, atol=1.5)  # of a smoothed image that is rounded, and cut off after that
    if factor == 0:
        np.testing.assert_allclose(out, pillows(lambda image: image.filter(ImageFilter.SMOOTH), pixels), atol=0.51)


def compressed(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "jpeg", quality=quality)
    return Image.open(file)


def libjpegs_steps(quality: int) -> npt.NDArray[np.float64]:
    tables: Any = compressed(Image.new("L", (8, 8)), quality)
    return np.array(tables.quantization[0], np.float64).reshape(8, 8)


@pytest.mark.parametrize("quality", range(1, 101))
def test_quantisation_steps_are_libjpegs(quality: int) -> None:
    steps = quantisation_steps(torch.full((1, 1, 1), float(quality)))[0, :, :, 0]
    assert steps.tolist() == libjpegs_steps(quality).tolist()


def undecided(pixels: Grey, steps: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How far a pixel may be off because frequencies of its block are half-way between two steps.

    libjpeg's integer DCT gives multiples of 1 / 8: what is closer to half-way than 0.1 may be rounded to either side.
    """
    height, width, channels = pixels.shape
    padded = np.pad(pixels, ((0, -height % 8), (0, -width % 8), (0, 0)), "edge").astype(np.float64) - 128
    blocks = padded.reshape(padded.shape[0] // 8, 8, -1, 8, channels)
    levels = np.abs(dctn(blocks, axes=(1, 3), norm="ortho")) / steps[:, None, :, None]
    close = np.abs(levels % 1 - 0.5) * steps[:, None, :, None] < 0.1
    amplitude = (close * steps[:, None, :, None] / 4).sum((1, 3), keepdims=True)
    allowed: npt.NDArray[np.float64] = np.broadcast_to(amplitude, blocks.shape).reshape(padded.shape)
    return allowed[:height, :width]


@every_variant
@pytest.mark.parametrize("quality", [1, 10, 35, 50, 75, 95, 99])
@pytest.mark.parametrize("grid", [(8, 8), (16, 24), (13, 10), (3, 17), (7, 7), (1, 2)])
def test_jpeg_is_libjpegs_within_two_grey_levels(variant: Variant, quality: int, grid: tuple[int, int]) -> None:
    pixels = grey_images(*grid)
    expected = pillows(lambda image: compressed(image, quality), pixels)
    difference = abs(ours(JPEG(1, variant), pixels, quality=float(quality)) - expected)
    assert (difference <= 2.01 + undecided(pixels, libjpegs_steps(quality))).all()


def test_jpeg_rounds_pixels_first() -> None:
    pixels = grey_images(13, 10)
    between = pixels + np.where((pixels > 0) & (pixels < 255), 0.4, 0)
    assert np.array_equal(ours(JPEG(), between, quality=95.0), ours(JPEG(), pixels, quality=95.0))


def by_numpy(augment: Any, image: npt.NDArray[np.float64], value: npt.NDArray[np.float64]) -> Any:
    """One image (N, C), straight from the paper; `value` is broadcast against the channels."""
    axis = 0 if getattr(augment, "variant", "") == "c2" else None
    low, high = image.min(axis, keepdims=True), image.max(axis, keepdims=True)
    pixels = (image - low) / (high - low)
    if isinstance(augment, (Brightness, GaussianNoise)):
        pixels = pixels + value
    elif isinstance(augment, Contrast):
        pixels = (pixels - pixels.mean(0)) * value + pixels.mean(0)
    elif isinstance(augment, Solarize):
        pixels = np.where(pixels > value, 1 - pixels, pixels)
    elif isinstance(augment, Invert):
        pixels = np.where(value, 1 - pixels, pixels)
    elif isinstance(augment, Posterize):
        dropped = np.broadcast_to(value.astype(np.uint8), pixels.shape)
        bits = np.rint(pixels * 255).astype(np.uint8) & np.left_shift(np.uint8(255), dropped)
        pixels = np.where(dropped == 0, pixels, bits / 255)
    elif isinstance(augment, ChannelDropout):
        return image * value
    return (np.clip(pixels, 0, 1) if augment.clip else pixels) * (high - low) + low


POINTWISE: list[Augmentation] = [kind(1.0, v) for kind in (Brightness, Contrast, Posterize, Solarize) for v in VARIANTS]
POINTWISE += [kind(1.0, v, clip=False) for kind in (Brightness, Contrast) for v in VARIANTS]
POINTWISE += [Invert(0.5, v) for v in VARIANTS]
POINTWISE += [GaussianNoise(0.2), GaussianNoise(0.2, "c2"), ChannelDropout(0.4)]


@each(POINTWISE)
@pytest.mark.parametrize("grid", [(7, 7), (2, 3), (3, 17)])
def test_pointwise_agrees_with_numpy(augment: Augmentation, grid: tuple[int, int]) -> None:
    batch = batch_of(Case(5, grid, 8, torch.float64))
    params = augment.make_params(batch, seeded(5))
    [values] = params.values()
    pairs = zip(batch.patches, values, strict=True)
    expected = [by_numpy(augment, image.numpy(), value.double().numpy()) for image, value in pairs]
    np.testing.assert_allclose(augment.transform(batch, params).patches.numpy(), expected, rtol=1e-7, atol=1e-7)


def test_mixup_agrees_with_numpy() -> None:
    batch = batch_of(TYPICAL)
    params = MixUp(1.0).make_params(batch, seeded())
    partner, proportion = params["partner"].numpy(), float(params["proportion"])
    out = MixUp(1.0).transform(batch, params)
    for name in ("patches", "prefix", "targets"):
        x = getattr(batch, name).numpy()
        expected = proportion * x + (1 - proportion) * x[partner]
        np.testing.assert_allclose(getattr(out, name).numpy(), expected, rtol=1e-5, atol=1e-5)
