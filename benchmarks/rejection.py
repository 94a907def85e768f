"""Images of no known class, told by ours and by pytorch-ood's detectors; and how many known ones are rejected.

Half of the classes, drawn anew for each sample, are known, and the test images of the others are not. All detectors
have the same support, and the same features of length one or the logits of the same probe.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import numpy.typing as npt
import torch
from image_cells import Cell, add_options, load
from pytorch_ood import detector as peers
from scipy.linalg import qr
from sklearn.metrics import roc_auc_score, roc_curve

from frofa.estimators import RidgeProbeClassifier, ShrinkageProbeClassifier
from frofa.estimators.core.confident.novelty import rows_of
from frofa.estimators.solvers.novelty.ranks import least_samples, threshold
from frofa.estimators.solvers.novelty.scores import energies, left_out_scores_of, scores_of

Array = npt.NDArray[Any]
METHODS = ("auto", "mahalanobis", "relative", "knn")
SHARES = (0.05, 0.1)
WIDEST = 1000
"""Channels up to which ViM is fitted, which decomposes a matrix of as many rows."""


class Sample(NamedTuple):
    """Blocks and rows of a support, its codes, and blocks and rows of test images, those of no known class marked."""

    support: Any
    rows: Array
    codes: Array
    test: Any
    queries: Array
    unknown: Array


def on_training_images(cell: Cell) -> Cell:
    """Put half of the training images of each class in the place of the test images, to choose a method by."""
    rows = [np.flatnonzero(cell.train_labels == label) for label in np.unique(cell.train_labels)]
    train, test = (np.concatenate([row[part::2] for row in rows]) for part in (0, 1))
    labels = cell.train_labels
    return cell._replace(
        train=cell.train[train], train_labels=labels[train], test=cell.train[test], test_labels=labels[test]
    )


def samples(cell: Cell, shots: int, n_samples: int) -> Iterator[Sample]:
    """Draw halves of the classes, and supports of them."""
    classes = np.unique(cell.train_labels)
    # Rows of length one, as heads have them, are taken once for all supports; known ones are kept in float16.
    rows, queries = rows_of(cell.train).astype(np.float16).astype(np.float64), rows_of(cell.test)
    for seed in range(n_samples):
        rng = np.random.default_rng(seed)
        known = np.sort(rng.permutation(classes)[: len(classes) // 2])
        drawn = [rng.permutation(np.flatnonzero(cell.train_labels == label))[:shots] for label in known]
        codes = np.repeat(np.arange(len(known)), [len(part) for part in drawn])
        chosen = np.concatenate(drawn)
        unknown = ~np.isin(cell.test_labels, known)
        yield Sample(cell.train[chosen], rows[chosen], codes, cell.test, queries, unknown)


def ours(sample: Sample, found: dict[str, Array], rejected: dict[str, dict[str, float]]) -> None:
    """Score the test images by all methods, and reject, as heads do with what they keep."""
    for method in METHODS:
        found[method] = scores_of(sample.rows, sample.codes, sample.queries, method)
        reject(sample, method, found[method], left_out_scores_of(sample.rows, sample.codes, method), rejected)


def reject(sample: Sample, method: str, scores: Array, left_out: Array, rejected: dict[str, dict[str, float]]) -> None:
    """Reject test images by the left-out scores of the known ones, where there are enough of these."""
    for share in SHARES:
        if len(left_out) >= least_samples(share):
            beyond = scores > threshold(left_out, share)
            rejected[f"{method} {share:g}"] = {
                "known": float(beyond[~sample.unknown].mean()),
                "unknown": float(beyond[sample.unknown].mean()),
            }


def by_logits(sample: Sample, found: dict[str, Array], rejected: dict[str, dict[str, float]]) -> Array:
    """Score by the energy of the default probe; return its logits (m, K) of the test images."""
    head: Any = ShrinkageProbeClassifier(keep_support=False, device="cpu", novelty="energy")
    head.fit(sample.support, sample.codes)
    logits: Array = head._logits_of(head._checked_scores(sample.test))
    found["energy"] = energies(logits)
    reject(sample, "energy", found["energy"], head.novelty_["scores"], rejected)
    return logits


def theirs(sample: Sample, logits: Array, found: dict[str, Array]) -> None:
    """Score the test images by detectors of pytorch-ood, with their defaults but for neighbours: 5, as ours has."""
    rows, queries = sample.rows, sample.queries
    codes, scores = torch.tensor(sample.codes), torch.tensor(logits, dtype=torch.float32)
    for name in ("EnergyBased", "MaxSoftmax", "MaxLogit", "Entropy"):
        found[name] = getattr(peers, name)(None).predict_logits(scores).numpy()
    if rows.shape[1] <= WIDEST:
        probe: Any = RidgeProbeClassifier().fit(rows, sample.codes)
        weights, offsets = _tensor(probe.coef_), _tensor(probe.intercept_)
        vim = peers.ViM(None, min(64, rows.shape[1] // 2), weights, offsets)
        found["ViM"] = vim.fit_features(_tensor(rows), codes).predict_features(_tensor(queries)).numpy()
    # In coordinates of the support, and the length of what is beyond: distances are the same, and their matrices small.
    if len(rows) < rows.shape[1]:
        basis = qr(rows.T, mode="economic")[0]
        inside = queries @ basis
        beyond = np.sqrt(np.maximum((queries**2).sum(1) - (inside**2).sum(1), 0))
        rows, queries = np.hstack([rows @ basis, np.zeros((len(rows), 1))]), np.hstack([inside, beyond[:, None]])
    fitted = {"Mahalanobis": peers.Mahalanobis(None), "RMD": peers.RMD(None), "KNN": peers.KNN(None, k=5)}
    for name, each in fitted.items():
        found[name] = each.fit_features(_tensor(rows), codes).predict_features(_tensor(queries)).numpy()


def _tensor(array: Array) -> torch.Tensor:
    return torch.tensor(array, dtype=torch.float32)


def told(unknown: Array, scores: Array) -> tuple[float, float]:
    """Area under the curve, and the share of known images rejected where 95 % of the others are."""
    known, others, _ = roc_curve(unknown, np.nan_to_num(scores))
    return float(roc_auc_score(unknown, np.nan_to_num(scores))), float(known[others >= 0.95].min())


def measure(cell: Cell, shots: int, n_samples: int, n_peers: int) -> dict[str, Any]:
    """Average over samples: AUROC and FPR95 of each method, and the shares that ours reject."""
    table: dict[str, list[tuple[float, float]]] = defaultdict(list)
    shares: dict[str, list[dict[str, float]]] = defaultdict(list)
    for number, sample in enumerate(samples(cell, shots, n_samples)):
        found: dict[str, Array] = {}
        rejected: dict[str, dict[str, float]] = {}
        ours(sample, found, rejected)
        if number < n_peers:
            theirs(sample, by_logits(sample, found, rejected), found)
        for name, scores in found.items():
            table[name].append(told(sample.unknown, scores))
        for name, each in rejected.items():
            shares[name].append(each)
    scored = {
        name: dict(zip(("auroc", "fpr95"), np.mean(each[: n_peers or None], 0).round(4).tolist(), strict=True))
        for name, each in table.items()
    }
    return {
        "told": scored,
        "rejected": {
            name: {part: round(float(np.mean([one[part] for one in each])), 4) for part in ("known", "unknown")}
            | {"known_deviation": round(float(np.std([one["known"] for one in each])), 4), "samples": len(each)}
            for name, each in shares.items()
        },
    }


def summary(results: list[dict[str, Any]], shots: int) -> str:
    """Averages over sets and backbones, as lines."""
    part = [one for one in results if one["shots"] == shots]
    names = sorted({name for one in part for name in one["told"]})
    lines = [f"{shots} shots, {len(part)} cells"]
    for name in names:
        values = [one["told"][name] for one in part if name in one["told"]]
        auroc, fpr = (100 * np.mean([each[key] for each in values]) for key in ("auroc", "fpr95"))
        lines.append(f"  {name:<12} AUROC {auroc:5.1f}  FPR95 {fpr:5.1f}  ({len(values)} cells)")
    for name in sorted({name for one in part for name in one["rejected"]}):
        known = 100 * np.array([one["rejected"][name]["known"] for one in part if name in one["rejected"]])
        others = 100 * np.array([one["rejected"][name]["unknown"] for one in part if name in one["rejected"]])
        lines.append(
            f"  {name:<18} rejects {known.mean():5.1f} % of the known ({known.min():.1f} to {known.max():.1f} by cell) "
            f"and {others.mean():5.1f} % of the others"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure all cells, print averages and write all figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_options(parser)
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 2, 5, 10, 25])
    parser.add_argument("--samples", type=int, default=20, help="supports of each cell (20)")
    parser.add_argument("--peer-samples", type=int, default=5, help="the first of these, of all detectors (5)")
    parser.add_argument("--training-images", action="store_true", help="score on these: what choices were made by")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/confidence_rejection.json"))
    options = parser.parse_args()
    results = []
    for backbone in options.backbones:
        for directory in options.sets:
            # 3 views of the backbone of 1280 channels, as in the store.
            views = min(options.views, 3) if "efficientnet" in backbone else options.views
            cell = load(directory, backbone, views, options.store)
            cell = on_training_images(cell) if options.training_images else cell
            for shots in options.shots:
                found = measure(cell, shots, options.samples, options.peer_samples)
                results.append({"data": cell.data, "backbone": cell.backbone, "shots": shots, **found})
            print(cell.data, cell.backbone, flush=True)
    for shots in options.shots:
        print(summary(results, shots), flush=True)
    names: list[Callable[[str], Any]] = [lambda text: Path(text).name if "/" in text else text]
    command = " ".join(["python", "benchmarks/rejection.py", *map(names[0], sys.argv[1:])])
    packages = {name: version(name) for name in ("numpy", "scikit-learn", "torch", "pytorch-ood")}
    options.out.write_text(json.dumps({"command": command, "versions": packages, "cells": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
