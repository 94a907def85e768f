"""What token heads should pay to join a probe, and what brightness does to a token head by itself.

Training images alone: support samples are drawn from the study's pool, and all other images of ``train`` are
classified. As `FewShotClassifier(effort="high")` does, heads are trained on folds of the support, weighed beside the
probe by left-out images, and trained once more; here for several prices of a weight, in standard errors of what a head
gains. Printed are changes against the probe alone: top-1 in points, mean and worst over sets, backbones and shots, and
log-loss; the mean weight of the heads; and, of heads by themselves, the change by brightness against none.

Usage: python benchmarks/blend_price.py DIRECTORY... [--backbone NAME...] [--shots 5 25] [--seeds 5] [--n-views 6]
DIRECTORY holds train/CLASS/IMAGE. The tables of docs/method.md have 300 steps (--n-steps; the head without augmentation
too, there), 40 images of each class in the pool of support samples, and 20 to 40 others that are classified.
"""

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from frofa import FeatureBlocks, FrozenFeatureExtractor, load_image_folder, sample_shots
from frofa.augmentations import Brightness
from frofa.estimators import MAPClassifier, ShrinkageProbeClassifier
from frofa.estimators.blending import weights as blending
from frofa.estimators.blending.folds import fit_heads, held_out_scores, scores_in_order
from frofa.estimators.blending.members import Settings, token_heads
from frofa.estimators.core.confident.folds import assign_folds
from frofa.estimators.solvers.left_out import LEAST, LeftOut
from frofa.evaluation import log_loss
from frofa.study.data import short_name

PRICES = (0.0, 0.5, 1.0, 1.5, 2.0)
LEVELS = {"none": None, "c2 0.1": Brightness(0.1, "c2"), "c2 0.3": Brightness(0.3, "c2")}
N_FOLDS = 5


def features_of(directory: Path, backbone: str, n_views: int, n_images: int | None) -> tuple[FeatureBlocks, Any]:
    """Give features of the training images, or of so many of each class, and their labels."""
    paths, labels = load_image_folder(directory / "train")
    names = np.asarray(labels)
    most = min(np.unique(names, return_counts=True)[1])
    rows = sample_shots(names, min(n_images or most, most), random_state=0)
    extractor = FrozenFeatureExtractor(backbone, output=["pooled", "mean", "tokens"], n_views=n_views)
    return extractor.transform([paths[row] for row in rows]), names[rows]


def blends(X: FeatureBlocks, y: Any, support: Any, seed: int, n_steps: int) -> dict[float, tuple[float, ...]]:
    """Give the changes of top-1 in points and of log-loss by blends of each price, and what the heads count."""
    rest, classes = np.setdiff1d(np.arange(len(y)), support), np.unique(y)
    probe = ShrinkageProbeClassifier().fit(X[support].select(X.vectors), y[support])
    alone = np.log(np.maximum(probe.predict_proba(X[rest].select(X.vectors)), LEAST))
    # Folds of the support, and all of it: rows of X.
    codes = np.searchsorted(classes, y[support])
    folds = assign_folds(codes, N_FOLDS, np.random.RandomState(seed))
    parts = [support[folds != fold] for fold in range(N_FOLDS)] + [support]
    tokens = X.select(X.tokens)
    heads = token_heads(Settings(n_steps, 0, None, "auto", seed))
    fitted = fit_heads(tokens, y, heads, parts, np.ones(len(y)), lambda _: None)
    left_out = LeftOut.of(codes, np.ones(len(codes)), None, len(classes))
    known, unknown = [np.log(np.maximum(probe.loo_proba_, LEAST))], [alone]
    for heads_of_one in fitted.values():
        scores = held_out_scores(tokens[support], heads_of_one[:-1], folds, classes)
        if isinstance(scores, Exception) or isinstance(heads_of_one[-1], Exception):
            raise RuntimeError(f"a head could not be trained: {scores}")
        calibrated = left_out.calibrated(scores)
        known.append(calibrated.log_probs)
        on_rest = torch.from_numpy(calibrated.scale * scores_in_order(heads_of_one[-1], tokens[rest], classes))
        unknown.append(on_rest.double().log_softmax(1).numpy())
    found: dict[float, tuple[float, ...]] = {}
    for price in PRICES:
        blending.STANDARD_ERRORS = price
        blend = blending.choose_weights(np.stack(known), codes, left_out.importance)
        log_probs = blend.scale * np.tensordot(blend.weights, np.stack(unknown), 1)
        probabilities = torch.from_numpy(log_probs).softmax(1).numpy()
        right = [100 * np.mean(classes[logs.argmax(1)] == y[rest]) for logs in (alone, log_probs)]
        loss = log_loss(y[rest], probabilities, classes) - log_loss(y[rest], np.exp(alone), classes)
        found[price] = (right[1] - right[0], loss, 1 - float(blend.weights[0]))
    return found


def levels(X: FeatureBlocks, y: Any, support: Any, seed: int) -> dict[str, float]:
    """Give the top-1 of a MAP head at each level, in points, on the images that are not support."""
    rest, tokens = np.setdiff1d(np.arange(len(y)), support), X.select(X.tokens)
    heads = {name: MAPClassifier(level, random_state=seed) for name, level in LEVELS.items()}
    fitted = fit_heads(tokens, y, heads, [support], np.ones(len(y)), lambda _: None)
    return {name: 100 * head.score(tokens[rest], y[rest]) for name, [head] in fitted.items()}  # type: ignore[union-attr]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directories", type=Path, nargs="+")
    parser.add_argument("--backbone", nargs="+", default=["frofa/vit_tiny_tin200"])
    parser.add_argument("--shots", type=int, nargs="+", default=[5, 25])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--n-views", type=int, default=6)
    parser.add_argument("--n-steps", type=int, default=1000)
    parser.add_argument("--n-images", type=int, help="of each class; all by default")
    args = parser.parse_args()
    changes: dict[float, dict[Any, list[Any]]] = {price: defaultdict(list) for price in PRICES}
    for backbone in args.backbone:
        for directory in args.directories:
            X, y = features_of(directory, backbone, args.n_views, args.n_images)
            for shots in args.shots:
                alone = []
                for seed in range(args.seeds):
                    support = sample_shots(y, shots, random_state=seed)
                    alone.append(levels(X, y, support, seed))
                    for price, change in blends(X, y, support, seed, args.n_steps).items():
                        changes[price][backbone, directory, shots].append(change)
                by_level = {name: np.mean([one[name] - one["none"] for one in alone]) for name in LEVELS}
                text = ", ".join(f"{name} {change:+.1f}" for name, change in by_level.items() if name != "none")
                print(f"{short_name(backbone)}, {directory.name}, {shots} shots: {text} against none", flush=True)
    print("\n| price | top-1 | worst | log-loss | weight |\n| --- | --- | --- | --- | --- |")
    for price, by_cell in changes.items():
        means = np.array([np.mean(cell, 0) for cell in by_cell.values()])  # (cells, 3)
        top, loss, weight = means.mean(0)
        print(f"| {price} | {top:+.2f} | {means[:, 0].min():+.1f} | {loss:+.3f} | {weight:.2f} |")


if __name__ == "__main__":
    main()
