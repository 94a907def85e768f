"""Calibration of all heads on test images, before and after: expected calibration error, log-loss and Brier score.

Of every set and backbone, several support samples of 1 to 25 shots are drawn from the training images. "Before" are the
scores of a head as they are (of prototypes by the fixed temperature of 0.1), "after" its probabilities with
``calibrate=True``. The few-shot classifier, whose probabilities are those of the shrinkage probe, has always been
calibrated to left-out samples: "before" is without what a left-out sample's class has lost. Errors are those of the
predictions of all support samples together, over 15 bins, as a single sample of so few test images has several percent
by chance; that is given, too, and what chance makes of it.

    python benchmarks/calibration.py SETS... --backbones NAMES... --store DIR
    python benchmarks/calibration.py SETS... --backbones NAMES... --tokens --samples 3
"""

import argparse
import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sklearn
import torch
from image_cells import MOST_TEST, MOST_TRAIN, Cell, add_options, cells
from scipy.special import softmax

import frofa
from frofa import FrozenFeatureExtractor, mean_interval, sample_shots
from frofa.estimators import (
    FewShotClassifier,
    LogisticProbeClassifier,
    MAPClassifier,
    PrototypeClassifier,
    RidgeProbeClassifier,
    SoftMoEClassifier,
)
from frofa.estimators.batched.jobs import Job, fit_many
from frofa.estimators.solvers.shrinkage.temperature import scale_of_all
from frofa.evaluation import brier_score, calibration_error, calibration_floor, log_loss

Array = npt.NDArray[Any]
SHOTS = (1, 2, 5, 10, 25)
RESULTS = Path(__file__).parents[1] / "results"


def probes() -> dict[str, Any]:
    """Heads on vectors."""
    return {
        "ridge": RidgeProbeClassifier(),
        "prototype": PrototypeClassifier(),
        "logistic": LogisticProbeClassifier(C=1e-2, tol=1e-4, calibrate=True, device="cpu"),
        "few-shot": FewShotClassifier(device="cpu"),
    }


def token_heads(device: str) -> dict[str, Any]:
    """Heads on tokens."""
    common: dict[str, Any] = {"device": device, "random_state": 0, "calibrate": True}
    return {"map": MAPClassifier(**common), "soft_moe": SoftMoEClassifier(**common)}


def with_tokens(directory: Path, backbone: str) -> Cell:
    """Extract the tokens of the images as they are."""
    extractor = FrozenFeatureExtractor(backbone, output="tokens", precision="float32")
    parts: list[Any] = []
    for split, most in (("train", MOST_TRAIN), ("test", MOST_TEST)):
        paths, labels = frofa.load_image_folder(directory / split)
        labels = np.asarray(labels)
        first = np.concatenate([np.flatnonzero(labels == label)[:most] for label in np.unique(labels)])
        parts += [np.asarray(extractor.fit_transform([paths[i] for i in first])), labels[first]]
    return Cell(directory.name, Path(backbone).name, *parts)


