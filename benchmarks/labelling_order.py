"""Labels until 90 % of the accuracy that all labels give: images in the labelling page's own order, and at random.

python benchmarks/labelling_order.py SETS... --backbones NAMES... --store DIR

Somebody who makes no mistakes labels batch by batch, through the requests that the page sends: as on the page, the next
batch is asked for while the one before is on the screen, so that it knows nothing of that one's labels. In the other
order no features ever come, and the page shows images at random. The pool is the training split, of which each seed
leaves out a fifth; the head is `FewShotClassifier`, as the page and `frofa fit` have it, scored on the test split.
Accuracy is measured after each batch, and in the first one that reaches it after every third label; intervals are over
seeds, paired.
"""

import argparse
import itertools
import json
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from image_cells import Cell, add_options, cells

import frofa
from frofa import FeatureBlocks
from frofa.annotation.features import ArrayFeatures, Features, NoFeatures
from frofa.annotation.records.file import LabelFile
from frofa.annotation.respond import respond
from frofa.annotation.session import LabellingSession
from frofa.estimators import FewShotClassifier
from frofa.evaluation import mean_interval

Array = npt.NDArray[Any]
BATCH, STEP = 12, 3
"""Images of a batch, as the page shows them, and labels from one measurement to the next within the last batch."""
SHARE, POOL_SHARE = 0.9, 0.8
COMMAND = "python benchmarks/labelling_order.py SETS... --backbones NAMES... --views 2 --store DIR"


class Round(NamedTuple):
    """A pool with its labels, and the test split."""

    pool: FeatureBlocks
    y: Array
    test: FeatureBlocks
    test_y: Array
    seed: int


class Reached(NamedTuple):
    """Labels until the target, and accuracies after each batch until there."""

    n_labels: float
    accuracies: list[float]


def rounds(cell: Cell, seeds: int) -> Iterator[Round]:
    """Draw a pool for each seed."""
    for seed in range(seeds):
        rows = np.random.default_rng(seed).permutation(len(cell.train))[: int(POOL_SHARE * len(cell.train))]
        yield Round(cell.train[rows], cell.train_labels[rows], cell.test, cell.test_labels, seed)


def accuracy(given: Round, rows: Array) -> float:
    """Accuracy on the test split with the labels of some rows."""
    y = given.y[rows]
    if len(set(y)) < 2:
        return float((given.test_y == y[0]).mean())
    head = FewShotClassifier(novelty=None, device="cpu").fit(given.pool[rows], y)
    return float(head.score(given.test, given.test_y))


def label_until(given: Round, features: Features, target: float) -> Reached:
    """Label batch by batch until the target is reached."""
    names = [f"{number}.jpg" for number in range(len(given.y))]
    with tempfile.TemporaryDirectory() as folder:
        record = LabelFile(Path(folder) / "labels.csv")
        session = LabellingSession(folder, names, record, features, random_state=given.seed)
        session.learn(("order",))
        shown = ask(session, [])
        rows: list[int] = []
        found: list[float] = []
        for number in itertools.count():
            # The page fetches the next images before it has the labels of these.
            following = ask(session, shown)
            label(session, shown, given.y, number)
            rows += [item["index"] for item in shown]
            found.append(accuracy(given, np.array(rows)))
            if found[-1] >= target:
                return Reached(within(given, rows, len(shown), target), found)
            if not following:
                return Reached(float(len(rows)), found)
            session.learn(("order",))
            shown = following
    raise AssertionError("unreachable")


def within(given: Round, rows: list[int], n_last: int, target: float) -> float:
    """Labels at which the target is met within the last batch: by the line through two measurements."""
    before = len(rows) - n_last
    last = accuracy(given, np.array(rows[:before])) if before else 0.0
    for n in range(before + STEP, len(rows) + 1, STEP):
        now = accuracy(given, np.array(rows[:n]))
        if now >= target:
            return n - STEP * (now - target) / (now - last)
        last = now
    return float(len(rows))


def ask(session: LabellingSession, shown: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ask for a batch, while another one is on the screen."""
    request = {"op": "batch", "n": BATCH, "kind": "useful", "skip": [item["path"] for item in shown]}
    items: list[dict[str, Any]] = respond(session, request)["items"]
    return items


def label(session: LabellingSession, shown: list[dict[str, Any]], y: Array, number: int) -> None:
    labels = [{"path": item["path"], "label": str(y[item["index"]]), "how": "key"} for item in shown]
    respond(session, {"op": "label", "client": "benchmark", "number": number, "labels": labels})


def measure(cell: Cell, seeds: int) -> dict[str, Any]:
    """Labels until the target in both orders, seed by seed."""
    own, random, targets = [], [], []
    for given in rounds(cell, seeds):
        target = SHARE * accuracy(given, np.arange(len(given.y)))
        targets.append(target)
        own.append(label_until(given, ArrayFeatures(given.pool), target))
        random.append(label_until(given, NoFeatures(len(given.y)), target))
    return {
        "pool": len(given.y),
        "classes": len(set(given.y)),
        "target": float(np.mean(targets)),
        "own": [each.n_labels for each in own],
        "random": [each.n_labels for each in random],
        "accuracies_own": [each.accuracies for each in own],
        "accuracies_random": [each.accuracies for each in random],
    }


def summarise(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Means with intervals over seeds, and the ratio of labels, geometric and paired."""
    summary = {}
    for name, each in found.items():
        summary[name] = _summary(np.array(each["own"]), np.array(each["random"]))
    # Of all cells together: for each seed that all have, the mean over cells.
    seeds = min(len(each["own"]) for each in found.values())
    ratios = [np.array(each["own"][:seeds]) / np.array(each["random"][:seeds]) for each in found.values()]
    logs = np.mean(np.log(ratios), axis=0)
    return {"cells": summary, "ratio": [math.exp(value) for value in mean_interval(logs)]}


def _summary(own: Array, random: Array) -> dict[str, Any]:
    return {
        "own": list(mean_interval(own)),
        "random": list(mean_interval(random)),
        "ratio": [math.exp(value) for value in mean_interval(np.log(own / random))],
    }


def table(found: dict[str, dict[str, Any]], summary: dict[str, Any]) -> str:
    """Make a table in Markdown."""
    lines = ["| images, backbone | target, % | page's order | random | ratio |", "| --- | --- | --- | --- | --- |"]
    for name, each in summary["cells"].items():
        own, random = (f"{mean:.0f} ({low:.0f} to {high:.0f})" for mean, low, high in (each["own"], each["random"]))
        lines.append(f"| {name} | {100 * found[name]['target']:.1f} | {own} | {random} | {_ratio(each['ratio'])} |")
    lines.append(f"| all | | | | {_ratio(summary['ratio'])} |")
    return "\n".join(lines)


def _ratio(ratio: list[float]) -> str:
    return "{:.2f} ({:.2f} to {:.2f})".format(*ratio)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_options(parser)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    path = args.out / "labelling_order.json"
    found = json.loads(path.read_text())["rounds"] if path.exists() else {}  # other backbones, of an earlier call
    for cell in cells(args):
        start = time.perf_counter()
        name = f"{cell.data}, {cell.backbone}"
        found[name] = measure(cell, args.seeds)
        summary = summarise(found)
        facts = {"command": COMMAND, "version": frofa.__version__, "batch": BATCH, **summary}
        path.write_text(json.dumps({**facts, "rounds": found}, indent=1) + "\n")
        print(name, f"{time.perf_counter() - start:.0f} s", flush=True)
    print(table(found, summarise(found)))


if __name__ == "__main__":
    main()
