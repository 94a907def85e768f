"""Features of image sets by several backbones, as `frofa.ImageClassifier` has them, for all measurements here."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import frofa
from frofa import FeatureBlocks, FrozenFeatureExtractor

Array = npt.NDArray[Any]
MOST_TRAIN, MOST_TEST = 100, 60
"""Images of a class that are taken at most, the first by name."""


class Cell(NamedTuple):
    """Features and labels of the two splits of an image set by a backbone.

    Support samples are drawn from `train`; `test` is read once, to score.
    """

    data: str
    backbone: str
    train: FeatureBlocks
    train_labels: Array
    test: FeatureBlocks
    test_labels: Array


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the sets, the backbones and the store."""
    parser.add_argument("sets", nargs="+", type=Path, metavar="SET", help="directory with train/CLASS and test/CLASS")
    parser.add_argument("--backbones", nargs="+", required=True, metavar="NAME", help="backbones, local-dir: too")
    parser.add_argument("--views", type=int, default=6, help="views of each image (6)")
    parser.add_argument("--store", type=Path, help="directory that keeps features")


def cells(args: argparse.Namespace) -> Iterator[Cell]:
    """Yield the features of every set by every backbone."""
    for backbone in args.backbones:
        for directory in args.sets:
            yield load(directory, backbone, args.views, args.store)


def load(directory: Path, backbone: str, views: int, store: Path | None) -> Cell:
    """Extract the features of both splits."""
    extractor = FrozenFeatureExtractor(
        backbone, output="auto", n_views=views, dtype="float16", precision="float32", store=store, verbose=True
    )
    parts: list[Any] = []
    for split, most in (("train", MOST_TRAIN), ("test", MOST_TEST)):
        paths, labels = frofa.load_image_folder(directory / split)
        labels = np.asarray(labels)
        first = np.concatenate([np.flatnonzero(labels == label)[:most] for label in np.unique(labels)])
        features = extractor.fit_transform([paths[i] for i in first])
        # In memory, in float32: a backbone whose own vector is the mean token has one block, an array if of one view.
        blocks = features if isinstance(features, FeatureBlocks) else FeatureBlocks({"pooled": [features]})
        in_memory: dict[str, list[Array]] = {
            name: list(np.asarray(blocks.block(name), np.float32).swapaxes(0, 1)) for name in blocks.names
        }
        parts += [FeatureBlocks(in_memory), labels[first]]
    return Cell(directory.name, Path(backbone).name, *parts)
