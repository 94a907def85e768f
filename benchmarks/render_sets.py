"""Render two image sets that are unlike photographs: line drawings, and glyphs on transparent ground.

``line_drawings`` has ten classes of black strokes on white (PNG and JPEG), ``glyphs`` ten classes of symbols, plots and
map signs in many colours on transparent ground (PNG). Each has 80 training and 60 test images a class, 96 to 160 pixels
high and wide. Every image is drawn from its own name alone, with integers for coordinates and Pillow's own drawing, so
that the pixels are the same on every machine (those of the JPEG files as far as the JPEG libraries agree).

Usage: python benchmarks/render_sets.py OUT [--train 80] [--test 60]
"""

import argparse
import itertools
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw
from render_shapes import GLYPHS, LINE_DRAWINGS, Point, Stroke

SCALE = 4
"""Images are drawn this many times larger, and reduced by averaging."""


class Pose:
    """A random place, size, rotation, slant and trembling hand, which moves the points of a stroke to pixels."""

    def __init__(
        self, r: Random, size: tuple[int, int], *, scale: tuple[float, float], turn: float, wobble: float, spread: float
    ):
        self.r, self.wobble = r, wobble
        angle, slant = math.radians(r.uniform(-turn, turn)), r.uniform(-0.15, 0.15)
        scale_x = r.uniform(*scale) * min(size)
        scale_y = scale_x * r.uniform(0.85, 1.15)
        flip = r.choice((-1, 1))
        self.matrix = [
            flip * scale_x * math.cos(angle),
            scale_y * (slant * math.cos(angle) - math.sin(angle)),
            flip * scale_x * math.sin(angle),
            scale_y * (slant * math.sin(angle) + math.cos(angle)),
        ]
        self.centre = [extent / 2 + r.uniform(-0.5, 0.5) * spread * (extent - 0.8 * scale_x) for extent in size]

    def __call__(self, points: Iterable[Point]) -> list[tuple[int, int]]:
        """Move points of a stroke to pixels."""
        # A slow wave for the hand, and jitter at each point; whole pixels of the large image at the end.
        wave = [(self.r.uniform(1, 5), self.r.uniform(0, 6.3), self.r.gauss(0, self.wobble)) for _ in range(4)]
        a, b, c, d = self.matrix
        placed = []
        for x, y in points:
            dx, dy = (sum(h * math.sin(k * (x + 2 * y) + p) for k, p, h in half) for half in (wave[:2], wave[2:]))
            x = x - 0.5 + dx + self.r.gauss(0, self.wobble / 4)
            y = y - 0.5 + dy + self.r.gauss(0, self.wobble / 4)
            placed.append((round(self.centre[0] + a * x + b * y), round(self.centre[1] + c * x + d * y)))
        return placed


def fine(stroke: Stroke) -> list[Point]:
    """The stroke's points, and more of them between, so that straight lines tremble, too."""
    points = [*stroke.points, stroke.points[0]] if stroke.closed else stroke.points
    fined = [points[0]]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        n = max(math.ceil(12 * math.hypot(x1 - x0, y1 - y0)), 1)
        fined += [(x0 + (x1 - x0) * i / n, y0 + (y1 - y0) * i / n) for i in range(1, n + 1)]
    return fined


def scribble(r: Random) -> Stroke:
    """A stroke that belongs to nothing."""
    x, y, angle = r.uniform(0, 1), r.uniform(0, 1), r.uniform(0, 6.3)
    points = [(x, y)]
    for _ in range(r.randint(1, 8)):
        angle += r.gauss(0, 0.7)
        x, y = x + 0.1 * math.cos(angle), y + 0.1 * math.sin(angle)
        points.append((x, y))
    return Stroke(points)


Colour = int | tuple[int, int, int, int]


def draw(canvas: ImageDraw.ImageDraw, pose: Pose, stroke: Stroke, width: int, ink: Colour, fill: Colour) -> None:
    points = pose(fine(stroke))
    if stroke.filled:
        canvas.polygon(points, fill)
    canvas.line(points, ink, width, "curve")


def line_drawing(r: Random, shape: Callable[[Random], list[Stroke]]) -> Image.Image:
    size = r.randint(96, 160), r.randint(96, 160)
    large = size[0] * SCALE, size[1] * SCALE
    image = Image.new("L", large, 255)
    canvas = ImageDraw.Draw(image)
    width = round(SCALE * r.uniform(1.2, 3.5))
    ink = r.randint(0, 90)
    pose = Pose(r, large, scale=(0.65, 1.0), turn=15, wobble=r.uniform(0.002, 0.02), spread=0.45)
    for stroke in shape(r):
        # Now and then a stroke is forgotten.
        if r.random() > 0.05:
            draw(canvas, pose, stroke._replace(filled=False), width, ink, ink)
    clutter = Pose(r, large, scale=(0.9, 1.1), turn=180, wobble=0.02, spread=1)
    for _ in range(r.randint(0, 3)):
        draw(canvas, clutter, scribble(r), width, ink, ink)
    return image.reduce(SCALE)


def colour(r: Random) -> tuple[int, int, int, int]:
    return r.randint(0, 210), r.randint(0, 210), r.randint(0, 210), r.randint(150, 255)


def glyph(r: Random, shape: Callable[[Random], list[Stroke]]) -> Image.Image:
    size = r.randint(96, 160), r.randint(96, 160)
    large = size[0] * SCALE, size[1] * SCALE
    image = Image.new("RGBA", large, (0, 0, 0, 0))
    canvas = ImageDraw.Draw(image)
    width = round(SCALE * r.uniform(1.5, 5))
    ink, fill = colour(r), colour(r)
    # Parts of other signs lie around and under the sign.
    for other in r.sample(GLYPHS, r.randint(0, 2)):
        pose = Pose(r, large, scale=(0.15, 0.35), turn=180, wobble=0.01, spread=1)
        strokes = other(r)
        for stroke in r.sample(strokes, min(len(strokes), 3)):
            draw(canvas, pose, stroke, max(width // 2, 2), colour(r), colour(r))
    pose = Pose(r, large, scale=(0.6, 0.95), turn=35, wobble=r.uniform(0, 0.015), spread=0.5)
    for stroke in shape(r):
        draw(canvas, pose, stroke, width, ink, fill)
    return image.reduce(SCALE)


def save(image: Image.Image, folder: Path, number: int, *, jpeg: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if jpeg:
        image.save(folder / f"{number:03d}.jpg", quality=88)
    else:
        image.save(folder / f"{number:03d}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=80, help="images a class (default: %(default)s)")
    parser.add_argument("--test", type=int, default=60, help="images a class (default: %(default)s)")
    args = parser.parse_args()
    for name, shapes, render in (("line_drawings", LINE_DRAWINGS, line_drawing), ("glyphs", GLYPHS, glyph)):
        for part, n in (("train", args.train), ("test", args.test)):
            for shape in shapes:
                for number in range(n):
                    r = Random(f"{name} {part} {shape.__name__} {number}")
                    jpeg = name == "line_drawings" and number % 2 == 1
                    save(render(r, shape), args.out / name / part / shape.__name__, number, jpeg=jpeg)


if __name__ == "__main__":
    main()
