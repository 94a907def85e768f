"""Draw the figures of docs/displays.md: a classifier of Fashion-MNIST, its confusions, mistakes, map and curves.

Runs offline, on packaged images and the embedded backbone:

    python docs/make_display_figures.py [--out docs/figures]
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from make_figures import write

from frofa import (
    ConfusionDisplay,
    EmbeddingDisplay,
    ImageClassifier,
    MistakesDisplay,
    RejectionDisplay,
    ReliabilityDisplay,
    load_images,
)
from frofa.demo import write_sample
from frofa.utils.drawing import new_figure


def main() -> None:
    """Fit, draw and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as directory:
        folder = Path(directory) / "images"
        write_sample(folder)
        train, test = load_images(folder / "train"), load_images(folder / "test")
        classifier = ImageClassifier(store=Path(directory) / "store", random_state=0).fit(train)

        def draw(name: str, display: Any) -> None:
            write(display.figure_, arguments.out / f"display_{name}.png")

        draw("confusion", ConfusionDisplay.from_estimator(classifier, test))
        draw("mistakes", MistakesDisplay.from_estimator(classifier, test, n_images=8))
        draw("map", EmbeddingDisplay.from_estimator(classifier, test))
        figure = new_figure(10, 4.2)
        left, right = figure.subplots(1, 2)
        ReliabilityDisplay.from_estimator(classifier, test, ax=left)
        RejectionDisplay.from_estimator(classifier, test, ax=right)
        write(figure, arguments.out / "display_curves.png")


if __name__ == "__main__":
    main()
