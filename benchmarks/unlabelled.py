"""Images without labels: what a pool of them is worth, balanced, unequal, or with images of other classes.

Support samples and pools are drawn from the train split, and other images of the test split score what was learnt. Each
support sample meets four pools: of all classes alike; long-tailed, ten to one; with half of the classes absent; and, of
half of the classes alone, one of which half the images are strangers, of the other half. Differences are paired, to the
probe that has the labelled images alone.

    python benchmarks/unlabelled.py SETS... --backbones NAMES... --store DIR --results FILE
"""

import argparse
import json
import platform
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import numpy.typing as npt
import sklearn
import torch
from image_cells import Cell, add_options, cells
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier

import frofa
from frofa import mean_interval
from frofa.estimators import ShrinkageProbeClassifier, TransductiveClassifier
from frofa.evaluation import calibration_error, log_loss

Array = npt.NDArray[Any]
POOLS = ("balanced", "long-tailed", "half absent", "strangers")
RATIO = 10
"""Images of the most frequent class of a long-tailed pool for one of the rarest."""
THRESHOLD = 0.75
"""Probability from which self-training takes its own labels: scikit-learn's default."""


class Draw(NamedTuple):
    """Rows of the train split with labels and without, of the test split, and the classes that there are labels of."""

    shots: Array
    pool: Array
    test: Array
    classes: Array


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 2, 5, 10], help="labelled images a class")
    parser.add_argument("--samples", type=int, default=10, help="support samples (10)")
    parser.add_argument("--peer-samples", type=int, default=4, help="the first of these, for scikit-learn's (4)")
    parser.add_argument("--pool", type=int, default=120, help="images without labels, at most (120)")
    parser.add_argument("--train", type=int, default=45, help="images of a class to draw from: the first by name (45)")
    parser.add_argument("--test", type=int, default=20, help="test images of a class: the first by name (20)")
    parser.add_argument("--fit-views", type=int, default=3, help="views of each image that are used (3)")
    parser.add_argument("--results", type=Path, help="JSON file to add the figures to")
    args = parser.parse_args()
    for whole in cells(args):
        cell, rows = cut(whole, args), []
        for shots in args.shots:
            for kind in POOLS:
                found = [
                    measure(cell, draw(cell, shots, kind, args, seed), peers=seed < args.peer_samples)
                    for seed in range(args.samples)
                ]
                rows.append({"set": cell.data, "backbone": cell.backbone, "shots": shots, "pool": kind, **mean(found)})
        print(f"\n{cell.data}, {cell.backbone}")
        summarise(rows)
        if args.results is not None:
            summarise(add(args.results, rows))


def cut(cell: Cell, args: argparse.Namespace) -> Cell:
    """Take the first images of each class, by name, and the first views."""
    first = [
        np.concatenate([np.flatnonzero(y == label)[:most] for label in np.unique(y)])
        for y, most in ((cell.train_labels, args.train), (cell.test_labels, args.test))
    ]
    train, test = (
        blocks[rows].select(n_views=args.fit_views) for blocks, rows in zip((cell.train, cell.test), first, strict=True)
    )
    return cell._replace(
        train=train, train_labels=cell.train_labels[first[0]], test=test, test_labels=cell.test_labels[first[1]]
    )


