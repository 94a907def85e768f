"""Fit times of the averaged shrinkage probe beside scikit-learn's heads that choose their own penalty.

Random features with a signal, of 10 or more classes. Beside it, on the same features, standardised in front of
scikit-learn's heads as users do: `LogisticRegressionCV` with its default grid of ten penalties and five folds,
`LinearDiscriminantAnalysis` with ``shrinkage="auto"`` by its solvers lsqr and eigen, and frofa's ridge. Each fit is
timed once, after a fit on other features of the same shape where that takes under a second.

Usage: python benchmarks/shrinkage.py [--large] [--many N] [--device NAME] [--out FILE.json]
``--large`` adds 1,000 classes of 10 samples, for the probe and for discriminants alone. ``--many`` times so many fits
of the probe side by side instead, to samples of 5 and 25 a class of one pool, with one view and with two blocks of six,
and shows how far probabilities on the device are from those on a CPU.
"""

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from frofa import FeatureBlocks, sample_shots
from frofa.estimators import RidgeProbeClassifier, ShrinkageProbeClassifier
from frofa.estimators.batched.jobs import Job, fit_many

Array = npt.NDArray[Any]
SHAPES = ((10, 5, 384), (10, 25, 384), (10, 25, 768))
LARGE = (1000, 10, 768)
SLOW = 1.0
"""Seconds from which a fit is timed without one before it."""


def features(n_classes: int, shots: int, channels: int, seed: int) -> tuple[Array, Array]:
    """Make features (n, channels) in float32, and labels."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(n_classes), shots)
    signal = rng.normal(size=(n_classes, channels))[y]
    return (0.3 * signal + rng.normal(size=(len(y), channels))).astype(np.float32), y


def heads(large: bool) -> dict[str, Any]:
    """Make all heads by name; of a large problem, those that fit in minutes."""
    found = {
        "ShrinkageProbeClassifier": ShrinkageProbeClassifier(device="cpu"),
        "RidgeProbeClassifier": RidgeProbeClassifier(),
        "LDA lsqr": make_pipeline(StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")),
        "LDA eigen": make_pipeline(StandardScaler(), LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto")),
        "LogisticRegressionCV": make_pipeline(StandardScaler(), LogisticRegressionCV()),
    }
    return {name: head for name, head in found.items() if not large or name.startswith(("Shrinkage", "LDA"))}


def seconds(head: Any, shape: tuple[int, int, int]) -> float:
    """Time a fit."""
    for seed in (0, 1):
        X, y = features(*shape, seed)
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # logistic regressions that have not converged, and changes to come
            head.fit(X, y)
        taken = time.perf_counter() - start
        if taken > SLOW:
            break
    return taken


def time_many(n_fits: int, device: str) -> dict[str, float]:
    """Time fits side by side, after as many before."""
    X, y = features(10, 200, 384, 0)
    views = X[None] + np.random.default_rng(1).normal(size=(6, *X.shape), scale=0.3).astype(np.float32)
    blocks = FeatureBlocks({"first": list(views[..., :192]), "second": list(views[..., 192:])})
    results = {}
    for shots, data in ((5, X), (5, blocks), (25, X), (25, blocks)):
        samples = [sample_shots(y, shots, random_state=i) for i in range(n_fits)]
        jobs, others = (
            [Job(ShrinkageProbeClassifier(keep_support=False, device=name), rows) for rows in samples]
            for name in (device, "cpu")
        )
        for _ in range(2):
            start = time.perf_counter()
            found: list[Any] = fit_many(data, y, jobs)
            taken = time.perf_counter() - start
        few: list[Any] = fit_many(data, y, others[:10])
        pairs = zip(found[:10], few, strict=True)
        apart = max(np.abs(one.predict_proba(data) - other.predict_proba(data)).max() for one, other in pairs)
        name = f"10 x {shots} x 384, {'2 blocks of 6 views' if data is blocks else 'one view'}"
        print(f"{name:<36} {n_fits} fits in {taken:.3f} s; at most {apart:.1e} from a CPU", flush=True)
        results[name] = taken
    return results


def main() -> None:
    """Print a table of seconds, and how many times that of the probe they are."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--large", action="store_true", help="add 1,000 classes")
    parser.add_argument("--many", type=int, help="fits side by side")
    parser.add_argument("--device", default="auto", help="device of these")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    if options.many:
        results[f"{options.many} fits"] = time_many(options.many, options.device)
    for shape in () if options.many else (*SHAPES, *([LARGE] if options.large else [])):
        name = "{} x {} x {}".format(*shape)
        results[name] = {}
        for head, estimator in heads(shape == LARGE).items():
            results[name][head] = taken = seconds(estimator, shape)
            ratio = taken / results[name]["ShrinkageProbeClassifier"]
            print(f"{name:>16}  {head:<26} {taken:8.3f} s  {ratio:6.1f} x", flush=True)
    if options.out is not None:
        threads = {"threads": torch.get_num_threads(), "torch": torch.__version__}
        options.out.write_text(json.dumps({**threads, "seconds": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
