"""Flipped labels found and counted, beside cleanlab on the same probabilities and on a logistic regression's.

Labels of test images are flipped, as the constants of `frofa.labelling.wrong` were chosen on training images: 25 a
class, drawn anew for each sample, and all of them. Run as
``python benchmarks/wrong_labels.py SETS... --backbones NAMES... --views 2 --store DIR``; a second call with
other backbones adds to the file.
"""

import argparse
import json
import sys
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from image_cells import Cell, add_options, cells
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from frofa import label_issues, sample_shots
from frofa.estimators import ShrinkageProbeClassifier

Array = npt.NDArray[Any]
RESULTS = Path(__file__).parent / "results" / "confidence_wrong_labels.json"
FLIPS = [("none", 0.0), ("any class", 0.05), ("any class", 0.1), ("any class", 0.2), ("most similar class", 0.1)]
OF_ALL = [("any class", 0.1), ("most similar class", 0.1)]
"""Kinds and shares of flipped labels, of a few images a class and of all of them."""
FEW = 25


class Flipped(NamedTuple):
    """Positions (n,) of samples, their labels with some flipped, and which are."""

    rows: Array
    given: Array
    wrong: Array


def flipped(codes: Array, rows: Array, flip: tuple[str, float], similar: Array, rng: np.random.Generator) -> Flipped:
    """Flip a share of the labels of some samples: to any other class, or to the most similar one of each."""
    kind, share = flip
    true, n_classes = codes[rows], len(similar)
    chosen = rng.choice(len(rows), round(share * len(rows)), replace=False)
    given, wrong = true.copy(), np.zeros(len(rows), bool)
    others = (true[chosen] + rng.integers(1, n_classes, len(chosen))) % n_classes
    given[chosen] = others if kind == "any class" else similar[true[chosen]]
    wrong[chosen] = True
    return Flipped(rows, given, wrong)


def most_similar(features: Array, codes: Array) -> Array:
    """Return for each class the one of the nearest mean, by cosine of centred features (n, C); shape (K,)."""
    rows = features / np.linalg.norm(features, axis=1, keepdims=True)
    means = np.stack([rows[codes == code].mean(0) for code in range(codes.max() + 1)]) - rows.mean(0)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    products = means @ means.T
    np.fill_diagonal(products, -np.inf)
    found: Array = products.argmax(1)
    return found


def measure(cell: Cell, case: Flipped) -> dict[str, dict[str, float]]:
    """Rank and count the wrong labels in all ways."""
    X, given = cell.test[case.rows], case.given
    head = ShrinkageProbeClassifier(device="cpu", keep_support=False)
    once, found = (
        label_issues(head, X, given, n_rounds=n_rounds, duplicates=False, outliers=False) for n_rounds in (0, 2)
    )
    logistic = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    crossed = cross_val_predict(logistic, np.asarray(X), given, cv=5, method="predict_proba")
    figures = {
        "frofa": scores(case, found.wrong, found.n_estimated, found.mask),
        "frofa, n_rounds=0": scores(case, once.wrong, once.n_estimated, once.mask),
    }
    for source, proba in (("frofa's leave-one-out", once.pred_probs), ("logistic, cross-validated", crossed)):
        mask = find_label_issues(given, proba, n_jobs=1)
        for method in ("self_confidence", "normalized_margin"):
            quality = get_label_quality_scores(given, proba, method=method)
            figures[f"cleanlab {method}, {source}"] = scores(case, -quality, mask.sum(), mask)
    return figures


def scores(case: Flipped, suspicion: Array, n_estimated: float, mask: Array) -> dict[str, float]:
    """Score a ranking, the most suspicious first, a count, and a choice (n,) of suspects."""
    n, n_wrong = len(case.wrong), int(case.wrong.sum())
    top = np.argsort(-suspicion, kind="stable")[:n_wrong]
    found = {"estimated": float(n_estimated) / n, "error": abs(float(n_estimated) - n_wrong) / n}
    found["flagged"] = float(mask.sum()) / n
    if n_wrong:
        found["precision"] = float(case.wrong[top].mean())
        found["average_precision"] = float(average_precision_score(case.wrong, suspicion))
        found["precision_flagged"] = float(case.wrong[mask].mean()) if mask.any() else float("nan")
        found["recall_flagged"] = float(case.wrong[mask].sum()) / n_wrong
    return found


def run(cell: Cell, n_few: int, n_all: int) -> list[dict[str, Any]]:
    """Average over the samples of each support and kind of flip."""
    codes = np.unique(cell.test_labels, return_inverse=True)[1]
    similar = most_similar(np.asarray(cell.test, np.float64), codes)
    rows = []
    for support, n_samples, flips in ((FEW, n_few, FLIPS), (int(np.bincount(codes).min()), n_all, OF_ALL)):
        for flip in flips:
            gathered: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
            for seed in range(n_samples):
                rng = np.random.default_rng([seed, FLIPS.index(flip)])
                case = flipped(codes, sample_shots(codes, support, seed), flip, similar, rng)
                for name, figures in measure(cell, case).items():
                    for figure, value in figures.items():
                        gathered[name][figure].append(value)
            means = {name: {key: float(np.nanmean(v)) for key, v in one.items()} for name, one in gathered.items()}
            rows.append(
                {"set": cell.data, "backbone": cell.backbone, "shots": support, "samples": n_samples}
                | {"flipped": flip[0], "share": flip[1], "methods": means}
            )
    return rows


def write(rows: list[dict[str, Any]], command: str) -> None:
    """Write rows beside those of other backbones and sets, with versions and commands."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"commands": [], "rows": []}
    new = {(row["set"], row["backbone"]) for row in rows}
    known["rows"] = [row for row in known["rows"] if (row["set"], row["backbone"]) not in new] + rows
    known["commands"] = sorted({*known["commands"], command})
    known["versions"] = {name: version(name) for name in ("frofa", "cleanlab", "scikit-learn", "numpy", "torch")}
    RESULTS.write_text(json.dumps(known, indent=1) + "\n")


def table() -> str:
    """Make the table of the page: means over sets and backbones."""
    rows = json.loads(RESULTS.read_text())["rows"]
    cases = dict.fromkeys((row["flipped"], row["share"]) for row in rows)
    lines = []
    for few in (True, False):
        some = [row for row in rows if (row["shots"] == FEW) == few]
        lines += [f"\n{FEW if few else 'All'} a class, {len({(r['set'], r['backbone']) for r in some})} cells"]
        for case in cases:
            of_case = [row for row in some if (row["flipped"], row["share"]) == case]
            for name in of_case[0]["methods"] if of_case else ():
                found = [row["methods"][name] for row in of_case]
                keys = ("precision", "average_precision", "estimated", "error", "flagged", "precision_flagged")
                means = [100 * np.nanmean([one.get(key, np.nan) for one in found]) for key in keys]
                lines.append(f"| {case[0]} | {case[1]:.0%} | {name} | " + " | ".join(f"{m:.1f}" for m in means) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run all cells, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    parser.add_argument("--samples", type=int, default=10, help="samples of 25 a class (10)")
    parser.add_argument("--samples-of-all", type=int, default=1, help="flips of all images (1)")
    args = parser.parse_args()
    shortened = [one if one.startswith("--") or "/" not in one else Path(one).name for one in sys.argv[1:]]
    command = " ".join(["python benchmarks/wrong_labels.py", *shortened])
    for cell in cells(args):
        write(run(cell, args.samples, args.samples_of_all), command)
        print(cell.backbone, cell.data, flush=True)
    print(table())


if __name__ == "__main__":
    main()
