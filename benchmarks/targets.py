"""Numbers in images from few of them: `ShrinkageRegressor` beside tuned ridge, Bayesian ridge and kernel ridge.

Numbers that are known without labels: brightness, redness, saturation, contrast and edges of photographs, and size,
angle and place of drawn shapes, these by the embedded backbone. Support samples of 20, 50 and 200 training images, the
same for all; scored on test images. Peers get the same features, standardised, and tune by cross-validation on the
samples (scikit-learn's `RidgeCV`, `BayesianRidge`, and `KernelRidge` of radial basis functions by `GridSearchCV`).
Intervals of 90 % are scored beside MAPIE's jackknife+ on a ridge regression whose penalty `RidgeCV` chose.

Usage: python benchmarks/targets.py SETS... --backbones NAMES... --store DIR [--draws 3] [--drawings]
with the checkout and its benchmarks/ in PYTHONPATH.
A file that is there is added to, and methods measured again take the place of what they were: backbones of fewer views
are measured by another call.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from image_cells import MOST_TEST, MOST_TRAIN, add_options, load
from mapie.regression import CrossConformalRegressor
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import BayesianRidge, Ridge, RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, LeaveOneOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from target_images import DRAWING, PHOTOGRAPH, drawings, numbers_of_photographs

import frofa
from frofa import FeatureBlocks, FrozenFeatureExtractor
from frofa.estimators import ShrinkageRegressor

Array = npt.NDArray[Any]
RESULTS = Path(__file__).parents[1] / "results" / "confidence_targets.json"
SIZES, LEVEL, TESTED = (20, 50, 200), 0.9, 300
PENALTIES = np.logspace(-1, 6, 29)


class Task(NamedTuple):
    """Features and targets (n, T) of training and test images."""

    name: str
    targets: tuple[str, ...]
    train: FeatureBlocks
    train_y: Array
    test: FeatureBlocks
    test_y: Array


def tasks(args: argparse.Namespace) -> Iterator[Task]:
    """Yield photographs of each set by each backbone, and drawings by the embedded one."""
    for directory in args.sets:
        splits = ("train", MOST_TRAIN), ("test", MOST_TEST)
        numbers = [numbers_of_photographs(_paths(directory, *split)) for split in splits]
        for backbone in args.backbones:
            cell = load(directory, backbone, args.views, args.store)
            name = f"{cell.data}, {cell.backbone}"
            yield Task(name, PHOTOGRAPH, cell.train, numbers[0], cell.test, numbers[1])
    if args.drawings:
        extractor = FrozenFeatureExtractor(output="auto", precision="float32", store=args.store)
        parts: list[Any] = []
        for part, n in (("train", 400), ("test", TESTED)):
            images, targets = drawings(n, part)
            features = extractor.fit_transform(images)
            parts += [FeatureBlocks({name: [np.asarray(features.views(name)[0])] for name in features.names}), targets]
        yield Task("drawings, embedded", DRAWING, *parts)


def _paths(directory: Path, split: str, most: int) -> list[str]:
    paths, labels = frofa.load_image_folder(directory / split)
    labels = np.asarray(labels)
    return [str(paths[i]) for label in np.unique(labels) for i in np.flatnonzero(labels == label)[:most]]


def ridge() -> Any:
    return make_pipeline(StandardScaler(), RidgeCV(PENALTIES, alpha_per_target=True))


def bayesian() -> Any:
    return make_pipeline(StandardScaler(), BayesianRidge())


def kernel() -> Any:
    grid = {"kernelridge__alpha": [1e-3, 1e-2, 1e-1, 1], "kernelridge__gamma": [1e-5, 1e-4, 1e-3]}
    return GridSearchCV(make_pipeline(StandardScaler(), KernelRidge(kernel="rbf")), grid, scoring="r2", cv=5)


Predict = Callable[[Any, Array, Any], Array]


def each(make: Callable[[], Any]) -> Predict:
    """Fit one estimator for each target, of standardised targets."""

    def predict(x: Array, y: Array, new: Array) -> Array:
        mean, scale = y.mean(0), y.std(0)
        found = [make().fit(x, column).predict(new) for column in ((y - mean) / scale).T]
        predicted: Array = np.stack(found, 1) * scale + mean
        return predicted

    return predict


METHODS: dict[str, Predict] = {
    "RidgeCV": lambda x, y, new: ridge().fit(x, y).predict(new),
    "BayesianRidge": each(bayesian),
    "KernelRidge, tuned": each(kernel),
}


def measure(task: Task, size: int, seed: int, *, peers: bool, mapie: bool) -> list[dict[str, Any]]:
    """Fit all methods, or ours alone, to one draw of samples, and score them on test images."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(task.train))[:size]
    new = rng.permutation(len(task.test))[:TESTED]
    blocks, y, test, true = task.train[rows], task.train_y[rows], task.test[new], task.test_y[new]
    plain, plain_test = np.asarray(blocks, np.float64), np.asarray(test, np.float64)
    found = []

    def add(method: str, predicted: Array, seconds: float, bounds: Array | None = None) -> None:
        row = {"task": task.name, "size": size, "draw": seed, "method": method, "seconds": seconds / y.shape[1]}
        scores = r2_score(true, predicted, multioutput="raw_values")
        row["r2"] = dict(zip(task.targets, np.round(scores, 4).tolist(), strict=True))
        if bounds is not None:
            inside = (true >= bounds[:, :, 0]) & (true <= bounds[:, :, 1])
            row["coverage"] = inside.mean(0).round(4).tolist()
            row["width"] = ((bounds[:, :, 1] - bounds[:, :, 0]).mean(0) / true.std(0)).round(4).tolist()
        found.append(row)

    start = time.perf_counter()
    regressor = ShrinkageRegressor(device="cpu").fit(blocks, y)
    predicted = regressor.predict(test)
    seconds = time.perf_counter() - start
    add("ShrinkageRegressor", predicted, seconds, regressor.predict_interval(test, LEVEL)[1][..., 0])
    if not peers:
        return found
    for name, predict in METHODS.items():
        start = time.perf_counter()
        predicted = predict(plain, y, plain_test)
        add(name, predicted, time.perf_counter() - start)
    if mapie:
        start = time.perf_counter()
        penalties = ridge().fit(plain, y)[-1].alpha_
        parts = [_mapie(plain, column, plain_test, a) for column, a in zip(y.T, penalties, strict=True)]
        points, bounds = (np.stack(part, 1) for part in zip(*parts, strict=True))
        add("MAPIE jackknife+ on RidgeCV", points, time.perf_counter() - start, bounds)
    return found