def draw(cell: Cell, shots: int, kind: str, args: argparse.Namespace, seed: int) -> Draw:
    """Draw a support sample, a pool of other images, and test images."""
    rng = np.random.default_rng(seed)
    classes, y = rng.permutation(np.unique(cell.train_labels)), cell.train_labels
    known = np.sort(classes[: len(classes) // 2] if kind == "strangers" else classes)
    rows = {label: rng.permutation(np.flatnonzero(y == label)) for label in classes}
    chosen = np.concatenate([rows[label][:shots] for label in known])
    left = {label: rows[label][shots:] for label in classes}
    pool = np.concatenate([left[label][:n] for label, n in _counts(kind, known, classes, args.pool, rng)])
    return Draw(chosen, pool, np.flatnonzero(np.isin(cell.test_labels, known)), known)


def _counts(kind: str, known: Array, classes: Array, size: int, rng: np.random.Generator) -> Iterator[tuple[Any, int]]:
    """Give classes of a pool with their numbers of images."""
    if kind == "balanced":
        shares = dict.fromkeys(known, 1 / len(known))
    elif kind == "long-tailed":
        falling = RATIO ** -np.linspace(0, 1, len(known))
        shares = dict(zip(rng.permutation(known), falling / falling.sum(), strict=True))
    elif kind == "half absent":
        shares = dict.fromkeys(rng.permutation(known)[: len(known) // 2], 2 / len(known))
    else:
        shares = {label: 0.5 / (len(known) if label in known else len(classes) - len(known)) for label in classes}
    for label, share in shares.items():
        yield label, max(1, round(size * share))


def mean(found: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Average scores over support samples; with peers, those of the probe on their samples are there, too."""
    averaged = {}
    for name in found[0]:
        scores = [each[name] for each in found if name in each]
        averaged[name] = {key: round(float(np.mean([each[key] for each in scores])), 5) for key in scores[0]}
    return averaged


def measure(cell: Cell, drawn: Draw, *, peers: bool) -> dict[str, dict[str, float]]:
    """Fit all methods, and score them on the pool's images of known classes, and on other images."""
    rows = np.concatenate([drawn.shots, drawn.pool])
    features, n = cell.train[rows], len(drawn.shots)
    truth = cell.train_labels[drawn.pool]
    known = np.isin(truth, drawn.classes)
    codes = np.full(len(rows), -1)
    codes[:n] = np.searchsorted(drawn.classes, cell.train_labels[drawn.shots])
    of_pool = np.searchsorted(drawn.classes, truth[known])
    test, of_test = cell.test[drawn.test], np.searchsorted(drawn.classes, cell.test_labels[drawn.test])
    probe = ShrinkageProbeClassifier(device="cpu").fit(features[:n], codes[:n])
    centred = ShrinkageProbeClassifier(unlabeled=-1, device="cpu").fit(features, codes)
    learnt = TransductiveClassifier(unlabeled=-1, device="cpu").fit(features, codes)
    heads = {"probe": probe, "centred": centred, "transductive": learnt}
    scores: dict[str, Any] = {}
    for name, head in heads.items():
        proba = head.predict_proba(test)
        scores[name] = {
            "pool": float(np.mean(head.predict(features[n:])[known] == of_pool)),
            "test": float(np.mean(proba.argmax(1) == of_test)),
            "log_loss": log_loss(of_test, proba, np.arange(len(drawn.classes))),
            "calibration_error": calibration_error(of_test, proba, np.arange(len(drawn.classes)), 15),
        }
    scores["transductive"]["labels"] = float(np.mean(learnt.transduction_[n:][known] == of_pool))
    scores["transductive"]["probe_counts"] = float(learnt.pool_weights_[0])
    if not peers:
        return scores
    # scikit-learn's own on plain features, normalised as the probe does: views averaged, centred, length one.
    flat, flat_test = normalised(np.asarray(features), np.asarray(test))
    trained = SelfTrainingClassifier(ShrinkageProbeClassifier(unlabeled=None, device="cpu"), threshold=THRESHOLD)
    spread = LabelSpreading(kernel="knn", n_neighbors=7, max_iter=100)
    for name, peer in {"self-training": trained, "label spreading": spread}.items():
        with np.errstate(all="ignore"):
            peer.fit(flat, codes)
            found, labels = peer.predict(flat_test), peer.transduction_[n:].copy()
        labels[labels < 0] = peer.predict(flat[n:])[labels < 0]  # those that self-training was never sure of
        scores[name] = {
            "labels": float(np.mean(labels[known] == of_pool)) - scores["probe"]["pool"],
            "test": float(np.mean(found == of_test)) - scores["probe"]["test"],
        }
    return scores


def normalised(train: Array, test: Array) -> tuple[Array, Array]:
    """Centre rows by the mean of those to learn from, and scale them to length one."""
    centre = train.mean(0)
    moved = [each.astype(np.float64) - centre for each in (train, test)]
    first, second = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in moved)
    return first, second


COLUMNS = {
    "centred, pool": ("centred", "pool"),
    "centred, test": ("centred", "test"),
    "learnt, pool": ("transductive", "labels"),
    "learnt, test": ("transductive", "test"),
    "self-training, pool": ("self-training", "labels"),
    "self-training, test": ("self-training", "test"),
    "spreading, pool": ("label spreading", "labels"),
    "spreading, test": ("label spreading", "test"),
}
"""Differences to the probe: of a method, in accuracy on the pool, by its labels, and on test images."""


def summarise(rows: list[dict[str, Any]]) -> None:
    """Print differences to the probe in points, with 95 % intervals over the cells, as the rows of a table."""
    columns = ["shots", "pool", "probe: pool, test", *COLUMNS, "log-loss: probe, centred, learnt", "calibration error"]
    print(f"| {' | '.join(columns)} |")
    for shots in sorted({row["shots"] for row in rows}):
        for kind in POOLS:
            part = [row for row in rows if row["shots"] == shots and row["pool"] == kind]
            base = ", ".join(f"{100 * np.mean([row['probe'][on] for row in part]):.1f}" for on in ("pool", "test"))
            found = " | ".join(difference(part, *column) for column in COLUMNS.values())
            heads = ("probe", "centred", "transductive")
            three = [
                ", ".join(f"{np.mean([row[head][key] for row in part]):.3f}" for head in heads)
                for key in ("log_loss", "calibration_error")
            ]
            print(f"| {shots} | {kind} | {base} | {found} | {three[0]} | {three[1]} |", flush=True)


def difference(rows: list[dict[str, Any]], name: str, on: str) -> str:
    """Give the mean difference to the probe in points, with its interval, and the worst of the cells."""
    own = name in ("self-training", "label spreading")  # which are differences already
    reference = "pool" if on == "labels" else on
    gains = [100 * (row[name][on] - (0 if own else row["probe"][reference])) for row in rows]
    if len(gains) < 2:
        return f"{gains[0]:+.1f}"
    found = mean_interval(gains)
    return f"{found.mean:+.1f} ± {found.half_width:.1f} ({min(gains):+.1f})"


def add(path: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add rows to a JSON file, with versions and the command; return all rows that are there."""
    known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": []}
    command = shlex.join(["python", *(Path(each).name if "/" in each else each for each in sys.argv)])
    versions = {
        "python": platform.python_version(),
        "frofa": frofa.__version__,
        "numpy": np.__version__,
        "torch": torch.__version__,
        "scikit-learn": sklearn.__version__,
    }
    commands = list(dict.fromkeys([*known.get("commands", []), command]))
    found = [*known["rows"], *rows]
    path.write_text(json.dumps({"commands": commands, "versions": versions, "rows": found}, indent=1) + "\n")
    return found


if __name__ == "__main__":
    main()
