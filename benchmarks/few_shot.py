"""What frozen-feature augmentation buys: a MAP head with and without it, beside the probes, over seeds.

The train split gives the support samples (drawn anew for each seed; those of different seeds may overlap), the test
split is for the report only. The MAP heads share all hyperparameters, the library's defaults, which were chosen for the
head with brightness c2 0.5 on held-out images of the train split of CIFAR-10 (docs/method.md). "MAP, weight decay 0.01"
is the setting that was best there without augmentation. Probes work on the model's own pooled features; the logistic
probe standardises them and picks C by cross-validation on the support samples.

Usage: python benchmarks/few_shot.py DIRECTORY [--model NAME] [--shots 5 10] [--seeds 10] [--out FILE.json]
DIRECTORY holds train/CLASS/IMAGE and test/CLASS/IMAGE.
"""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import frofa
from frofa.augmentations import Brightness
from frofa.backbones.outputs import Output
from frofa.estimators import LogisticProbeClassifier, MAPClassifier, PrototypeClassifier, RidgeProbeClassifier
from frofa.evaluation import mean_interval, sample_shots

OUTPUTS: tuple[Output, ...] = ("tokens", "pooled")
BASELINE = "MAP"
HEADS: dict[str, tuple[str, Callable[[int], Any]]] = {
    "ridge": ("pooled", lambda _: RidgeProbeClassifier()),
    "logistic": (
        "pooled",
        lambda _: GridSearchCV(
            make_pipeline(StandardScaler(), LogisticProbeClassifier()),
            {"logisticprobeclassifier__C": [0.001, 0.01, 0.1, 1.0]},
            scoring="neg_log_loss",
        ),
    ),
    "prototype": ("pooled", lambda _: PrototypeClassifier()),
    BASELINE: ("tokens", lambda seed: MAPClassifier(None, random_state=seed)),
    "MAP, weight decay 0.01": ("tokens", lambda seed: MAPClassifier(None, weight_decay=0.01, random_state=seed)),
    "MAP + brightness c2 0.5": (
        "tokens",
        lambda seed: MAPClassifier(augment=Brightness(level=0.5, variant="c2"), random_state=seed),
    ),
    "MAP + brightness c 0.2": (
        "tokens",
        lambda seed: MAPClassifier(augment=Brightness(level=0.2, variant="c"), random_state=seed),
    ),
}


def load(directory: Path, model: str) -> tuple[dict[str, Any], Any, dict[str, Any], Any]:
    splits: list[Any] = []
    with tempfile.TemporaryDirectory() as store:
        for split in ("train", "test"):
            paths, labels = frofa.load_image_folder(directory / split)
            extractors = {o: frofa.FrozenFeatureExtractor(model, output=o, store=store, verbose=True) for o in OUTPUTS}
            splits += [{o: extractor.fit_transform(paths) for o, extractor in extractors.items()}, labels]
    train, train_labels, test, test_labels = splits
    return train, train_labels, test, test_labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--model", default="frofa/vit_tiny_tin200")
    parser.add_argument("--shots", type=int, nargs="+", default=[5, 10])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, help="write all numbers there, as JSON")
    args = parser.parse_args()
    train, train_labels, test, test_labels = load(args.directory, args.model)
    n, tokens, channels = train["tokens"].shape
    print(
        f"{args.directory.name}, {Path(args.model).name}: {n} train and {len(test_labels)} test images, "
        f"{tokens} tokens x {channels} channels, {len(set(test_labels))} classes, {args.seeds} seeds"
    )
    accuracies: dict[str, dict[str, list[float]]] = {}
    for shots in args.shots:
        found = accuracies[str(shots)] = {name: [] for name in HEADS}
        started = time.perf_counter()
        for seed in range(args.seeds):
            rows = sample_shots(train_labels, shots, seed)
            for name, (output, make) in HEADS.items():
                head = make(seed).fit(train[output][rows], train_labels[rows])
                found[name].append(100 * float(np.mean(head.predict(test[output]) == test_labels)))
        print(
            f"\n{shots} shots ({time.perf_counter() - started:.0f} s): "
            f"top-1 %, 95 % interval; change against {BASELINE}"
        )
        for name, values in found.items():
            change = mean_interval(np.subtract(values, found[BASELINE]))
            print(f"{name:<26}{mean_interval(values):.1f}" + ("" if name == BASELINE else f"   {change:+.1f} (paired)"))
    if args.out:
        versions = {"frofa": frofa.__version__, "torch": torch.__version__, "timm": timm.__version__}
        result = {
            "data": args.directory.name,
            "model": Path(args.model).name,
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {platform.machine()}",
            "versions": versions,
            "accuracies": accuracies,
        }
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
