"""The main job on a packaged sample of Fashion-MNIST: from a folder of images to a table and a plot."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

from frofa.augmentations import Brightness
from frofa.display import FewShotDisplay
from frofa.evaluation import mean_interval, sample_shots
from frofa.extraction.extractor import FrozenFeatureExtractor
from frofa.images.folders import load_image_folder
from frofa.selection import fit_head, head_choices
from frofa.utils.progress import progress_bar

SHOTS = (5, 10)
FOLDS = 3
DEMO_STEPS = 150
DEMO_AUGMENTATIONS = [Brightness(level, "c2") for level in (0.1, 0.3)]
TITLES = {
    "ridge": "ridge probe",
    "logistic": "logistic probe",
    "prototype": "prototypes",
    "map": "MAP head",
    "map+frofa": "MAP head + FroFA",
}


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
    store = directory / "features"
    train, y_train = load_image_folder(directory / "images" / "train")
    test, y_test = load_image_folder(directory / "images" / "test")
    say(f"{len(train)} train and {len(test)} test images of Fashion-MNIST, {len(set(y_train))} classes")
    features = {}
    # Tokens (n, N, C) for the heads that attend, pooled vectors (n, C) for the probes; test images behind the others.
    for output in ("tokens", "pooled"):
        extractor = FrozenFeatureExtractor(output=output, store=store, n_jobs=-1, verbose=True)
        extracted = extractor.fit(train).transform([*train, *test])
        features[output] = extracted[: len(train)], extracted[len(train) :]
    shapes = ", ".join(f"{output} {seen.shape[1:]}" for output, (seen, _) in features.items())
    say(f"backbone {extractor.model}: {shapes}")

    accuracies: dict[int, dict[str, list[float]]] = {shots: {title: [] for title in TITLES.values()} for shots in SHOTS}
    picked: dict[int, list[str]] = {shots: [] for shots in SHOTS}
    with progress_bar(total=len(SHOTS) * n_seeds * len(TITLES), unit="head", desc="fit") as bar:
        for shots in SHOTS:
            for seed in range(n_seeds):
                # All heads are fitted to the same rows, which makes their differences pairs.
                rows = sample_shots(y_train, shots, seed)
                choices = head_choices(seed, n_steps=DEMO_STEPS, augmentations=DEMO_AUGMENTATIONS)
                for key, title in TITLES.items():
                    choice = choices[key]
                    seen, unseen = features[choice.output]
                    chosen = fit_head(choice, seen[rows], y_train[rows], cv=FOLDS, seed=seed)
                    hits = chosen.estimator.predict(unseen) == y_test
                    accuracies[shots][title].append(100 * float(hits.mean()))
                    if key == "map+frofa":
                        picked[shots].append(str(chosen.params["augment"]))
                    bar.update()
    _report(accuracies, picked, n_seeds, say)
    say(f"{time.perf_counter() - started:.0f} s")
    return FewShotDisplay(accuracies)


def _report(
    accuracies: dict[int, dict[str, list[float]]],
    picked: dict[int, list[str]],
    n_seeds: int,
    say: Callable[[str], None],
) -> None:
    def row(title: str, cells: Iterable[str]) -> None:
        say(f"{title:<18}" + "".join(cell.rjust(16) for cell in cells))

    say(f"\ntop-1 accuracy on the test images, %: mean and 95 % interval over {n_seeds} support samples")
    row("", (f"{shots} shots" for shots in accuracies))
    for title in TITLES.values():
        row(title, (f"{mean_interval(found[title]):.1f}" for found in accuracies.values()))
    gains = [np.subtract(found[TITLES["map+frofa"]], found[TITLES["map"]]) for found in accuracies.values()]
    row("FroFA, paired", (f"{mean_interval(gain):+.1f}" for gain in gains))
    for shots, names in picked.items():
        counts = ", ".join(f"{name} ({count}x)" for name, count in Counter(names).items())
        say(f"picked at {shots} shots: {counts}")
