"""The main job on a packaged sample of Fashion-MNIST: from a folder of images to a table and a plot."""

import time
from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from frofa.augmentations import Brightness
from frofa.blocks import FeatureBlocks
from frofa.display import FewShotDisplay
from frofa.estimators import (
    BatchedSearchCV,
    FewShotClassifier,
    LogisticProbeClassifier,
    MAPClassifier,
    PrototypeClassifier,
    RidgeProbeClassifier,
)
from frofa.estimators.batched.jobs import Job, fit_each, fit_many
from frofa.estimators.core.classifier import FeatureClassifier
from frofa.evaluation import mean_interval, sample_shots
from frofa.extraction.extractor import FrozenFeatureExtractor
from frofa.images.folders import load_image_folder
from frofa.images.listing import count
from frofa.utils.progress import progress_bar

Accuracies = dict[int, dict[str, list[float]]]
"""Top-1 accuracies in percent, one a support sample, by shots and by the title of the head."""
SHOTS = (5, 10)
N_VIEWS, PREDICT_VIEWS = 6, 2
"""Views of support and test images: forward passes are most of the demo's work, and six of each would double it."""
N_STEPS = 150
"""Training steps of the attention heads: half of the default, so that the demo takes less than a minute."""
FIRST, MAP, FROFA = "ImageClassifier", "MAP head", "MAP head + FroFA"
LOGISTIC = make_pipeline(StandardScaler(), LogisticProbeClassifier())
PENALTIES = {"logisticprobeclassifier__C": [0.001, 0.01, 0.1, 1.0]}


class Compared(NamedTuple):
    """A head of the comparison: the features that it reads, and how it is made for a seed."""

    features: str
    make: Callable[[int], Any]


HEADS: Mapping[str, Compared] = {
    FIRST: Compared("blocks", lambda seed: FewShotClassifier(random_state=seed)),
    "ridge probe": Compared("pooled", lambda _: RidgeProbeClassifier()),
    "logistic probe": Compared("pooled", lambda _: BatchedSearchCV(LOGISTIC, PENALTIES, cv=3)),
    "prototypes": Compared("pooled", lambda _: PrototypeClassifier()),
    MAP: Compared("tokens", lambda seed: MAPClassifier(None, n_steps=N_STEPS, random_state=seed)),
    FROFA: Compared("tokens", lambda seed: MAPClassifier(Brightness(0.3, "c2"), n_steps=N_STEPS, random_state=seed)),
}
"""Heads by title; all others are set against the first."""


def write_sample(directory: Path) -> None:
    """Write the packaged Fashion-MNIST sample as ``DIRECTORY/train|test/CLASS/NNN.png``."""
    source = files("frofa") / "data" / "fashion_mnist_sample.npz"
    with source.open("rb") as file, np.load(file) as sample:
        for split in ("train", "test"):
            for name, images in zip(sample["classes"], sample[split], strict=True):
                folder = directory / split / str(name)
                folder.mkdir(parents=True)
                for index, pixels in enumerate(images):
                    Image.fromarray(pixels).save(folder / f"{index:03d}.png")


def run_demo(directory: Path, n_seeds: int, say: Callable[[str], None] = print) -> FewShotDisplay:
    """Extract, fit and compare in an empty directory; say each step, and return what can be plotted.

    For every number of shots, `n_seeds` support samples are drawn, and every head is fitted to each of them.
    """
    started = time.perf_counter()
    write_sample(directory / "images")
    train, y_train = load_image_folder(directory / "images" / "train")
    test, y_test = load_image_folder(directory / "images" / "test")
    say(f"{len(train)} train and {len(test)} test images of Fashion-MNIST, {count(len(set(y_train)), 'class')}")
    seen, unseen = (_extract(images, n_views) for images, n_views in ((train, N_VIEWS), (test, PREDICT_VIEWS)))
    say(f"backbone {FrozenFeatureExtractor().model}: {N_VIEWS} views of train images, {PREDICT_VIEWS} of test images")
    accuracies: Accuracies = {shots: {} for shots in SHOTS}
    with progress_bar(total=len(SHOTS) * n_seeds * len(HEADS), unit="head", desc="fit") as bar:
        for shots in SHOTS:
            # All heads are fitted to the same rows, which makes their differences pairs.
            rows = [sample_shots(y_train, shots, seed) for seed in range(n_seeds)]
            for title, head in HEADS.items():
                jobs = [Job(head.make(seed), sample) for seed, sample in enumerate(rows)]
                fitted = _fit(seen[head.features], y_train, jobs, bar.update)
                predicted = [one.predict(unseen[head.features]) for one in fitted]
                accuracies[shots][title] = [100 * float((labels == y_test).mean()) for labels in predicted]
    for line in report_lines(accuracies):
        say(line)
    say(f"{time.perf_counter() - started:.0f} s")
    return FewShotDisplay(accuracies)


def _extract(images: list[str], n_views: int) -> dict[str, Any]:
    """Features of images by kind, from one pass: all views of two vectors, and two outputs of the plain image."""
    extractor = FrozenFeatureExtractor(output=["pooled", "mean", "tokens"], n_views=n_views, n_jobs=-1, verbose=True)
    extracted: FeatureBlocks = extractor.fit_transform(images)
    plain = {name: extracted.views(name)[0] for name in ("tokens", "pooled")}
    return {"blocks": extracted.select(["pooled", "mean"]), **plain}


def _fit(features: Any, y: npt.NDArray[Any], jobs: list[Job], on_done: Callable[[int], object]) -> list[Any]:
    """Fit heads together, searches one after another; the first error is raised."""
    together = isinstance(jobs[0].estimator, FeatureClassifier)
    heads = (fit_many if together else fit_each)(features, y, jobs, sample_weight=None, on_done=on_done)
    for head in heads:
        if isinstance(head, Exception):
            raise head
    return heads


def report_lines(accuracies: Accuracies) -> list[str]:
    """Write the table: accuracies of all heads, and differences to the first, paired by support sample."""
    n_seeds = len(next(iter(accuracies.values()))[FIRST])
    width = max(map(len, HEADS)) + 2

    def row(title: str, cells: Iterable[str]) -> str:
        return f"{title:<{width}}{''.join(cell.rjust(14) for cell in cells)}".rstrip()

    lines = [
        f"\ntop-1 accuracy on the test images, %: mean and 95 % interval over {count(n_seeds, 'support sample')}, and",
        f"the difference to {FIRST} on the same samples",
        row("", (cell for shots in accuracies for cell in (count(shots, "shot"), "difference"))),
    ]
    for title in HEADS:
        cells = []
        for found in accuracies.values():
            difference = mean_interval(np.subtract(found[title], found[FIRST]))
            cells += [f"{mean_interval(found[title]):.1f}", "" if title == FIRST else f"{difference:+.1f}"]
        lines.append(row(title, cells))
    gains = [mean_interval(np.subtract(found[FROFA], found[MAP])) for found in accuracies.values()]
    return [*lines, row("FroFA in the MAP head", (cell for gain in gains for cell in ("", f"{gain:+.1f}")))]
