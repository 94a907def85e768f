"""Why augmented copies help ridge with EfficientNet-Lite0 (docs/results/augmentations): penalty or standardisation.

Ridge divides each channel by its deviation over what it is fitted to: the images, or the images and their copies. On
pooled features at 1, 5 and 10 shots, with the copies of the study (brightness c, four a sample):

1. The probe with and without copies, and the penalties that leave-one-out takes.
2. Suspected: the penalty. Test: the accuracy of fixed penalties, without copies.
3. Suspected: the standardisation. Test: means and deviations are taken from the images or from images and copies, and
   ridge is fitted to the images or to both, in all four ways ("standardised by / fitted to"). Two more, for which no
   copy is drawn: every variance is raised by what the copies would add on average; all channels share one deviation.
   Each takes the penalty that is best by validation accuracy, so that the penalty cannot be what differs.
4. How many channels hardly vary over the support sample, and what they weigh once they are standardised.

Usage: python benchmarks/ridge_standardisation.py DIRECTORY [--model NAME] [--store DIRECTORY] [--out FILE.json]
DIRECTORY holds train/CLASS/IMAGE and test/CLASS/IMAGE. Support samples, validation and test parts are the study's.
"""

import argparse
import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import RidgeClassifier

from frofa.augmentations import Brightness
from frofa.estimators import RidgeProbeClassifier
from frofa.evaluation import mean_interval
from frofa.study.data import StudyData, load_study_data

Array = npt.NDArray[Any]
SEEDS, SHOTS = 5, (1, 5, 10)
LEVEL, N_COPIES = 0.2, 4
AUGMENT = Brightness(LEVEL, "c")
PENALTIES = tuple(2.0**k for k in range(0, 21, 2))
EPSILON = 1e-5
"""Added to deviations, as by the probe."""
STILL = 0.1
"""A channel hardly varies if its deviation over the support sample is below this part of that over the test images."""
PROBE, PLAIN = "probe", "images / images"


class Fit(NamedTuple):
    """What ridge is fitted to, and how that is standardised."""

    features: Array
    labels: Array
    weights: Array
    mean: Array
    scale: Array

    def accuracies(self, data: StudyData) -> Array:
        """Validation and test accuracy of each penalty, shape (n_penalties, 2)."""
        z = (data.features["pooled"] - self.mean) / self.scale
        rows = (self.features - self.mean) / self.scale
        heads = [RidgeClassifier(alpha).fit(rows, self.labels, self.weights) for alpha in PENALTIES]
        return np.array(
            [[100 * head.score(z[part], data.y[part]) for part in (data.validation, data.test)] for head in heads]
        )


def scale_of(mean: Array, variance: Array) -> Array:
    """What channels are divided by; infinity for a constant one, which so has no weight, as with the probe."""
    deviation = np.sqrt(variance)
    constant = deviation <= 10 * np.finfo(np.float64).eps * np.abs(mean)
    return np.where(constant, np.inf, deviation + EPSILON)


def fits(x: Array, y: Array, seed: int) -> dict[str, Fit]:
    """By name: what gives mean and deviation / what ridge is fitted to."""
    generator = torch.Generator().manual_seed(seed)
    copies = [AUGMENT(torch.as_tensor(x, dtype=torch.float32), generator).double().numpy() for _ in range(N_COPIES)]
    both = np.concatenate([x, *copies])
    images = x, y, np.ones(len(x))
    with_copies = both, np.tile(y, 1 + N_COPIES), np.full(len(both), 1 / (1 + N_COPIES))
    mean, variance = x.mean(0), x.var(0)
    own, shared = (mean, scale_of(mean, variance)), (both.mean(0), scale_of(both.mean(0), both.var(0)))
    # Of U(-a, a) the variance is a^2 / 3; clipping, which makes it smaller, is left out.
    added = N_COPIES / (1 + N_COPIES) * ((LEVEL * np.ptp(x, axis=1)) ** 2 / 3).mean()
    return {
        PLAIN: Fit(*images, *own),
        "images and copies / images": Fit(*images, *shared),
        "images / images and copies": Fit(*with_copies, *own),
        "images and copies / images and copies": Fit(*with_copies, *shared),
        "images, variances raised alike / images": Fit(*images, mean, scale_of(mean, variance + added)),
        "one deviation for all channels / images": Fit(*images, mean, np.full_like(mean, np.sqrt(variance.mean()))),
    }


