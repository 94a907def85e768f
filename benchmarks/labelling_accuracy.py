"""The accuracy that the labelling page shows, beside that on test images: the page's labels are of hard images.

python benchmarks/labelling_accuracy.py SETS... --backbones NAMES... --store DIR

Images are labelled in the page's own order, as in labelling_order.py. Shown is what left-out images say, plainly and
weighted by how many images each is like, as the page has it.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from image_cells import Cell, add_options, cells
from labelling_order import BATCH, Round, ask, label, rounds

import frofa
from frofa.annotation.features import ArrayFeatures
from frofa.annotation.learning.fitting import fit, measured
from frofa.annotation.records.file import LabelFile
from frofa.annotation.session import LabellingSession

SHOWN = (24, 48, 96, 192)
COMMAND = "python benchmarks/labelling_accuracy.py SETS... --backbones NAMES... --views 2 --store DIR"


def accuracies(given: Round) -> list[dict[str, Any]]:
    """Accuracy that is shown and true, at so many labels."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        names = [f"{number}.jpg" for number in range(len(given.y))]
        record = LabelFile(Path(folder) / "labels.csv")
        session = LabellingSession(folder, names, record, ArrayFeatures(given.pool), random_state=given.seed)
        session.learn(("order",))
        for number in range(SHOWN[-1] // BATCH):
            label(session, ask(session, []), given.y, number)
            session.learn(("order",))
            if BATCH * (number + 1) in SHOWN:
                found.append({"labels": BATCH * (number + 1), **compare(session, given)})
    return found


def compare(session: LabellingSession, given: Round) -> dict[str, Any]:
    fitted = fit(session.situation())
    shown = measured(fitted, 0)
    assert shown is not None
    _, y = fitted.situation.labelled
    proba = fitted.head.out_of_fold_proba_
    known = np.isfinite(proba).all(1)
    return {
        "test": float((fitted.head.predict(given.test) == given.test_y.astype(str)).mean()),
        "plain": float((fitted.head.classes_[proba[known].argmax(1)] == y[known]).mean()),
        "shown": shown.accuracy,
        "low": shown.low,
        "high": shown.high,
    }


def measure(cell: Cell, seeds: int) -> list[list[dict[str, Any]]]:
    return [accuracies(given) for given in rounds(cell, seeds)]


def summarise(found: dict[str, list[list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """Mean difference to the test accuracy in points, mean absolute one, and how often the interval holds it."""
    summary = []
    for at, n in enumerate(SHOWN):
        rows = [seed[at] for cell in found.values() for seed in cell]
        table = {name: np.array([row[name] for row in rows]) for name in ("test", "plain", "shown", "low", "high")}
        entry: dict[str, Any] = {"labels": n, "test": 100 * table["test"].mean()}
        for name in ("plain", "shown"):
            away = 100 * (table[name] - table["test"])
            entry[name] = {"difference": float(away.mean()), "absolute": float(np.abs(away).mean())}
        entry["held"] = float(((table["low"] <= table["test"]) & (table["test"] <= table["high"])).mean())
        summary.append(entry)
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_options(parser)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    path = args.out / "labelling_accuracy.json"
    found = json.loads(path.read_text())["rounds"] if path.exists() else {}  # other backbones, of an earlier call
    for cell in cells(args):
        found[f"{cell.data}, {cell.backbone}"] = measure(cell, args.seeds)
        facts = {"command": COMMAND, "version": frofa.__version__, "seeds": args.seeds, "means": summarise(found)}
        path.write_text(json.dumps({**facts, "rounds": found}, indent=1) + "\n")
        print(cell.data, cell.backbone, json.dumps(summarise(found)), flush=True)


if __name__ == "__main__":
    main()
