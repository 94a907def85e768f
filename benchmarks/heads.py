"""Heads of this library beside published ones and probes tuned on the test images, on the same frozen features.

Published heads (`benchmarks/baselines/`) have their papers' default hyperparameters, and two kinds of features: the
model's own vector of the image as it is, and all blocks of ``output="auto"``, averaged over the views, as ours have.
The last lines are no baselines but a bar: probes whose setting is the best on the test images, in the mean of all
support samples, and what is left of the best of them where each half of the images is scored with the other's choice.
The train split gives the support samples, drawn anew for each seed, those of different seeds may overlap; the test
split is for the report only.

Columns are numbers of shots: mean top-1 in percent over sets and models, with the mean of the 95 % intervals over
support samples; then the calibration error of heads with probabilities, of the test images of all support samples
together, and the median seconds of a fit, one thread each.

Usage: python benchmarks/heads.py DIRECTORY... [--models NAME...] [--shots 1 2 5 10 25] [--seeds 10] [--views 6]
[--store DIRECTORY] [--jobs N] [--out FILE.jsonl]; or: python benchmarks/heads.py --read FILE.jsonl, for the tables of
a run that was made before. DIRECTORY holds train/CLASS/IMAGE and test/CLASS/IMAGE.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import baselines
import numpy as np
import numpy.typing as npt
import timm
import torch
from baselines.oracle import oracle_accuracies
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

import frofa
from frofa import FeatureBlocks, FrozenFeatureExtractor
from frofa.estimators import FewShotClassifier, RidgeProbeClassifier, ShrinkageProbeClassifier
from frofa.evaluation import calibration_error, mean_interval, sample_shots

Array = npt.NDArray[Any]
BLOCKS = dict[str, Array]
"""Views of every block, (n, views, channels), by name: the model's own vector first."""
PUBLISHED: dict[str, Callable[[], Any]] = {
    "nearest mean, CL2N (SimpleShot)": baselines.NearestMean,
    "k-NN (DINO)": baselines.WeightedNeighbours,
    "LDA, Ledoit-Wolf (scikit-learn)": baselines.LedoitWolfDiscriminant,
    "LDA, KS shrinkage (ICLR 2024)": baselines.ShrunkDiscriminant,
    "ridge, 2^10 (big_vision)": baselines.FixedRidge,
    "logistic, 45 C (DINOv2)": baselines.LogisticGrid,
}
OURS: dict[str, Callable[[], Any]] = {
    "RidgeProbeClassifier": RidgeProbeClassifier,
    "ShrinkageProbeClassifier": lambda: ShrinkageProbeClassifier(device="cpu"),
    "FewShotClassifier": lambda: FewShotClassifier(device="cpu", random_state=0),
}
PROBABLE = ("ShrinkageProbeClassifier", "FewShotClassifier")
"""Heads whose probabilities are calibrated."""


class Cell(NamedTuple):
    """Features and labels of the two splits of a set by a model."""

    data: str
    model: str
    train: BLOCKS
    train_labels: Array
    test: BLOCKS
    test_labels: Array


class Row(NamedTuple):
    """What a head made of one support sample; probabilities are those of the classes in order, or None."""

    head: str
    accuracy: float
    seconds: float
    probabilities: Array | None


Measured = tuple[list[Row], dict[str, tuple[float, float]]]
"""Rows of all heads, and the accuracies of the probes that are tuned on test images."""


def load(directory: Path, model: str, views: int, store: Path | None) -> Cell:
    extractor = FrozenFeatureExtractor(model, output="auto", n_views=views, store=store, verbose=True)
    splits: list[Any] = []
    for split in ("train", "test"):
        paths, labels = frofa.load_image_folder(directory / split)
        features = extractor.fit_transform(paths)
        # A model whose own vector is the mean token has one block, an array if there is one view of it.
        blocks = features if isinstance(features, FeatureBlocks) else FeatureBlocks({"pooled": [features]})
        splits += [{name: blocks.block(name).astype(np.float32) for name in blocks.names}, np.asarray(labels)]
    return Cell(directory.name, Path(model).name, *splits)


def own(blocks: BLOCKS) -> Array:
    """The model's own vector of the image as it is."""
    return next(iter(blocks.values()))[:, 0]


def together(blocks: BLOCKS) -> Array:
    """All blocks side by side, averaged over the views."""
    return np.concatenate([block.mean(1) for block in blocks.values()], axis=1)


