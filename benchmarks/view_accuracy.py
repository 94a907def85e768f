"""What several views of each image buy: accuracy by views of the support samples and views at prediction.

The head is `ShrinkageProbeClassifier` on all blocks of ``output="auto"``. Views are the image itself, its mirror image
and crops, in this order, and fewer of them are the first. Top-1 in percent on the test split, mean over the sets; the
support samples are drawn from the train split, anew for each seed.

Usage: python benchmarks/view_accuracy.py DIRECTORY... [--models NAME...] [--shots 1 5 25] [--seeds 10]
[--views 1 2 4 6] [--store DIRECTORY] [--jobs N] [--out FILE.jsonl]
DIRECTORY holds train/CLASS/IMAGE and test/CLASS/IMAGE.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from heads import Cell, as_blocks, load
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from frofa.estimators import ShrinkageProbeClassifier
from frofa.evaluation import sample_shots


def measure(cell: Cell, shots: int, seed: int, views: list[int]) -> list[list[float]]:
    """Accuracies by views of the support sample, and in these by views at prediction."""
    chosen = sample_shots(cell.train_labels, shots, seed)
    support = {name: block[chosen] for name, block in cell.train.items()}
    rows = []
    with threadpool_limits(1):
        torch.set_num_threads(1)
        for of_support in views:
            head = ShrinkageProbeClassifier(device="cpu").fit(as_blocks(support, of_support), cell.train_labels[chosen])
            predicted = [head.predict(as_blocks(cell.test, of_queries)) for of_queries in views]
            rows.append([100 * float(np.mean(labels == cell.test_labels)) for labels in predicted])
    return rows


def show(model: str, shots: int, views: list[int], means: Any) -> None:
    """Print a Markdown table: views of the support samples down, views at prediction across."""
    print(f"\n{model}, {shots} shots\n\n| support views | {' | '.join(f'predict {n}' for n in views)} |")
    print("| --- |" + " --- |" * len(views))
    for of_support, row in zip(views, means, strict=True):
        print(f"| {of_support} | {' | '.join(f'{mean:.1f}' for mean in row)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directories", type=Path, nargs="+")
    parser.add_argument("--models", nargs="+", default=["frofa/vit_tiny_tin200"])
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5, 25])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--views", type=int, nargs="+", default=[1, 2, 4, 6])
    parser.add_argument("--store", type=Path, help="directory that features are kept in")
    parser.add_argument("--jobs", type=int, default=-1, help="processes; -1 is one a core")
    parser.add_argument("--out", type=Path, help="write all numbers there, a line of JSON a model and number of shots")
    args = parser.parse_args()
    lines = []
    for model in args.models:
        cells = [load(directory, model, max(args.views), args.store) for directory in args.directories]
        for shots in args.shots:
            runs = [(cell, shots, seed) for cell in cells for seed in range(args.seeds)]
            # (sets, seeds, views of the support sample, views at prediction)
            found = np.array(Parallel(args.jobs)(delayed(measure)(*run, args.views) for run in runs)).reshape(
                len(cells), args.seeds, len(args.views), len(args.views)
            )
            show(cells[0].model, shots, args.views, found.mean((0, 1)))
            by_set = {cell.data: of_set.mean(0).round(3).tolist() for cell, of_set in zip(cells, found, strict=True)}
            lines.append(json.dumps({"model": cells[0].model, "shots": shots, "views": args.views, "accuracy": by_set}))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
