"""Classes by their words: accuracy by captions and views, and what a few images make of probabilities.

Accuracy and log-loss are of test images; images that fit the temperature are drawn from the train split. With
`--constants`, test images are not read: the rest of the train images rates how the temperature is held, for the model's
own scale and for scales that are wrong by ten, and for few classes.

    python benchmarks/zero_shot.py SETS... --backbones NAME --store DIR --results FILE
"""

import argparse
import json
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import numpy.typing as npt
from image_cells import Cell, add_options, cells
from scipy.special import log_softmax

import frofa
from frofa import FrozenTextExtractor, ZeroShotClassifier, mean_interval, sample_shots
from frofa.estimators.solvers.calibration import fit_scaling
from frofa.estimators.solvers.left_out import LeftOut
from frofa.estimators.text import temperature
from frofa.estimators.text.templates import TEMPLATES
from frofa.evaluation import calibration_error, log_loss

Array = npt.NDArray[Any]
CAPTIONS: dict[str, Any] = {"{}": "{}", "a photo of a {}.": "a photo of a {}.", "general": TEMPLATES, "auto": "auto"}
HELD = (0.5, 1.0, 2.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 2, 5, 10], help="images of each class")
    parser.add_argument("--samples", type=int, default=20, help="support samples (20)")
    parser.add_argument("--constants", action="store_true", help="rate constants on train images alone")
    parser.add_argument("--results", type=Path, help="JSON file to write the figures to")
    args = parser.parse_args()
    # The backbone of a cell is its folder's name; words need the name of the model.
    [model] = args.backbones
    rows: list[dict[str, Any]] = []
    for cell in cells(args):
        words = FrozenTextExtractor(model, device="cpu", store=args.store)
        rows += constants(cell, words, args) if args.constants else figures(cell, words, args)
    if args.constants:
        rows = summary(rows)
    for row in rows:
        print(row)
    if args.results is not None:
        about = {"command": shlex.join(sys.argv), "frofa": frofa.__version__, "python": platform.python_version()}
        args.results.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


def head_of(cell: Cell, words: Any, **parameters: Any) -> ZeroShotClassifier:
    names = {label: label.replace("_", " ") for label in np.unique(cell.train_labels).tolist()}
    return ZeroShotClassifier(names, text=words, **parameters)


def figures(cell: Cell, words: Any, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Accuracy of each kind of caption; log-loss and calibration error by images of each class."""
    rows: list[dict[str, Any]] = []
    for name, templates in CAPTIONS.items():
        head = head_of(cell, words, templates=templates).fit()
        found = {f"{n} views": head.score(cell.test.select(n_views=n), cell.test_labels) for n in (1, args.views)}
        rows.append(
            {"set": cell.data, "captions": name, **{key: round(100 * value, 1) for key, value in found.items()}}
        )
    for shots in (0, *args.shots):
        measured = []
        for seed in range(args.samples if shots else 1):
            head = head_of(cell, words)
            chosen = sample_shots(cell.train_labels, shots, seed) if shots else None
            head.fit(*(() if chosen is None else (cell.train[chosen], cell.train_labels[chosen])))
            table = head.predict_proba(cell.test)
            scores = cell.test_labels, table, head.classes_
            right = float((head.predict(cell.test) == cell.test_labels).mean())
            measured.append([100 * right, log_loss(*scores), 100 * calibration_error(*scores), head.temperature_])
        names = ("accuracy", "log-loss", "calibration error", "temperature")
        for name, values in zip(names, np.transpose(measured), strict=True):
            found = {"mean": round(float(values.mean()), 4)}
            if shots:
                found["half-width"] = round(mean_interval(values).half_width, 4)
            rows.append({"set": cell.data, "shots": shots, "score": name, **found})
    return rows


def constants(cell: Cell, words: Any, args: argparse.Namespace) -> list[dict[str, Any]]:
    """What temperatures lose against the best one, on train images that they were not fitted to."""
    head = head_of(cell, words).fit()
    all_scores, all_codes = head.decision_function(cell.train), np.searchsorted(head.classes_, cell.train_labels)
    rows = []
    for n_classes in (2, 5, len(head.classes_)):
        for shots in args.shots:
            for seed in range(args.samples):
                chosen = np.sort(np.random.default_rng(seed).permutation(len(head.classes_))[:n_classes])
                kept = np.isin(all_codes, chosen)
                scores, codes = all_scores[kept][:, chosen], np.searchsorted(chosen, all_codes[kept])
                if np.bincount(codes).min() <= shots:
                    continue
                support = sample_shots(codes, shots, seed)
                rest = np.setdiff1d(np.arange(len(codes)), support)
                for factor in (0.1, 1.0, 10.0):
                    lost = losses(factor * scores, codes, support, rest)
                    rows.append({"set": cell.data, "factor": factor, "shots": shots, "classes": n_classes, **lost})
    return rows


def losses(scores: Array, codes: Array, support: Array, rest: Array) -> dict[str, float]:
    def loss(found: float) -> float:
        return float(-log_softmax(scores[rest] / found, axis=1)[np.arange(len(rest)), codes[rest]].mean())

    seen = LeftOut.of(codes[support], np.ones(len(support)), None, scores.shape[1])
    found = {"model's own": 1.0, "of other heads": fit_scaling(scores[support], seen, "temperature").temperature}
    usual = temperature.HELD
    for held in HELD:
        temperature.HELD = held
        found[f"halfway, held by {held:g}"] = temperature.fit_temperature(scores[support], seen)
    temperature.HELD = usual
    best = min(loss(one) for one in np.geomspace(1e-3, 1e4, 141))
    return {name: loss(one) - best for name, one in found.items()}


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and largest loss over sets and numbers of classes, by factor and shots."""
    ways = [name for name in rows[0] if name not in ("set", "factor", "shots", "classes")]
    found = []
    for factor, shots in sorted({(row["factor"], row["shots"]) for row in rows}):
        of_both = [row for row in rows if (row["factor"], row["shots"]) == (factor, shots)]
        cases = sorted({(row["set"], row["classes"]) for row in of_both})
        for way in ways:
            means = [np.mean([row[way] for row in of_both if (row["set"], row["classes"]) == case]) for case in cases]
            lost = {"mean": round(float(np.mean(means)), 3), "worst": round(float(max(means)), 3)}
            found.append({"factor": factor, "shots": shots, "temperature": way, **lost})
    return found


if __name__ == "__main__":
    main()