def apart(blocks: BLOCKS) -> Array:
    """All blocks side by side, of every view (n, views, channels)."""
    return np.concatenate(list(blocks.values()), axis=2)


def as_blocks(blocks: BLOCKS, views: int | None = None) -> FeatureBlocks:
    return FeatureBlocks({name: list(np.moveaxis(block[:, :views], 1, 0)) for name, block in blocks.items()})


def heads(views: int) -> Iterable[tuple[str, Callable[[], Any], Callable[[BLOCKS], Any]]]:
    """Names, constructors and features."""
    everything = f"blocks, {views} views"
    for name, make in PUBLISHED.items():
        yield f"{name}: own vector", make, own
        yield f"{name}: {everything}", make, together
    yield "RidgeProbeClassifier: own vector", OURS["RidgeProbeClassifier"], own
    yield f"RidgeProbeClassifier: {everything}", OURS["RidgeProbeClassifier"], together
    yield f"LDA, KS shrinkage (ICLR 2024): blocks, {views} views, each a sample", baselines.ShrunkDiscriminant, apart
    probe = OURS["ShrinkageProbeClassifier"]
    yield "ShrinkageProbeClassifier: own vector", probe, own
    yield "ShrinkageProbeClassifier: blocks, 1 view", probe, lambda blocks: as_blocks(blocks, 1)
    yield f"ShrinkageProbeClassifier: {everything}", probe, as_blocks
    yield f"FewShotClassifier: {everything}", OURS["FewShotClassifier"], as_blocks


def measure(cell: Cell, shots: int, seed: int, views: int) -> Measured:
    """Fit all heads to one support sample; also the accuracies of the probes that are tuned on the test images."""
    chosen = sample_shots(cell.train_labels, shots, seed)
    support, labels = {name: block[chosen] for name, block in cell.train.items()}, cell.train_labels[chosen]
    rows = []
    with threadpool_limits(1):
        torch.set_num_threads(1)
        for name, make, features in heads(views):
            if shots == 1 and make is baselines.LedoitWolfDiscriminant:
                continue  # it needs more samples than classes
            X, queries, targets = features(support), features(cell.test), labels
            if X.ndim == 3:
                X, queries, targets = np.concatenate(X), queries.mean(1), np.repeat(labels, views)
            started = time.perf_counter()
            head = make().fit(X, targets)
            seconds = time.perf_counter() - started
            right = np.mean(head.predict(queries) == cell.test_labels)
            probabilities = head.predict_proba(queries) if name.startswith(PROBABLE) else None
            rows.append(Row(name, round(100 * float(right), 3), seconds, probabilities))
        classes, codes = np.unique(labels, return_inverse=True)
        widths = tuple(block.shape[2] for block in support.values())
        tuned = oracle_accuracies(
            together(support), codes, together(cell.test), np.searchsorted(classes, cell.test_labels), widths
        )
    return rows, tuned


def summarise(cell: Cell, found: list[Measured]) -> dict[str, Any]:
    """Accuracies of every support sample, the calibration error of them together, median seconds; and the bar."""
    result: dict[str, Any] = {}
    classes = np.unique(cell.train_labels)
    for name in dict.fromkeys(row.head for rows, _ in found for row in rows):
        mine = [row for rows, _ in found for row in rows if row.head == name]
        record = {"accuracies": [row.accuracy for row in mine], "seconds": float(np.median([r.seconds for r in mine]))}
        if mine[0].probabilities is not None:
            stacked = np.concatenate([row.probabilities for row in mine if row.probabilities is not None])
            record["calibration_error"] = 100 * calibration_error(
                np.tile(cell.test_labels, len(mine)), stacked, classes
            )
        result[name] = record
    # (settings, support samples, halves of the test images)
    names = list(found[0][1])
    halves = np.array([[tuned[name] for _, tuned in found] for name in names])
    for kind in ("logistic", "ridge", "discriminant", ""):
        of_kind = [i for i, name in enumerate(names) if kind in name]
        best = max(of_kind, key=lambda i: float(halves[i].mean()))
        name = f"tuned on the test images: {kind or 'the best of all'}"
        result[name] = {"accuracies": halves[best].mean(1).round(3).tolist(), "setting": names[best]}
    first, second = (int(halves[:, :, half].mean(1).argmax()) for half in (0, 1))
    crossed = (halves[first, :, 1] + halves[second, :, 0]) / 2
    result["tuned on the other half of the test images"] = {"accuracies": crossed.round(3).tolist()}
    return result