def probe(data: StudyData, shots: int) -> tuple[dict[str, Array], dict[str, list[float]]]:
    """Test accuracies and penalties of `RidgeProbeClassifier` with and without copies, as the study has it."""
    x = data.features["pooled"]
    accuracies: dict[str, list[float]] = {PROBE: [], f"{PROBE} with copies": []}
    penalties: dict[str, list[float]] = {name: [] for name in accuracies}
    for seed, rows in enumerate(data.support(shots, SEEDS)[0]):
        for name, augment in zip(accuracies, (None, AUGMENT), strict=True):
            head = RidgeProbeClassifier(augment=augment, n_augmented=N_COPIES, random_state=seed)
            head.fit(x[rows], data.y[rows])
            accuracies[name].append(100 * float(head.score(x[data.test], data.y[data.test])))
            penalties[name].append(float(np.log2(head.alpha_)))
    return {name: np.array(values) for name, values in accuracies.items()}, penalties


def compare(data: StudyData, shots: int) -> dict[str, Any]:
    """Test accuracy of the probe, of plain ridge by penalty, and of each way to standardise and fit."""
    test, penalties = probe(data, shots)
    found: dict[str, list[Array]] = defaultdict(list)
    for seed, rows in enumerate(data.support(shots, SEEDS)[0]):
        for name, fit in fits(data.features["pooled"][rows].astype(np.float64), data.y[rows], seed).items():
            found[name].append(fit.accuracies(data))
    by_name = {name: np.stack(values) for name, values in found.items()}  # seed, penalty, part
    for name, values in by_name.items():
        best = int(values[:, :, 0].mean(0).argmax())
        test[name], penalties[name] = values[:, best, 1], [float(np.log2(PENALTIES[best]))]
    return {
        "test accuracy": {name: f"{mean_interval(values):.1f}" for name, values in test.items()},
        "log2 of the penalty": penalties,
        **{
            f"change against {base}": {
                name: f"{mean_interval(values - test[base]):+.1f}" for name, values in test.items() if name != base
            }
            for base in (PROBE, PLAIN)
        },
        f"test accuracy of {PLAIN} by log2 of the penalty": {
            f"{np.log2(alpha):.0f}": f"{value:.1f}"
            for alpha, value in zip(PENALTIES, by_name[PLAIN][:, :, 1].mean(0), strict=True)
        },
    }


def still_channels(data: StudyData, shots: int) -> dict[str, float]:
    """Percent of channels that hardly vary over the support sample, and what they then weigh in the test images."""
    x = data.features["pooled"].astype(np.float64)
    unseen = x[data.test]
    parts, weights = [], []
    for rows in data.support(shots, SEEDS)[0]:
        mean = x[rows].mean(0)
        squares = (((unseen - mean) / scale_of(mean, x[rows].var(0))) ** 2).sum(0)
        still = x[rows].std(0) < STILL * unseen.std(0)
        parts.append(100 * still.mean())
        weights.append(100 * squares[still].sum() / squares.sum())
    return {
        "channels, %": round(float(np.mean(parts)), 1),
        "of the squares of the standardised test images, %": round(float(np.mean(weights)), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--model", default="frofa/vit_tiny_tin200")
    parser.add_argument("--store", type=Path, help="features of a study, OUT/features (default: extract anew)")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        store = args.store or Path(temporary)
        data = load_study_data(
            args.directory, args.model, store, max(SHOTS), device="auto", n_jobs=-1, outputs=["pooled"]
        )
    report: dict[str, Any] = {
        "set": data.dataset,
        "backbone": data.backbone,
        "seeds": SEEDS,
        "copies": f"{N_COPIES} a sample, {AUGMENT}",
    }
    for shots in SHOTS:
        report[f"{shots} shots"] = {
            **compare(data, shots),
            f"channels of less than {STILL:g} of their deviation over the test images": still_channels(data, shots),
        }
    print(json.dumps(report, indent=1, ensure_ascii=False))
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
