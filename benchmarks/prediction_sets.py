"""Coverage and size of prediction sets of all methods and scores, beside MAPIE's of the same heads.

Support samples of training images, disjoint where there are enough, and some test images for each. The mean over
support samples counts: given one of n images, the coverage of split sets is a Beta variable, of a deviation of about
``sqrt(level * (1 - level) / (n + 2))``. Beside it stands the coverage that ranks lead to be expected, which is more
than the level for sets that include ties. Figures of earlier runs stay, so that cells may be measured one by one.

Usage: python benchmarks/prediction_sets.py SETS... --backbones NAMES... --store DIR
"""

import argparse
import json
import sys
from collections.abc import Iterator
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from image_cells import Cell, add_options, load
from mapie.classification import CrossConformalClassifier, SplitConformalClassifier
from sklearn.base import BaseEstimator, ClassifierMixin

from frofa import FeatureBlocks
from frofa.estimators import ConformalClassifier, PrototypeClassifier, RidgeProbeClassifier, ShrinkageProbeClassifier
from frofa.estimators.confidence.closed_form import Added, LeftOut, added, checked, left_out
from frofa.estimators.confidence.counting import Ranking
from frofa.estimators.solvers.conformal.full import probabilities
from frofa.estimators.solvers.conformal.ranks import Counts, accepted, expected_coverage
from frofa.estimators.solvers.conformal.scores import Score
from frofa.evaluation import disjoint_shots, mean_interval, sample_shots

Array = npt.NDArray[Any]
LEVEL = 0.9
HEADS: dict[str, Any] = {
    "shrinkage": ShrinkageProbeClassifier(novelty=None, keep_support=False, device="cpu"),
    "ridge": RidgeProbeClassifier(novelty=None),
    "prototype": PrototypeClassifier(novelty=None),
}
METHODS: tuple[Any, ...] = ("jackknife+", "full", "split", "cv+")
PENALTY, N_FREE = 0.01, 1


class Variant(NamedTuple):
    """A way to rank: a score, among the samples of a class or all of them, with ties broken at random or not."""

    score: Any
    per_class: bool = False
    randomized: bool = False

    def name(self, head: str, method: str) -> str:
        """The row of the table."""
        extras = (", per class" if self.per_class else "") + (", randomised" if self.randomized else "")
        return f"{head}, {method}, {self.score}{extras}"


def variants(head: str, method: str, shots: int) -> Iterator[Variant]:
    """Yield what is measured of a head; per class where that can be promised, split having half of the images."""
    yield Variant("lac")
    if head != "shrinkage":
        return
    yield Variant("lac", randomized=True)
    for score in ("aps", "raps"):
        yield from (Variant(score), Variant(score, randomized=True))
    if shots // (2 if method == "split" else 1) >= 9:
        yield Variant("lac", per_class=True)


