"""Images of known numbers and several labels: photographs, drawings of a known pose, and grids of photographs."""

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from render_sets import SCALE, Pose, draw
from render_shapes import LINE_DRAWINGS

Array = npt.NDArray[Any]
PHOTOGRAPH = ("brightness", "redness", "saturation", "contrast", "edges")
DRAWING = ("size", "angle", "place")
SIDE = 96
"""Pixels of the images that numbers are computed from, and of drawings."""


def numbers_of_photographs(paths: Sequence[str]) -> Array:
    """Compute brightness, red less blue, saturation, contrast and edges per pixel of images: (n, 5)."""
    rows = []
    for path in paths:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB").resize((SIDE, SIDE)), np.float64) / 255
        grey = pixels.mean(2)
        edges = np.hypot(*np.gradient(grey)).mean()
        saturation = (pixels.max(2) - pixels.min(2)).mean()
        rows.append([grey.mean(), pixels[..., 0].mean() - pixels[..., 2].mean(), saturation, grey.std(), edges])
    return np.array(rows)


def drawings(n: int, part: str) -> tuple[list[Image.Image], Array]:
    """Draw shapes of ten kinds, of random size, angle and place, which are the targets (n, 3)."""
    images, targets = [], []
    for number in range(n):
        r = Random(f"targets {part} {number}")
        shape, size, angle = LINE_DRAWINGS[number % len(LINE_DRAWINGS)], r.uniform(0.35, 0.9), r.uniform(-45, 45)
        canvas = Image.new("L", (SIDE * SCALE, SIDE * SCALE), 255)
        pose = Pose(r, canvas.size, scale=(size, size), turn=0, wobble=0.005, spread=0.5)
        width, ink = round(SCALE * r.uniform(1.2, 3)), r.randint(0, 90)
        for stroke in shape(r):
            draw(ImageDraw.Draw(canvas), pose, stroke._replace(filled=False), width, ink, ink)
        x, y = pose.centre
        turned = canvas.rotate(angle, Image.Resampling.BILINEAR, center=(x, y), fillcolor=255)
        images.append(turned.reduce(SCALE).convert("RGB"))
        targets.append([size, angle, x / canvas.width])
    return images, np.array(targets)


def grids(paths: Sequence[str], codes: Array, n: int, seed: int) -> tuple[list[Image.Image], Array]:
    """Put photographs of one to three classes into grids of two by two: images, and an indicator (n, n_classes).

    Classes are as frequent as ``1 / rank ** 0.7`` says.
    """
    rng = np.random.default_rng(seed)
    n_classes = int(codes.max()) + 1
    shares = 1 / np.arange(1, n_classes + 1) ** 0.7
    images, indicator = [], np.zeros((n, n_classes), np.int64)
    for row in indicator:
        classes = rng.choice(n_classes, rng.integers(1, 4), replace=False, p=shares / shares.sum())
        row[classes] = 1
        cells = rng.permutation([*classes, *rng.choice(classes, 4 - len(classes))])
        grid = Image.new("RGB", (2 * SIDE, 2 * SIDE))
        for place, code in enumerate(cells):
            with Image.open(paths[rng.choice(np.flatnonzero(codes == code))]) as photograph:
                part = photograph.convert("RGB").resize((SIDE, SIDE))
            grid.paste(part, (place % 2 * SIDE, place // 2 * SIDE))
        images.append(grid)
    return images, indicator
