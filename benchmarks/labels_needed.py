"""Accuracy foretold for more labels, and labels asked for, beside what they turn out to be.

From each set and backbone, support samples of 10 images a class. Learning curves are measured on them alone, at 1 to 9
shots, as `frofa.how_many_labels` does. Laws fitted to the curve foretell the accuracy of the same sample grown to 25
images a class, on the test images: error, coverage and width of the 90 % interval. And they say how many labels reach
the accuracy that 25 images a class have on average over the samples: the ratio to 25, as the papers on data
requirements give it (arXiv 2207.01725, 2303.01598). Methods, on the same points: averaged laws, as the library has
them; each law alone; and a plain power law, a straight line through the logarithms of error and shots, by least
squares.

Usage: python benchmarks/labels_needed.py SETS... --backbones NAMES... --store DIR
[--samples N] [--out FILE]
A file that is there is added to: backbones of fewer views are measured by another call.
"""

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import sklearn
from image_cells import Cell, add_options, cells

import frofa
from frofa.estimators import ShrinkageProbeClassifier
from frofa.estimators.batched.jobs import Job, fit_many
from frofa.learning_curves.answer import accuracy_interval, answer_to
from frofa.learning_curves.averaging import average_laws
from frofa.learning_curves.laws import LAWS, Law
from frofa.learning_curves.measuring import measure
from frofa.learning_curves.points import Points
from frofa.learning_curves.supports import nested_supports

Array = npt.NDArray[Any]
SHOTS, ASKED, LEVEL = 10, 25, 0.9


class Foretold(NamedTuple):
    """What a method says of 25 shots, and of the labels a class that reach a target.

    An interval that it does not have is NaN; `stated` says whether the library would give the labels as a number.
    """

    accuracy: float
    low: float
    high: float
    shots: float
    shots_low: float = math.nan
    shots_high: float = math.nan
    stated: bool = False


Method = Callable[[Points, int, int, float], Foretold]


def plain(points: Points, n_classes: int, n_test: int, target: float) -> Foretold:  # noqa: ARG001
    """Foretell by a line through the logarithms."""
    error = np.clip(1 - points.accuracy, 1e-3, 1)
    slope, height = np.polyfit(np.log(points.shots), np.log(error), 1)
    needed = math.exp((math.log(1 - target) - height) / slope) if slope < 0 else math.inf
    return Foretold(1 - math.exp(height + slope * math.log(ASKED)), math.nan, math.nan, needed)


def by_laws(*laws: Law) -> Method:
    """Foretell by some laws, averaged."""

    def method(points: Points, n_classes: int, n_test: int, target: float) -> Foretold:
        found = average_laws(points, n_classes, np.random.default_rng(0), laws)
        accuracy = accuracy_interval(found, ASKED, n_classes, LEVEL, n_test)
        answer = answer_to(found, target, LEVEL, SHOTS * n_classes, n_classes)
        median = answer["median_labels"] / n_classes
        stated = answer["n_labels"] is not None and math.isfinite(median)
        low, high = answer["shots_interval"]
        return Foretold(accuracy.mean, accuracy.low, accuracy.high, median, low, high, stated)

    return method


METHODS: dict[str, Method] = {
    "averaged laws": by_laws(*LAWS),
    **{f"{law.name} alone": by_laws(law) for law in LAWS},
    "plain power law": plain,
}


def measured(cell: Cell, n_samples: int) -> tuple[list[Points], Array, Array]:
    """Points of each sample, and real accuracies (n_samples,) at 10 and at 25 shots on the test images."""
    head = ShrinkageProbeClassifier(keep_support=False)
    points, jobs = [], []
    for seed in range(n_samples):
        # Samples of one seed are nested: the 10 images a class are among the 25.
        few, many = (frofa.sample_shots(cell.train_labels, shots, seed) for shots in (SHOTS, ASKED))
        y = cell.train_labels[few]
        codes = np.unique(y, return_inverse=True)[1]
        supports = nested_supports(codes, 10, np.random.default_rng(seed))
        points.append(measure(head, cell.train[few], y, codes, supports)[0])
        jobs += [Job(head, few), Job(head, many)]
    fitted: list[Any] = fit_many(cell.train, cell.train_labels, jobs)
    real = np.array([one.score(cell.test, cell.test_labels) for one in fitted]).reshape(-1, 2)
    return points, real[:, 0], real[:, 1]


