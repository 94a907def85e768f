"""Whether the heat of a word lies on what it names: images of known classes in one corner of larger ones.

Two kinds of images are drawn from test images. "corner": an image of a class in one corner of an image twice its size,
around it another image, blurred. "mosaic": four images of different classes, one in each corner. Of the heat of the
class's word, the share in its corner is measured (chance: 25 %), and how often that corner has the most; beside that,
the same for a word that names nothing in the image. Means and 95 % intervals are over ten draws.

Usage: python benchmarks/words_where.py DIRECTORY --model NAME [--sizes 64 128] [--images 50] [--out FILE.json]
DIRECTORY holds test/CLASS/IMAGE. The numbers of docs/text.md are in results/words_where.json.
"""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from frofa import FrozenFeatureExtractor, FrozenTextExtractor, __version__, load_image_folder, mean_interval
from frofa.displays.looking_at_words import heat_of
from frofa.estimators.text.embeddings import class_texts

DRAWS = 10
CORNERS = ((0, 0), (1, 0), (0, 1), (1, 1))
"""Column and row, in the order in which the corners of a map are numbered."""


class Canvas:
    """Images made of test images: pictures, and for each the classes in its corners, or -1."""

    def __init__(self, paths: list[str], labels: Any, side: int):
        self.paths, self.side = np.asarray(paths), side
        self.names, self.codes = np.unique(labels, return_inverse=True)

    def corner(self, rng: np.random.Generator) -> tuple[Image.Image, list[int]]:
        """Draw an image in one corner, and a blurred one around it."""
        picture = self._read(self.paths[rng.integers(len(self.paths))], 8).resize((self.side, self.side), 3)
        row, at = int(rng.integers(len(self.paths))), int(rng.integers(4))
        self._paste(picture, self.paths[row], at)
        return picture, [int(self.codes[row]) if i == at else -1 for i in range(4)]

    def mosaic(self, rng: np.random.Generator) -> tuple[Image.Image, list[int]]:
        """Draw an image of another class in each corner."""
        picture = Image.new("RGB", (self.side, self.side))
        classes = rng.choice(len(self.names), 4, replace=False).tolist()
        for at, code in enumerate(classes):
            self._paste(picture, rng.choice(self.paths[self.codes == code]), at)
        return picture, classes

    def _paste(self, picture: Image.Image, path: str, at: int) -> None:
        half = self.side // 2
        picture.paste(self._read(path, half), (CORNERS[at][0] * half, CORNERS[at][1] * half))

    def _read(self, path: str, side: int) -> Image.Image:
        return Image.open(path).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)


def by_corner(heat: Any) -> Any:
    """Add up heat (m, rows, columns) in each corner, as shares (m, 4); even where there is no heat."""
    m, rows, columns = heat.shape
    sums = heat.reshape(m, 2, rows // 2, 2, columns // 2).sum((2, 4)).reshape(m, 4)
    total = sums.sum(1, keepdims=True)
    return np.where(total > 0, sums / np.maximum(total, 1e-12), 0.25)


def measure(canvas: Canvas, kind: str, extractor: Any, texts: Any, method: str, n: int) -> dict[str, Any]:
    """Shares and hits of words that are right, and of words of no class in the image, by draw."""
    draws: dict[str, list[float]] = {"share": [], "most": [], "share_of_other_word": [], "most_of_other_word": []}
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        pictures, corners = zip(*(getattr(canvas, kind)(rng) for _ in range(n)), strict=True)
        _, maps = heat_of(extractor, list(pictures), texts.embeddings, texts.scale, method)
        found: dict[str, list[float]] = {name: [] for name in draws}
        for heat, classes in zip(maps, corners, strict=True):
            shares = by_corner(heat)
            others = [code for code in range(len(canvas.names)) if code not in classes]
            for at, code in enumerate(classes):
                if code >= 0:
                    other = int(rng.choice(others))
                    for suffix, row in (("", code), ("_of_other_word", other)):
                        found[f"share{suffix}"].append(float(shares[row, at]))
                        found[f"most{suffix}"].append(float(shares[row].argmax() == at))
        for name, values in found.items():
            draws[name].append(100 * float(np.mean(values)))
    return {name: mean_interval(values)._asdict() for name, values in draws.items()}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    paths, labels = load_image_folder(args.directory / "test")
    names = [name.replace("_", " ") for name in np.unique(labels).tolist()]
    texts = class_texts(np.arange(len(names)), names, FrozenTextExtractor(args.model), "auto")
    rows = []
    for size in args.sizes:
        extractor = FrozenFeatureExtractor(args.model, output="projected", image_size=size)
        canvas = Canvas(paths, labels, size)
        for kind in ("corner", "mosaic"):
            for method in ("score", "patches"):
                found = measure(canvas, kind, extractor, texts, method, args.images)
                rows.append({"size": size, "images": kind, "method": method, **found})
                shown = ", ".join(
                    f"{name} {one['mean']:.1f} ({one['low']:.1f} to {one['high']:.1f})" for name, one in found.items()
                )
                print(f"{size} px, {kind}, {method}: {shown}", flush=True)
    if args.out:
        set_up = {"set": args.directory.name, "model": args.model.rpartition("/")[2], "draws": DRAWS}
        set_up |= {"images": args.images, "frofa": __version__, "python": platform.python_version()}
        args.out.write_text(json.dumps({**set_up, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