def measure(cell: Cell, design: str, args: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Give coverage and size of each variant, support sample by support sample."""
    found: dict[str, dict[str, list[float]]] = {}
    shots = int(design.split()[0])
    for number, rows in enumerate(supports(cell.train_labels, design, args.samples, args.seed)):
        test = np.random.default_rng(args.seed + number).permutation(len(cell.test_labels))[: args.test_images]
        X, y, new = cell.train[rows], cell.train_labels[rows], cell.test[test]
        truth = np.searchsorted(np.unique(y), cell.test_labels[test])
        for head, estimator in HEADS.items():
            # Probes by which the others are compared, and ridge, which decomposes anew for every image: some samples.
            if head != "shrinkage" and (number >= args.samples // 4 or "drawn" in design):
                continue
            for method in METHODS:
                if method == "full" and head == "ridge" and shots > 5:
                    continue
                model = ConformalClassifier(estimator, LEVEL, method=method, random_state=number).fit(X, y)
                ranks = Ranks.of(model, new)
                for variant in variants(head, method, 0 if "drawn" in design else shots):
                    n = len(model.codes_) // (len(model.classes_) if variant.per_class else 1)
                    nominal = LEVEL if variant.randomized else expected_coverage(LEVEL, n)
                    record(found, variant.name(head, method), ranks.sets(variant, number), truth, nominal)
        if number < args.samples // 4 and "drawn" not in design:
            for method in ("split", "cv+"):
                record(found, f"MAPIE, {method}, lac", mapie(method, X, y, new, number), truth, LEVEL)
    return found


def supports(labels: Array, design: str, n_samples: int, seed: int) -> list[Array]:
    """Draw support samples: so many of each class, disjoint where there are enough, or as many as they come."""
    shots, n_classes = int(design.split()[0]), len(np.unique(labels))
    if "drawn" in design:
        found = (np.random.default_rng(seed + i).permutation(len(labels))[: shots * n_classes] for i in range(10**6))
        whole = (rows for rows in found if len(np.unique(labels[rows])) == n_classes)
        return [next(whole) for _ in range(n_samples)]
    if np.unique(labels, return_counts=True)[1].min() >= shots * n_samples:
        return list(disjoint_shots(labels, shots, n_samples, seed))
    return [sample_shots(labels, shots, seed + number) for number in range(n_samples)]


class Ranks(NamedTuple):
    """A fitted classifier and what it makes of new samples, which all scores share."""

    model: ConformalClassifier
    new: Any
    fits: LeftOut | None
    proba: Array | None

    @classmethod
    def of(cls, model: ConformalClassifier, new: Any) -> "Ranks":
        """Compute what takes long."""
        head = model.head_
        if model.method == "full":
            fits: Added = added(head, model.support_)
            return cls(model, new, None, probabilities(fits.refits, fits.rows(checked(head, new)), fits.log_priors))
        if model.method == "jackknife+":
            proba = left_out(head, model.support_).of_new(checked(head, new))
            return cls(model, range(len(new)), LeftOut(model.left_out_proba_, lambda rows: proba[list(rows)]), None)
        return cls(model, new, None, None)

    def sets(self, variant: Variant, seed: int) -> npt.NDArray[np.bool_]:
        """Make sets (m, K)."""
        model, m, rng = self.model, len(self.new), np.random.RandomState(seed)
        draws = (rng.random_sample(len(model.codes_)), rng.random_sample(m)) if variant.randomized else (None, None)
        score = Score(variant.score, PENALTY, N_FREE)
        ranking = Ranking(score, model.codes_, len(model.classes_), variant.per_class, *draws)
        ties = rng.random_sample((m, 1)) if variant.randomized else None
        return accepted(self._counts(ranking).p_values(ties), np.array([LEVEL]))[:, :, 0]

    def _counts(self, ranking: Ranking) -> Counts:
        if self.proba is not None:
            return ranking.within_of(self.proba, slice(None))
        if self.fits is not None:
            return ranking.among_left_out(self.model.left_out_proba_, self.fits, self.new)
        return self.model._counts(ranking, self.model.head_, self.new)


class ByPosition(ClassifierMixin, BaseEstimator):
    """The shrinkage probe as MAPIE takes it: X are positions (n, 1) of features that it looks up."""

    def __init__(self, features: Any = None):
        self.features = features

    def __sklearn_clone__(self) -> "ByPosition":
        return ByPosition(self.features)

    def fit(self, X: Array, y: Array) -> "ByPosition":
        """Fit the probe."""
        self.head_ = HEADS["shrinkage"].__class__(**HEADS["shrinkage"].get_params()).fit(self._rows(X), y)
        self.classes_ = self.head_.classes_
        return self

    def predict(self, X: Array) -> Array:
        """Predict labels."""
        labels: Array = self.head_.predict(self._rows(X))
        return labels

    def predict_proba(self, X: Array) -> Array:
        """Predict probabilities."""
        proba: Array = self.head_.predict_proba(self._rows(X))
        return proba

    def _rows(self, X: Array) -> Any:
        return self.features[X[:, 0].astype(int)]


def mapie(method: str, X: FeatureBlocks, y: Array, new: FeatureBlocks, seed: int) -> npt.NDArray[np.bool_]:
    """Make sets (m, K) by MAPIE."""
    both = {
        name: [np.concatenate(pair) for pair in zip(X.views(name), new.views(name), strict=True)] for name in X.names
    }
    probe = ByPosition(FeatureBlocks(both))
    rows, codes = np.arange(len(y))[:, None], np.unique(y, return_inverse=True)[1]
    asked = np.arange(len(new))[:, None] + len(y)
    if method == "cv+":
        model: Any = CrossConformalClassifier(probe, LEVEL, cv=5, random_state=seed).fit_conformalize(rows, codes)
        return np.asarray(model.predict_set(asked, agg_scores="crossval")[1][:, :, 0], bool)
    held = np.random.default_rng(seed).permutation(len(y))
    held = np.concatenate([held[codes[held] == code][: (codes == code).sum() // 2] for code in range(codes.max() + 1)])
    fitted = np.setdiff1d(np.arange(len(y)), held)
    model = SplitConformalClassifier(probe.fit(rows[fitted], codes[fitted]), LEVEL, prefit=True, random_state=seed)
    model.conformalize(rows[held], codes[held])
    return np.asarray(model.predict_set(asked)[1][:, :, 0], bool)


def record(found: dict[str, Any], name: str, sets: Array, truth: Array, nominal: float) -> None:
    """Add the coverage and size, the shares of empty sets and of those of one label, of sets (m, K)."""
    sizes = sets.sum(1)
    values = {
        "coverage": sets[np.arange(len(truth)), truth].mean(),
        "size": sizes.mean(),
        "empty": (sizes == 0).mean(),
        "single": (sizes == 1).mean(),
        "expected": nominal,
    }
    for key, value in values.items():
        found.setdefault(name, {}).setdefault(key, []).append(round(float(value), 4))


def report(cells: dict[str, Any]) -> None:
    """Print means over cells, with intervals over cells times support samples.

    Beside MAPIE, which is measured on the first of them, stand our sets of the same samples.
    """
    for design in dict.fromkeys(key.split("/")[2] for key in cells):
        chosen = [cell for key, cell in cells.items() if key.split("/")[2] == design]
        print(f"\n{design}, {len(chosen)} cells\n{'':44}coverage      expected  least  most  size   empty  single")
        for cell in chosen:
            for name in [name for name in cell if name.startswith("MAPIE")]:
                ours, n = cell[name.replace("MAPIE", "shrinkage")], len(cell[name]["size"])
                cell[name.replace("MAPIE", "ours, same samples")] = {key: found[:n] for key, found in ours.items()}
        for name in dict.fromkeys(name for cell in chosen for name in cell):
            rows = [cell[name] for cell in chosen if name in cell]
            coverage = [100 * value for row in rows for value in row["coverage"]]
            each = [100 * np.mean(row["coverage"]) for row in rows]
            size, empty, single, expected = (
                np.mean([np.mean(row[key]) for row in rows]) for key in ("size", "empty", "single", "expected")
            )
            print(
                f"{name:44}{mean_interval(coverage):5.1f} {100 * expected:9.1f} {min(each):8.1f} {max(each):5.1f} "
                f"{size:5.2f} {100 * empty:5.1f} {100 * single:5.1f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    designs = ["5 shots", "10 shots", "25 shots", "5 a class, drawn as they come", "10 a class, drawn as they come"]
    parser.add_argument("--designs", nargs="+", default=designs, help="support samples: all of them")
    parser.add_argument("--samples", type=int, default=20, help="support samples (20)")
    parser.add_argument("--test-images", type=int, default=10, help="test images for each (10)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/confidence_coverage.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    text = json.loads(args.out.read_text()) if args.out.exists() else {"cells": {}}
    loaded: dict[tuple[Path, str], Cell] = {}
    for design, backbone, directory in product(args.designs, args.backbones, args.sets):
        key = f"{directory.name}/{Path(backbone).name}/{design}"
        if key in text["cells"]:
            continue
        if (directory, backbone) not in loaded:
            n_views = min(args.views, 3) if "efficientnet" in backbone else args.views
            loaded[directory, backbone] = load(directory, backbone, n_views, args.store)
        text["cells"][key] = measure(loaded[directory, backbone], design, args)
        text["versions"] = {name: version(name) for name in ("scikit-learn", "numpy", "torch", "mapie")}
        text["command"] = " ".join(Path(word).name for word in sys.argv)
        args.out.write_text(json.dumps(text) + "\n")
        print(key, "done", flush=True)
    report(text["cells"])


if __name__ == "__main__":
    main()
