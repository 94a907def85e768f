"""Accuracy on test images against labels spent, by who chooses the images to label: `frofa.suggest`, and others.

python benchmarks/suggestions.py SETS... --backbones NAMES... --store DIR

The pool is the training split, of which each seed leaves out a fifth; the head is `ShrinkageProbeClassifier`, from 10
labels to 200 in tens. Strategies of scikit-activeml get the same vectors, of length one, and the same head. Those that
need two classes begin at random. Figures are means over sets and backbones, intervals over seeds, paired.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import skactiveml
import skactiveml.pool
import torch
from image_cells import Cell, add_options, cells

import frofa
from frofa import FeatureBlocks, suggest
from frofa.estimators import ShrinkageProbeClassifier
from frofa.evaluation import mean_interval
from frofa.labelling.suggestions.pool import Pool

Array = npt.NDArray[Any]
BATCH, MOST = 10, 200
COMMAND = (
    "python benchmarks/suggestions.py",
    "SETS... --backbones NAMES... --store DIR",
)
POOL_SHARE = 0.8
SHOWN = (10, 20, 50, 100, 200)
OURS = ("auto", "coverage", "margin", "random")
THEIRS: dict[str, Callable[[int, int], Any]] = {
    "MaxHerding": lambda _, seed: skactiveml.pool.MaxHerding(random_state=seed),
    "TypiClust": lambda _, seed: skactiveml.pool.TypiClust(random_state=seed),
    "ProbCover": lambda n_classes, seed: skactiveml.pool.ProbCover(n_classes=n_classes, random_state=seed),
    "BADGE": lambda _, seed: skactiveml.pool.Badge(random_state=seed),
    "DropQuery": lambda _, seed: skactiveml.pool.DropQuery(random_state=seed),
}
"""Strategies by number of classes, which ProbCover alone is told, and seed."""
NEEDING_CLASSES = ("margin", "BADGE", "DropQuery")


class Round(NamedTuple):
    """Images and labels of a pool, with its vectors (n, D) of length one, and those of the test split."""

    pool: FeatureBlocks
    vectors: Array
    y: Array
    test: FeatureBlocks
    test_y: Array
    seed: int


def rounds(cell: Cell, seeds: int) -> Iterator[Round]:
    """Draw a pool for each seed, of the plain images and their mirror images alone."""
    n_views = min(2, cell.train.n_views)
    train, test = cell.train.select(n_views=n_views), cell.test.select(n_views=n_views)
    for seed in range(seeds):
        rows = np.random.default_rng(seed).permutation(len(train))[: int(POOL_SHARE * len(train))]
        pool = train[rows]
        vectors = Pool(pool, torch.device("cpu")).vectors(slice(None)).numpy()
        yield Round(pool, vectors, cell.train_labels[rows], test, cell.test_labels, seed)


def accuracies(given: Round, name: str) -> list[float]:
    """Accuracy after each batch of labels that a strategy has chosen."""
    rows: Array = np.empty(0, np.intp)
    found = []
    while len(rows) < MOST:
        rows = np.concatenate([rows, ask(given, name, rows)])
        known = given.y[rows]
        if len(set(known)) < 2:
            found.append(float((given.test_y == known[0]).mean()))
        else:
            found.append(head().fit(given.pool[rows], known).score(given.test, given.test_y))
    return found


def head(**parameters: Any) -> ShrinkageProbeClassifier:
    return ShrinkageProbeClassifier(keep_support=False, device="cpu", **parameters)


def ask(given: Round, name: str, rows: Array) -> Array:
    """Ask a strategy for a batch, with the labels of some rows known."""
    seed = 1000 * given.seed + len(rows)
    y = given.y[rows]
    options: dict[str, Any] = {"batch_size": BATCH, "device": "cpu", "random_state": seed}
    # Without labels there is no X.
    none = not len(rows)
    if name in NEEDING_CLASSES and len(set(y)) < 2:
        name = "random"
    if name in OURS:
        labelled = () if none else (given.pool[rows], y)
        return np.asarray(suggest(head(), given.pool, *labelled, strategy=name, **options))
    strategy = THEIRS[name](len(set(given.y)), seed)
    blocks = head(block_sizes=list(given.pool.widths.values()))
    labelled = () if none else (given.vectors[rows], y)
    with warnings.catch_warnings():  # ProbCover warns of the radius that it takes
        warnings.simplefilter("ignore")
        return np.asarray(suggest(blocks, given.vectors, *labelled, strategy=strategy, **options))


def summarise(curves: dict[str, Array]) -> dict[str, Any]:
    """Areas under the curves (cells, seeds, batches), and what they differ by from ours, paired over seeds."""
    areas = {name: 100 * each.mean((0, 2)) for name, each in curves.items()}
    return {
        name: {
            "area": float(areas[name].mean()),
            "difference_to_auto": list(mean_interval(areas[name] - areas["auto"])) if name != "auto" else None,
            "accuracy": {n: float(100 * each[:, :, n // BATCH - 1].mean()) for n in SHOWN},
        }
        for name, each in curves.items()
    }


def table(found: dict[str, Any]) -> str:
    """Make a table in Markdown, the largest area first."""
    lines = ["| strategy | area | difference to auto | " + " | ".join(f"{n} labels" for n in SHOWN) + " |"]
    lines.append("| --- |" + " --- |" * (len(SHOWN) + 2))
    for name, each in sorted(found.items(), key=lambda item: -item[1]["area"]):
        difference = each["difference_to_auto"]
        shown = "" if difference is None else f"{difference[0]:+.2f} ({difference[1]:+.2f} to {difference[2]:+.2f})"
        figures = " | ".join(f"{value:.1f}" for value in each["accuracy"].values())
        lines.append(f"| {name} | {each['area']:.2f} | {shown} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_options(parser)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--strategies", nargs="+", default=[*OURS, *THEIRS])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    path = args.out / "confidence_suggestions.json"
    curves: dict[str, dict[str, list[list[float]]]] = {}
    if path.exists():  # other backbones, or other strategies, of an earlier call
        curves = json.loads(path.read_text())["curves"]
    for cell in cells(args):
        label, start = f"{cell.data}, {cell.backbone}", time.perf_counter()
        for name in args.strategies:
            curves.setdefault(name, {})[label] = [accuracies(given, name) for given in rounds(cell, args.seeds)]
        print(label, f"{time.perf_counter() - start:.0f} s", flush=True)
        write(path, curves, args.seeds)
    print(table(json.loads(path.read_text())["means"]))


def write(path: Path, curves: dict[str, dict[str, list[list[float]]]], seeds: int) -> None:
    """Write all curves, and the means over the cells that all strategies have."""
    common = sorted(set.intersection(*(set(each) for each in curves.values())))
    arrays = {name: np.array([each[label] for label in common]) for name, each in curves.items()}
    facts = {
        "command": " ".join(COMMAND),
        "versions": f"frofa {frofa.__version__}, scikit-activeml {skactiveml.__version__}",
        "seeds": seeds,
        "cells": common,
        "means": summarise(arrays) if common else {},
        "curves": curves,
    }
    path.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
