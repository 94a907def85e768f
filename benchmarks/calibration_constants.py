"""Constants of calibration, on training images alone: what a left-out sample loses, and whether vector scaling pays.

A part of the training images of each class is held out and only scored. For factors of the scale of the scores, the
means over sets and backbones of log-loss, calibration error and confidence less accuracy on these images are printed:
the factor at which the last is zero is ``1 + LOST / shots``, of `frofa.estimators.solvers.shrinkage.temperature` for
the shrinkage probe and ``_lost`` of other heads. Factors are relative to what is set there. Then, what vector scaling
gains in log-loss and accuracy where it is always done, and where left-out samples say that it pays.

    python benchmarks/calibration_constants.py SETS... --backbones NAMES... --store DIR
"""

import argparse
from collections import defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt
from image_cells import Cell, add_options, cells
from scipy.special import softmax

from frofa import sample_shots
from frofa.estimators import PrototypeClassifier, RidgeProbeClassifier, ShrinkageProbeClassifier
from frofa.estimators.batched.jobs import Job, fit_many
from frofa.evaluation import calibration_error, log_loss

Array = npt.NDArray[Any]
FACTORS = (0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.4)
HELD_OUT = 15
"""Images of a class that are scored; a set has 40 at least."""


def heads(calibrate: Any) -> dict[str, Any]:
    """Heads in closed form."""
    return {
        "shrinkage": ShrinkageProbeClassifier(calibrate=calibrate, keep_support=False, device="cpu"),
        "ridge": RidgeProbeClassifier(calibrate=calibrate),
        "prototype": PrototypeClassifier(calibrate=calibrate),
    }


def measure(cell: Cell, shots: int, n_samples: int, found: dict[Any, list[Any]]) -> None:
    """Add figures of a set and a backbone, by head, shots and factor."""
    y, classes = cell.train_labels, np.unique(cell.train_labels)
    held_out = np.concatenate([np.flatnonzero(y == label)[-HELD_OUT:] for label in classes])
    rest = np.setdiff1d(np.arange(len(y)), held_out)
    samples = [rest[sample_shots(y[rest], shots, random_state=seed)] for seed in range(n_samples)]
    truth, test = np.tile(y[held_out], n_samples), cell.train[held_out]
    for name in heads(True):
        kinds = {}
        for kind in ("temperature", "vector", True):
            fitted: Any = fit_many(cell.train, y, [Job(heads(kind)[name], rows) for rows in samples])
            kinds[kind] = np.concatenate([one._logits_of(one._checked_scores(test)) for one in fitted])
        for factor in FACTORS:
            proba = softmax(factor * kinds["temperature"], axis=1)
            right = (classes[proba.argmax(1)] == truth).mean()
            bias, error = 100 * (proba.max(1).mean() - right), 100 * calibration_error(truth, proba, classes)
            found[name, shots, factor].append((log_loss(truth, proba, classes), error, bias))
        base = softmax(kinds["temperature"], axis=1)
        for kind in ("vector", True):
            proba = softmax(kinds[kind], axis=1)
            gain = log_loss(truth, base, classes) - log_loss(truth, proba, classes)
            more = (classes[proba.argmax(1)] == truth).mean() - (classes[base.argmax(1)] == truth).mean()
            found[name, shots, "always" if kind == "vector" else "where it pays"].append((gain, 100 * more))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--samples", type=int, default=5, help="support samples of each number of shots (5)")
    parser.add_argument("--shots", type=int, nargs="+", default=[2, 3, 5, 10, 25])
    args = parser.parse_args()
    found: dict[Any, list[Any]] = defaultdict(list)
    for cell in cells(args):
        for shots in args.shots:
            measure(cell, shots, args.samples, found)
    for (name, shots, what), figures in sorted(found.items(), key=str):
        if isinstance(what, str):
            gain, more = np.mean(figures, 0)
            print(f"{name}, {shots} shots, vector scaling {what}: log-loss {gain:+.4f} less, accuracy {more:+.2f}")
        else:
            loss, error, bias = np.mean(figures, 0)
            print(f"{name}, {shots} shots, factor {what}: log-loss {loss:.4f}, error {error:.2f} %, bias {bias:+.2f}")


if __name__ == "__main__":
    main()
