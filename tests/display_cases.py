"""A classifier of images with images that it did not see, and plain images to tell apart, for tests of displays."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from frofa import FrozenFeatureExtractor, ImageClassifier, load_images
from frofa.demo import write_sample

CLASSES = ("bag", "coat", "shirt", "sneaker")


class Fitted(NamedTuple):
    """A classifier with labelled images that it did not see, and their features."""

    classifier: ImageClassifier
    items: list[Image.Image]
    y: npt.NDArray[np.str_]
    features: Any


@cache
def fitted_classifier() -> Fitted:
    """Fit to fifteen images a class of the packaged sample, once."""
    with TemporaryDirectory() as directory:
        write_sample(Path(directory))
        images, y = _some(Path(directory) / "train", 15)
        items, others = _some(Path(directory) / "test", 7)
    options: dict[str, Any] = {"device": "cpu", "n_jobs": 1}
    classifier = ImageClassifier(n_views=1, random_state=0, **options).fit(images, y)
    return Fitted(classifier, items, others, FrozenFeatureExtractor(output="auto", **options).transform(items))


def _some(folder: Path, n: int) -> tuple[list[Image.Image], npt.NDArray[np.str_]]:
    """Read the first n images of each class into memory."""
    found = load_images(folder)
    labels = np.asarray(found.labels)
    rows = np.concatenate([np.flatnonzero(labels == label)[:n] for label in CLASSES])
    return [Image.open(str(found.items[i])).convert("RGB") for i in rows.tolist()], labels[rows]


def coloured_images() -> list[Image.Image]:
    """Twelve images, each of a colour of its own."""
    return [Image.new("RGB", (12, 8), (20 * i, 255 - 20 * i, 128)) for i in range(12)]