def _mapie(x: Array, y: Array, new: Array, alpha: float) -> tuple[Array, Array]:
    model = make_pipeline(StandardScaler(), Ridge(alpha))
    knife = CrossConformalRegressor(model, confidence_level=LEVEL, method="plus", cv=LeaveOneOut())
    points, bounds = knife.fit_conformalize(x, y).predict_interval(new)
    return points, bounds[..., 0]


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Average over targets, draws, sets and backbones, for each size and method."""
    groups: dict[tuple[str, int, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        kind = "drawings" if row["task"].startswith("drawings") else "photographs"
        groups[kind, row["size"], row["method"]].append(row)
    table = []
    for (kind, size, method), group in sorted(groups.items()):
        scores = np.array([list(row["r2"].values()) for row in group])
        line: dict[str, Any] = {"kind": kind, "size": size, "method": method, "r2": round(float(scores.mean()), 4)}
        # Targets that a method makes nothing of count as zero here: a single bad one can outweigh all others.
        line["r2, at least 0"] = round(float(scores.clip(0).mean()), 4)
        line["seconds"] = round(float(np.median([row["seconds"] for row in group])), 4)
        for what in ("coverage", "width"):
            if what in group[0]:
                line[what] = round(float(np.mean([row[what] for row in group])), 4)
        table.append(line)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--draws", type=int, default=3, help="support samples of each size (default: %(default)s)")
    parser.add_argument("--drawings", action="store_true", help="also drawings, by the embedded backbone")
    parser.add_argument("--no-peers", action="store_true", help="ours alone: others stay as they are in the file")
    args = parser.parse_args()
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"commands": [], "rows": []}
    rows = []
    for task in tasks(args):
        for size in SIZES:
            for draw in range(args.draws):
                mapie = draw == 0 or size < SIZES[-1]
                rows += measure(task, size, draw, peers=not args.no_peers, mapie=mapie)
        print(task.name, json.dumps(summarise([row for row in rows if row["task"] == task.name])), flush=True)
    done = {(row["task"], row["method"]) for row in rows}
    known["rows"] = [row for row in known["rows"] if (row["task"], row["method"]) not in done] + rows
    shortened = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    known["commands"].append(f"python benchmarks/targets.py {' '.join(shortened)}")
    known["versions"] = {name: version(name) for name in ("frofa", "mapie", "scikit-learn", "numpy", "torch")}
    known["summary"] = summarise(known["rows"])
    RESULTS.write_text(json.dumps(known, indent=1) + "\n")
    for line in known["summary"]:
        print(line)


if __name__ == "__main__":
    main()
