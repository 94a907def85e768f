"""Several labels an image from few images: `MultiLabelProbeClassifier` beside a tuned logistic regression a label.

Images are grids of two by two photographs of one to three of ten classes, training images for training and test images
for testing, by the embedded backbone. Support samples of 20, 50 and 200, the same for both. The peer gets the same
features, standardised: scikit-learn's `LogisticRegressionCV`, one a label, its C chosen by log-loss in three folds, or
0.01 where a label has too few samples for folds; thresholds for F1 are chosen on its probabilities out of fold, as ours
are on left-out ones. Mean average precision and F1 are averages over the labels that the test images have.

Usage: python benchmarks/several_labels.py SETS... --store DIR [--draws 3]
with the checkout and its benchmarks/ in PYTHONPATH.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import average_precision_score, f1_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from target_images import grids

import frofa
from frofa import FeatureBlocks, FrozenFeatureExtractor
from frofa.estimators import MultiLabelProbeClassifier
from frofa.estimators.solvers.outputs.thresholds import f1_thresholds

Array = npt.NDArray[Any]
RESULTS = Path(__file__).parents[1] / "results" / "confidence_several_labels.json"
SIZES, N_TRAIN, N_TEST, BINS = (20, 50, 200), 400, 300, 10
STRENGTHS = [1e-4, 1e-3, 1e-2, 1e-1, 1]


def features_of(directory: Path, store: Path | None) -> list[tuple[FeatureBlocks, Array]]:
    """Make grids of both splits, and extract their features: blocks and indicators."""
    extractor = FrozenFeatureExtractor(output="auto", precision="float32", store=store)
    found = []
    for seed, (split, n) in enumerate((("train", N_TRAIN), ("test", N_TEST))):
        paths, labels = frofa.load_image_folder(directory / split)
        images, indicator = grids([str(path) for path in paths], np.unique(labels, return_inverse=True)[1], n, seed)
        features = extractor.fit_transform(images)
        blocks = {name: [np.asarray(features.views(name)[0])] for name in features.names}
        found.append((FeatureBlocks(blocks), indicator))
    return found


def logistic(x: Array, y: Array, new: Array) -> tuple[Array, Array]:
    """Fit a logistic regression a label: probabilities of new samples, and of samples out of fold."""
    found, out_of_fold = np.zeros((len(new), y.shape[1])), np.zeros(y.shape)
    for i, column in enumerate(y.T):
        few = min(column.sum(), len(column) - column.sum())
        if few == 0:
            found[:, i] = out_of_fold[:, i] = (column.sum() + 0.5) / (len(column) + 1)
            continue
        folds = StratifiedKFold(min(3, max(2, few)))
        strength = 0.01
        if few >= 2:
            tuned = LogisticRegressionCV(
                Cs=STRENGTHS,
                cv=folds,
                scoring="neg_log_loss",
                max_iter=300,
                use_legacy_attributes=False,
                l1_ratios=(0,),
            )
            strength = float(make_pipeline(StandardScaler(), tuned).fit(x, column)[-1].C_)
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300)).fit(x, column)
        found[:, i] = model.predict_proba(new)[:, 1]
        # Of a single sample with a label, there are no folds.
        own = model.predict_proba(x)
        if few >= 2:
            own = cross_val_predict(model, x, column, cv=folds, method="predict_proba")
        out_of_fold[:, i] = own[:, 1]
    return found, out_of_fold


def scores_of(proba: Array, true: Array, thresholds: Array) -> dict[str, float]:
    """Score probabilities, and labels by 0.5 and by thresholds."""
    seen = (true.sum(0) > 0) & (true.sum(0) < len(true))
    p, y = proba[:, seen], true[:, seen]
    clipped = np.clip(p, 1e-6, 1 - 1e-6)
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    off = sum(abs(p[bins == b].sum() - y[bins == b].sum()) for b in range(BINS)) / p.size
    return {
        "mAP": float(average_precision_score(y, p, average="macro")),
        "log-loss": float(-(y * np.log(clipped) + (1 - y) * np.log(1 - clipped)).mean()),
        "calibration error": float(off),
        "F1 at 0.5": float(f1_score(y, p > 0.5, average="macro", zero_division=0)),
        "F1 at own thresholds": float(f1_score(y, p > thresholds[seen], average="macro", zero_division=0)),
        "labels right at 0.5": float(((p > 0.5) == y).mean()),
        "labels right at own thresholds": float(((p > thresholds[seen]) == y).mean()),
    }


def measure(name: str, parts: list[tuple[FeatureBlocks, Array]], size: int, draw: int) -> list[dict[str, Any]]:
    """Fit both to one draw of samples, and score them on all test images."""
    (train, train_y), (test, test_y) = parts
    rows = np.random.default_rng(draw).permutation(len(train))[:size]
    found = []

    def add(method: str, proba: Array, thresholds: Array, seconds: float) -> None:
        row = {"set": name, "size": size, "draw": draw, "method": method, "seconds": round(seconds, 3)}
        found.append({**row, **{key: round(value, 4) for key, value in scores_of(proba, test_y, thresholds).items()}})

    start = time.perf_counter()
    head = MultiLabelProbeClassifier(threshold="auto", device="cpu").fit(train[rows], train_y[rows])
    proba = head.predict_proba(test)
    add("MultiLabelProbeClassifier", proba, head.thresholds_, time.perf_counter() - start)
    x, new = (np.asarray(blocks, np.float64) for blocks in (train[rows], test))
    start = time.perf_counter()
    proba, out_of_fold = logistic(x, train_y[rows], new)
    seconds = time.perf_counter() - start
    add("LogisticRegressionCV a label", proba, f1_thresholds(out_of_fold, np.ones(size)), seconds)
    return found


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Average over sets and draws, for each size and method."""
    groups: dict[tuple[int, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["size"], row["method"]].append(row)
    keys = [key for key in rows[0] if key not in ("set", "size", "draw", "method")]
    return [
        {"size": size, "method": method, **{key: round(float(np.mean([row[key] for row in group])), 4) for key in keys}}
        for (size, method), group in sorted(groups.items())
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", type=Path, metavar="SET", help="directory with train/CLASS and test/CLASS")
    parser.add_argument("--store", type=Path, help="directory that keeps features")
    parser.add_argument("--draws", type=int, default=3, help="support samples of each size (default: %(default)s)")
    args = parser.parse_args()
    rows = []
    for directory in args.sets:
        parts = features_of(directory, args.store)
        for size in SIZES:
            for draw in range(args.draws):
                rows += measure(directory.name, parts, size, draw)
    shortened = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    facts = {
        "command": f"python benchmarks/several_labels.py {' '.join(shortened)}",
        "versions": {name: version(name) for name in ("frofa", "scikit-learn", "numpy", "torch")},
        "summary": summarise(rows),
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n")
    for line in facts["summary"]:
        print(line)


if __name__ == "__main__":
    main()