def judge(cell: Cell, n_samples: int) -> dict[str, Any]:
    """Compare what every method says of a set and backbone with what is so."""
    points, now, real = measured(cell, n_samples)
    n_classes, n_test, target = len(np.unique(cell.train_labels)), len(cell.test_labels), float(real.mean())
    found: dict[str, Any] = {"set": cell.data, "backbone": cell.backbone, "now": now.tolist(), "real": real.tolist()}
    found["measured_at_9"] = [float(one.accuracy[-1]) for one in points]
    for name, method in METHODS.items():
        said = [method(one, n_classes, n_test, target) for one in points]
        found[name] = {field: [getattr(one, field) for one in said] for field in Foretold._fields}
    return found


def plainly(value: Any) -> Any:
    """Round numbers for a file, where infinite ones and those that are none are None."""
    if isinstance(value, dict):
        return {name: plainly(one) for name, one in value.items()}
    if isinstance(value, list):
        return [plainly(one) for one in value]
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value


def column(results: list[dict[str, Any]], name: str, field: str) -> Array:
    """Join what a method says, cell by cell; None is no interval, or labels without end."""
    nothing = math.inf if field in ("shots", "shots_high") else math.nan
    return np.array([nothing if one is None else one for cell in results for one in cell[name][field]], float)


def summary(results: list[dict[str, Any]], name: str) -> dict[str, float]:
    """Root mean square and mean error in points, coverage, width, and ratios of labels asked for to labels needed."""
    real = np.concatenate([one["real"] for one in results])
    said = {field: column(results, name, field) for field in Foretold._fields}
    error = 100 * (said["accuracy"] - real)
    ratio = said["shots"] / ASKED
    low, median, high = np.quantile(ratio, [0.1, 0.5, 0.9], method="nearest")
    stated = said["stated"].astype(bool)
    inside = (said["shots_low"] <= ASKED) & (said["shots_high"] >= ASKED)
    return {
        "rms": float(np.sqrt((error**2).mean())),
        "bias": float(error.mean()),
        "coverage": float(((said["low"] <= real) & (real <= said["high"])).mean()),
        "width": float(100 * (said["high"] - said["low"]).mean()),
        "ratio": float(median),
        "ratio_low": float(low),
        "ratio_high": float(high),
        "factor": float(np.exp(np.median(np.abs(np.log(np.minimum(ratio, 1e6)))))),
        "over_4": float((ratio > 4).mean()),
        "labels_coverage": float(inside.mean()),
        "stated": float(stated.mean()),
        "stated_factor": float(np.exp(np.median(np.abs(np.log(ratio[stated]))))) if stated.any() else math.nan,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--samples", type=int, default=10, help="support samples of each set and backbone (10)")
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()
    started = time.perf_counter()
    earlier = json.loads(args.out.read_text()) if args.out and args.out.exists() else {"commands": [], "cells": []}
    results = earlier["cells"]
    for cell in cells(args):
        results.append(judge(cell, args.samples))
        rms = ", ".join(f"{name} {summary(results[-1:], name)['rms']:.1f}" for name in METHODS)
        print(f"{cell.data}, {cell.backbone}: rms error {rms}", flush=True)
    found = {name: summary(results, name) for name in METHODS}
    print(f"{'':<24}" + "".join(f"{column:>17}" for column in found["plain power law"]))
    for name, row in found.items():
        print(f"{name:<24}" + "".join(f"{value:>17.2f}" for value in row.values()))
    if args.out:
        short = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
        versions = f"frofa {frofa.__version__}, scikit-learn {sklearn.__version__}, Python {platform.python_version()}"
        command = f"python benchmarks/labels_needed.py {' '.join(short)}  # {time.perf_counter() - started:.0f} s"
        facts = {"commands": [*earlier["commands"], command], "versions": versions, "samples": args.samples}
        lines = [json.dumps(plainly(one)) for one in results]
        head = json.dumps({**facts, "summary": plainly(found)}, indent=1).removesuffix("\n}")
        args.out.write_text(head + ',\n "cells": [\n' + ",\n".join(lines) + "\n]}\n")


if __name__ == "__main__":
    main()