def measured(cell: Cell, heads: dict[str, Any], shots: int, n_samples: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each head: scores before and after."""
    classes = np.unique(cell.train_labels)
    samples = [sample_shots(cell.train_labels, shots, random_state=seed) for seed in range(n_samples)]
    for name, head in heads.items():
        train, test = standardised(cell) if name == "logistic" else (cell.train, cell.test)
        fitted: list[Any] = fit_many(train, cell.train_labels, [Job(head, rows) for rows in samples])
        raw = [one._checked_scores(test) for one in fitted]
        before = [softmax(found / plain_temperature(name, shots), axis=1) for found in raw]
        after = [one._probabilities_of(found) for one, found in zip(fitted, raw, strict=True)]
        yield {
            "data": cell.data,
            "backbone": cell.backbone,
            "shots": shots,
            "head": name,
            "before": scores(before, cell.test_labels, classes),
            "after": scores(after, cell.test_labels, classes),
            "vector": float(np.mean([one.class_scales_ is not None for one in fitted])),
        }


def standardised(cell: Cell) -> tuple[Array, Array]:
    """Channels of unit deviation, by the training images, which need no labels for that."""
    train = np.asarray(cell.train, np.float64)
    mean, deviation = train.mean(0), train.std(0) + 1e-6
    return (train - mean) / deviation, (np.asarray(cell.test, np.float64) - mean) / deviation


def plain_temperature(name: str, shots: int) -> float:
    """Temperature of a head's scores before calibration."""
    if name == "few-shot":
        return scale_of_all(shots) if shots > 1 else 1.0
    return 0.1 if name == "prototype" else 1.0


def scores(tables: list[Array], y: Array, classes: Array) -> dict[str, float]:
    """Scores of probabilities (n, n_classes) by several heads, in percent but for log-loss and Brier score."""
    pooled, labels = np.concatenate(tables), np.tile(y, len(tables))
    return {
        "accuracy": 100 * float((classes[pooled.argmax(1)] == labels).mean()),
        "confidence": 100 * float(pooled.max(1).mean()),
        "pooled": 100 * calibration_error(labels, pooled, classes),
        "single": 100 * float(np.mean([calibration_error(y, table, classes) for table in tables])),
        "floor": 100 * float(np.mean([calibration_floor(table) for table in tables])),
        "class_wise": 100 * calibration_error(labels, pooled, classes, kind="class-wise"),
        "log_loss": log_loss(labels, pooled, classes),
        "brier": brier_score(labels, pooled, classes),
    }


def table_of(rows: list[dict[str, Any]]) -> str:
    """Means over sets and backbones, a line for each head and number of shots."""
    columns = [
        *("head", "shots", "calibration error, %", "of 5 % or more", "alone (by chance)", "class-wise, %"),
        *("log-loss", "Brier", "accuracy, %", "vector scaling"),
    ]
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    for head in dict.fromkeys(row["head"] for row in rows):
        for shots in SHOTS:
            mine = [row for row in rows if (row["head"], row["shots"]) == (head, shots)]
            if mine:
                lines.append(f"| {head} | {shots} | {' | '.join(figures_of(mine))} |")
    return "\n".join(lines)


def figures_of(mine: list[dict[str, Any]]) -> list[str]:
    """Figures of a line, before and after."""
    times = ("before", "after")
    mean = {key: [float(np.mean([row[when][key] for row in mine])) for when in times] for key in mine[0]["after"]}
    beyond = [sum(row[when]["pooled"] >= 5 for row in mine) for when in times]

    def both(key: str, digits: int) -> str:
        return " > ".join(f"{value:.{digits}f}" for value in mean[key])

    return [
        both("pooled", 1),
        f"{beyond[0]} > {beyond[1]} of {len(mine)}",
        f"{both('single', 1)} ({mean['floor'][1]:.1f})",
        both("class_wise", 1),
        both("log_loss", 3),
        both("brier", 3),
        both("accuracy", 1),
        f"{100 * np.mean([row['vector'] for row in mine]):.0f} %",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--samples", type=int, default=10, help="support samples of each number of shots (10)")
    parser.add_argument("--shots", type=int, nargs="+", default=list(SHOTS))
    parser.add_argument("--heads", nargs="+", help="names of heads; all of them unless given")
    parser.add_argument("--tokens", action="store_true", help="heads on tokens, instead of those on vectors")
    parser.add_argument("--device", default="auto", help="where heads on tokens are trained")
    parser.add_argument("--out", type=Path, default=RESULTS / "confidence_calibration.json", help="adds to this file")
    args = parser.parse_args()
    heads = token_heads(args.device) if args.tokens else probes()
    heads = {name: pair for name, pair in heads.items() if args.heads is None or name in args.heads}
    found = json.loads(args.out.read_text()) if args.out.exists() else {"commands": [], "rows": []}
    loaded = (with_tokens(each, name) for name in args.backbones for each in args.sets) if args.tokens else cells(args)
    for cell in loaded:
        for shots in args.shots:
            for row in measured(cell, heads, shots, args.samples):
                print(json.dumps(row), flush=True)
                known = [(one["data"], one["backbone"], one["shots"], one["head"]) for one in found["rows"]]
                key = row["data"], row["backbone"], row["shots"], row["head"]
                found["rows"] = [one for one, other in zip(found["rows"], known, strict=True) if other != key] + [row]
    names = [f"{path.name}" for path in args.sets]
    models = " ".join(Path(name).name for name in args.backbones)
    options = f"--views {args.views} --samples {args.samples} --shots {' '.join(map(str, args.shots))}"
    extra = " --tokens" if args.tokens else ""
    command = f"benchmarks/calibration.py {' '.join(names)} --backbones {models} {options}{extra}"
    found["commands"] = sorted({*found["commands"], command})
    found["versions"] = {
        "frofa": frofa.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "scikit-learn": sklearn.__version__,
        "torch": torch.__version__,
    }
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    print(table_of(found["rows"]))
    errors = [row["after"]["pooled"] for row in found["rows"] if row["head"] == "few-shot" and row["shots"] >= 5]
    if errors:
        print(
            f"few-shot, 5 shots and more: {mean_interval(errors):.2f} %, {sum(e >= 5 for e in errors)} of {len(errors)}"
        )


if __name__ == "__main__":
    main()
