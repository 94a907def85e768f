"""Photographs of three classes, and an encoder that takes no time: what reports in tests are of."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from frofa import FunctionEncoder

CLASSES = ("fern", "moss", "oak")
SIDE = 24


class Photos(NamedTuple):
    """Directories of training and test images, ROOT/CLASS/NAME.png."""

    train: Path
    test: Path


def photo(rng: np.random.Generator, code: int) -> npt.NDArray[np.uint8]:
    """Draw an image of a class: stripes of its own direction under noise."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    wave = np.sin((rows * (code != 1) + columns * (code != 0)) / 2 + rng.uniform(0, 6))
    pixels = 120 + 60 * wave[..., None] + rng.normal(0, 25, (SIDE, SIDE, 3))
    found: npt.NDArray[np.uint8] = np.clip(pixels, 0, 255).astype(np.uint8)
    return found


def write_photos(root: Path, n: int, seed: int) -> Path:
    """Write n images of each class."""
    rng = np.random.default_rng(seed)
    for code, label in enumerate(CLASSES):
        (root / label).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(photo(rng, code)).save(root / label / f"{i:02}.png")
    return root


def spectra(images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Encode images (n, H, W, 3): the logarithm of the power of their lowest frequencies, (n, 64)."""
    grey = np.stack([np.asarray(image, np.float32) for image in images]).mean(3)
    power = np.abs(np.fft.fft2(grey - grey.mean((1, 2), keepdims=True)))[:, :8, :8]
    return np.log1p(power).reshape(len(grey), -1).astype(np.float32)


ENCODER = FunctionEncoder(spectra, "spectra 1", load=lambda path: np.asarray(Image.open(path)))


class Features(NamedTuple):
    """Features (n, 16) and labels of training and test samples of three classes."""

    X: npt.NDArray[np.float64]
    y: npt.NDArray[np.str_]
    X_test: npt.NDArray[np.float64]
    y_test: npt.NDArray[np.str_]
