"""Whether a process that extracts, fits and predicts for an hour keeps its memory, files, threads and shared memory.

Each round writes new JPEG files, one of them broken, and extracts them twice into a store, by threads and by processes;
fits every head, and a search; predicts, saves and loads; then empties, compacts and verifies the store. After each
round the process is looked at through ``/proc``. The bar: between the first third of the rounds and the last, the
medians of open files, threads and files in shared memory are the same, and resident memory grows by 2 % at most.

Usage: python benchmarks/endurance.py [--minutes M] [--out FILE.json]
Prints a line of JSON a round, and the comparison. Linux only.
"""

import argparse
import gc
import json
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.pipeline import make_pipeline

import frofa
from frofa import FeatureStore, FrozenFeatureExtractor, load, load_images, save
from frofa.augmentations import Brightness
from frofa.estimators import (
    BatchedSearchCV,
    LogisticProbeClassifier,
    MAPClassifier,
    PrototypeClassifier,
    RidgeProbeClassifier,
    SoftMoEClassifier,
)

CLASSES, IMAGES_A_CLASS = ("red", "green", "blue"), 100
STEPS = 20


def write_images(folder: Path, rng: np.random.Generator) -> None:
    for number, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for index in range(IMAGES_A_CLASS):
            pixels = rng.integers(0, 200, (96, 128, 3), np.uint8)
            pixels[..., number] += 50
            Image.fromarray(pixels).save(folder / name / f"{index}.jpg")
    (folder / CLASSES[0] / "broken.jpg").write_bytes(rng.bytes(100))


def one_round(directory: Path, seed: int) -> None:
    write_images(directory / "images", np.random.default_rng(seed))
    images = load_images(directory / "images")
    store = FeatureStore(directory / "store")
    tokens = FrozenFeatureExtractor(store=store, decode="thread", on_error="skip").extract(images.items, images.labels)
    pooled = FrozenFeatureExtractor(output="pooled", store=store, decode="process", n_jobs=2, on_error="skip")
    vectors = pooled.extract(images.items, images.labels)
    assert len(tokens.skipped) == len(vectors.skipped) == 1
    head = MAPClassifier(augment=Brightness(level=0.3, variant="c2"), n_steps=STEPS, random_state=seed)
    moe = SoftMoEClassifier(n_steps=STEPS, random_state=seed)
    for classifier, found in (
        (head, tokens),
        (moe, tokens),
        (RidgeProbeClassifier(), vectors),
        (LogisticProbeClassifier(), vectors),
        (PrototypeClassifier(), vectors),
    ):
        classifier.fit(found.features, found.y).predict_proba(found.features)
    BatchedSearchCV(head, {"lr": [0.01, 0.03], "augment__level": [0.1, 0.3]}, cv=3).fit(tokens.features, tokens.y)
    readable = [images.items[position] for position in vectors.kept]
    model = make_pipeline(pooled, RidgeProbeClassifier()).fit(readable, vectors.y)
    save(model, directory / "model.frofa")
    load(directory / "model.frofa").predict(readable[:20])
    store.gc([pooled.feature_spec().digest])
    store.compact()
    assert not store.verify()


def look() -> dict[str, float]:
    """Resident memory in MiB, open files, threads, and files in shared memory."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "memory": int(status["VmRSS"].split()[0]) / 1024,
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "threads": int(status["Threads"]),
        "shared": len(list(Path("/dev/shm").iterdir())),
    }


def compare(rounds: Sequence[dict[str, float]]) -> dict[str, object]:
    third = max(1, len(rounds) // 3)
    # The first round loads libraries and fills caches.
    first, last = rounds[1 : 1 + third], rounds[-third:]
    medians = {
        key: [round(statistics.median(entry[key] for entry in part), 1) for part in (first, last)] for key in rounds[0]
    }
    growth = medians["memory"][1] / medians["memory"][0] - 1
    constant = all(before == after for key, (before, after) in medians.items() if key != "memory")
    return {"rounds": len(rounds), **medians, "memory_growth": round(growth, 4), "held": constant and growth <= 0.02}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    ending = time.monotonic() + 60 * args.minutes
    rounds: list[dict[str, float]] = []
    while time.monotonic() < ending or len(rounds) < 4:
        with tempfile.TemporaryDirectory() as directory:
            one_round(Path(directory), len(rounds))
        gc.collect()
        rounds.append(look())
        print(json.dumps(rounds[-1]), flush=True)
    result = compare(rounds)
    print(json.dumps(result))
    if args.out:
        versions = {"frofa": frofa.__version__, "torch": torch.__version__, "python": platform.python_version()}
        args.out.write_text(
            json.dumps({**versions, "minutes": args.minutes, **result, "each": rounds}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
