"""Features of images for tests: extracted once a session, and read-only."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from frofa import FrozenFeatureExtractor, load_image_folder, sample_shots
from frofa.demo import write_sample

CIFAR10 = Path(__file__).parents[2] / "shared" / "data" / "cifar10"
CLASSES = ("bird", "cat", "dog", "ship", "truck") if CIFAR10.is_dir() else ("bag", "coat", "dress", "sneaker", "shirt")
SHOTS, HELD_OUT = 40, 20  # a class; 5 * 40 samples are more than the embedded backbone's 192 channels


class Features(NamedTuple):
    """Support and held-out features with their labels, class by class."""

    support: npt.NDArray[np.float32]
    y: npt.NDArray[np.str_]
    held_out: npt.NDArray[np.float32]
    y_held_out: npt.NDArray[np.str_]

    def shots(self, shots: int, *classes: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.str_]]:
        """So many support samples of each of `classes`, by default of all."""
        known = np.flatnonzero(np.isin(self.y, classes or CLASSES))
        rows = known[sample_shots(self.y[known], shots, random_state=0)]
        return self.support[rows], self.y[rows]


@cache
def real_features(output: Literal["tokens", "cls", "mean"]) -> Features:
    """Embedded backbone on CIFAR-10, or on the packaged sample of Fashion-MNIST where that is absent."""
    with TemporaryDirectory() as directory:
        folder = CIFAR10
        if not folder.is_dir():
            folder = Path(directory)
            write_sample(folder)
        extractor = FrozenFeatureExtractor(output=output, device="cpu")
        support, y = _images(folder / "train", SHOTS)
        held_out, y_held_out = _images(folder / "test", HELD_OUT)
        features = Features(extractor.transform(support), y, extractor.transform(held_out), y_held_out)
    for array in features:
        array.flags.writeable = False
    return features


def _images(folder: Path, shots: int) -> tuple[list[str], npt.NDArray[np.str_]]:
    paths, labels = load_image_folder(folder)
    known = np.flatnonzero(np.isin(labels, CLASSES))
    rows = known[sample_shots(labels[known], shots, random_state=0)]
    return [paths[row] for row in rows], labels[rows]


def gaussian(n: int, channels: int, n_classes: int = 3, seed: int = 0) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Random features of many scales, n_classes classes 0, 1, ... in turn."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    X = rng.normal(size=(n, channels)) * rng.uniform(0.1, 10, channels) + 5
    X[:, :n_classes] += 2 * np.eye(n_classes)[y]
    X.flags.writeable = False
    return X, y
