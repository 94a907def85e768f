"""Draw the figures of docs/augmentations.md, tokens before and after each augmentation, and that of docs/attention.md.

Runs offline, on packaged images of Fashion-MNIST and the embedded backbone:

    python docs/make_figures.py [--image IMAGE --others IMAGE IMAGE] [--out docs/figures]
"""

import argparse
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from matplotlib.figure import Figure
from PIL import Image
from sklearn.pipeline import make_pipeline

from frofa import AttentionDisplay, FrozenFeatureExtractor, PretrainedHead, load_image_folder, sample_shots
from frofa.augmentation_display import AugmentationDisplay
from frofa.augmentations import (
    JPEG,
    Augmentation,
    Brightness,
    ChannelDropout,
    Contrast,
    Crop,
    Equalize,
    GaussianNoise,
    InceptionCrop,
    Invert,
    MixUp,
    PatchDropout,
    Posterize,
    RandAugment,
    ResizedCrop,
    Rotate,
    Sequential,
    Sharpness,
    ShearX,
    ShearY,
    Solarize,
    TranslateX,
    TranslateY,
    TrivialAugment,
)
from frofa.demo import write_sample
from frofa.estimators import MAPClassifier

IMAGE_SIZE = 256  # 32 x 32 tokens of 8 x 8 pixels
VARIANTS = ("default", "c", "c2")
Rows = Mapping[str, tuple[Mapping[str, Augmentation], int]]
"""By title: augmentations by title, and a seed whose draws are strong enough to see."""


def in_variants(kind: Any, seed: int = 0, **params: float) -> tuple[Mapping[str, Augmentation], int]:
    """One draw in each variant."""
    return {variant: kind(variant=variant, **params) for variant in VARIANTS}, seed


def three_draws(augment: Augmentation, seed: int = 0) -> tuple[Mapping[str, Augmentation], int]:
    """Three draws of one augmentation."""
    return {f"draw {i}": augment for i in (1, 2, 3)}, seed


OVERVIEW = [Brightness(), Posterize(1.0), Equalize(p=1.0), Rotate(), InceptionCrop(), PatchDropout()]

STYLISTIC: Rows = {
    "Brightness(level=0.5)": in_variants(Brightness, 31, level=0.5),
    "Contrast(level=1.0)": in_variants(Contrast, 3, level=1.0),
    "Equalize(p=1.0)": in_variants(Equalize, p=1.0),
    "Invert(p=1.0)": in_variants(Invert, p=1.0),
    "Posterize(level=1.0)": in_variants(Posterize, 33, level=1.0),
    "Sharpness(level=1.0)": in_variants(Sharpness, 37, level=1.0),
    "Solarize(level=0.5)": in_variants(Solarize, 3, level=0.5),
    "JPEG(quality=1)": in_variants(JPEG, 11, quality=1),
}
GEOMETRIC: Rows = {
    "Rotate()": three_draws(Rotate(), 3),
    "Rotate(fill=...)": (
        {fill: Rotate(fill=fill) for fill in ("mean", "edge", "zero")},
        3,
    ),
    "ShearX()": three_draws(ShearX(), 3),
    "ShearY()": three_draws(ShearY(), 3),
    "TranslateX()": three_draws(TranslateX(), 3),
    "TranslateY()": three_draws(TranslateY(), 3),
}
OTHER: Rows = {
    "Crop()": three_draws(Crop(), 16),
    "PatchDropout(rate)": ({f"rate {r}": PatchDropout(r) for r in (0.25, 0.5, 0.9)}, 0),
    "ResizedCrop()": three_draws(ResizedCrop(), 16),
    "InceptionCrop()": three_draws(InceptionCrop(), 25),
    "MixUp(alpha=1.0)": three_draws(MixUp(1.0), 12),
    "ChannelDropout(rate)": ({f"rate {r}": ChannelDropout(r) for r in (0.1, 0.5, 0.9)}, 31),
    "GaussianNoise(std)": (
        {
            "default, std 0.1": GaussianNoise(0.1),
            "c2, std 0.1": GaussianNoise(0.1, "c2"),
            "c2, std 0.3": GaussianNoise(0.3, "c2"),
        },
        10,
    ),
    "Sequential([Brightness(), Posterize()])": three_draws(Sequential([Brightness(), Posterize()]), 14),
    "RandAugment(level=0.5)": three_draws(RandAugment(level=0.5), 6),
    "TrivialAugment()": three_draws(TrivialAugment(), 11),
}


def draw_rows(image: Path, others: Sequence[Path], rows: Rows) -> Figure:
    """Two augmentations a line: the tokens, and what becomes of them."""
    figure = Figure(figsize=(9.4, 1.65 * (len(rows) // 2)), layout="constrained")
    parts: Any = figure.subfigures(len(rows) // 2, 2, wspace=0.04)
    for part, (title, (augmentations, seed)) in zip(parts.flat, rows.items(), strict=True):
        display = AugmentationDisplay.from_image(
            image, augmentations, others=others, image_size=IMAGE_SIZE, random_state=seed
        )
        display.image = None
        display.plot(figure=part)
        part.suptitle(title, fontsize="medium", fontweight="bold")
    return figure


def draw_attention(sample: Path) -> Figure:
    """Draw three test images under each attention head of a classifier of eight images a class."""
    paths, labels = load_image_folder(sample / "train")
    few = sample_shots(labels, 8, random_state=0)
    head = MAPClassifier(None, init=PretrainedHead("frofa/vit_tiny_tin200"), n_steps=200, random_state=0)
    model = make_pipeline(FrozenFeatureExtractor(output="tokens"), head)
    model.fit([paths[i] for i in few], [labels[i] for i in few])
    shown = ["ankle_boot", "bag", "coat"]
    images = [sample / "test" / name / "000.png" for name in shown]
    return AttentionDisplay.from_estimator(model, images, shown, head="each").figure_


def write(figure: Figure, path: Path, dpi: int = 110) -> None:
    """Write a PNG of 6 bits a colour: smaller, and the eye does not see it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi)
    pixels = Image.open(buffer).convert("RGB").point(lambda value: min(255, round(value / 4) * 4))
    pixels.save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Draw and write all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, help="an image of your own (default: a boot of Fashion-MNIST)")
    parser.add_argument("--others", type=Path, nargs="+", help="what MixUp mixes in (default: a bag and a shirt)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as directory:
        sample = Path(directory)
        write_sample(sample)
        image = arguments.image or sample / "test" / "ankle_boot" / "000.png"
        others = arguments.others or [sample / "test" / name / "000.png" for name in ("bag", "shirt")]
        overview = AugmentationDisplay.from_image(image, OVERVIEW, image_size=IMAGE_SIZE, random_state=3)
        write(overview.plot(ncols=4).figure_, arguments.out / "augmentations_overview.png")
        for name, rows in (("stylistic", STYLISTIC), ("geometric", GEOMETRIC), ("other", OTHER)):
            write(draw_rows(image, others, rows), arguments.out / f"augmentations_{name}.png")
        write(draw_attention(sample), arguments.out / "attention.png", dpi=80)


if __name__ == "__main__":
    main()