def table(results: dict[str, dict[str, dict[str, Any]]], shots: list[int]) -> str:
    """Lines of Markdown: a head each, means over the cells."""
    heading = ["head", *map(str, shots), "calibration error", "seconds"]
    lines = [f"| {' | '.join(heading)} |", f"|{' --- |' * len(heading)}"]
    # Some heads need several shots: the most shots have them all.
    for name in next(iter(results.values()))[str(max(shots))]:
        columns, errors, seconds = [], [], []
        for n in shots:
            records = [cell[str(n)][name] for cell in results.values() if name in cell[str(n)]]
            intervals = [mean_interval(record["accuracies"]) for record in records]
            columns.append(
                f"{np.mean([i.mean for i in intervals]):.1f} ± {np.mean([i.half_width for i in intervals]):.1f}"
                if intervals
                else "-"
            )
            if any("calibration_error" in record for record in records):
                errors.append(f"{np.mean([record['calibration_error'] for record in records]):.1f}")
            seconds = [record["seconds"] for record in records if "seconds" in record]
        columns += [" ".join(errors) or "-", f"{np.median(seconds):.3f}" if seconds else "-"]
        lines.append(f"| {name} | {' | '.join(columns)} |")
    return "\n".join(lines)


def differences(results: dict[str, dict[str, dict[str, Any]]], shots: list[int], head: str) -> str:
    """Lines of Markdown: a cell each, how far the head is above the best probe that is tuned on the test images."""
    lines = [f"| {head}, minus the best probe tuned on the test images | {' | '.join(map(str, shots))} |"]
    lines.append("| --- |" + " --- |" * len(shots))
    for cell, by_shots in results.items():
        changes = [
            mean_interval(
                np.subtract(
                    by_shots[str(n)][head]["accuracies"],
                    by_shots[str(n)]["tuned on the test images: the best of all"]["accuracies"],
                )
            )
            for n in shots
        ]
        lines.append(f"| {cell} | {' | '.join(f'{change:+.1f}' for change in changes)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directories", type=Path, nargs="*")
    parser.add_argument("--read", type=Path, help="show the numbers of this file, and measure nothing")
    parser.add_argument("--models", nargs="+", default=["frofa/vit_tiny_tin200"])
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 2, 5, 10, 25])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--views", type=int, default=6)
    parser.add_argument("--store", type=Path, help="directory that features are kept in")
    parser.add_argument("--jobs", type=int, default=-1, help="processes; -1 is one a core")
    parser.add_argument("--out", type=Path, help="write all numbers there, a line of JSON a set and model")
    args = parser.parse_args()
    results: dict[str, dict[str, dict[str, Any]]] = {}
    if args.read:
        records = map(json.loads, args.read.read_text().splitlines())
        results = {record["cell"]: record["shots"] for record in records}
    for model in args.models:
        for directory in args.directories:
            cell, started = load(directory, model, args.views, args.store), time.perf_counter()
            runs = [(shots, seed) for shots in args.shots for seed in range(args.seeds)]
            # The longest first, so that no process is left with one at the end.
            order = sorted(runs, reverse=True)
            found = dict(
                zip(order, Parallel(args.jobs)(delayed(measure)(cell, *run, args.views) for run in order), strict=True)
            )
            result = {str(n): summarise(cell, [found[n, seed] for seed in range(args.seeds)]) for n in args.shots}
            results[f"{cell.data}, {cell.model}"] = result
            print(f"\n{cell.data}, {cell.model}: {time.perf_counter() - started:.0f} s")
            print(table({"": result}, args.shots), flush=True)
    print(f"\nMean of {len(results)}\n{table(results, args.shots)}\n")
    print(differences(results, args.shots, f"ShrinkageProbeClassifier: blocks, {args.views} views"))
    if args.out:
        versions = {"frofa": frofa.__version__, "torch": torch.__version__, "timm": timm.__version__}
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {platform.machine()}"
        common = {"views": args.views, "features_on": device, "versions": versions}
        args.out.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps({"cell": cell, **common, "shots": result}) for cell, result in results.items()]
        args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
