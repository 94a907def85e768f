"""What `output="auto"` takes, against each of its blocks alone: a probe that needs no tuning, over seeds.

All images are of the train split: some give the support samples (drawn anew for each seed), up to 1,500 others are
classified. It shows what the mean of the tokens adds to a pooled vector that is no mean, and that it adds nothing to
one that is.

Usage: python benchmarks/outputs.py DIRECTORY... [--models NAME...] [--shots 5 25] [--seeds 5] [--store STORE]
Each DIRECTORY holds train/CLASS/IMAGE.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import frofa
from frofa.estimators import ShrinkageProbeClassifier
from frofa.evaluation import sample_shots

CHOICES = (("pooled",), ("mean",), ("pooled", "mean"))
MOST = 1500
"""Images that are classified for each seed."""


def accuracies(blocks: frofa.FeatureBlocks, labels: Any, shots: int, seeds: int) -> list[float]:
    """Top-1 accuracy in percent, one a seed."""
    found = []
    for seed in range(seeds):
        support = sample_shots(labels, shots, seed)
        others = np.setdiff1d(np.arange(len(labels)), support)
        if len(others) > MOST:
            others = np.random.default_rng(seed).choice(others, MOST, replace=False)
        probe = ShrinkageProbeClassifier().fit(blocks[support], labels[support])
        found.append(100 * float(np.mean(probe.predict(blocks[others]) == labels[others])))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directories", type=Path, nargs="+")
    parser.add_argument("--models", nargs="+", default=["frofa/vit_tiny_tin200"])
    parser.add_argument("--shots", type=int, nargs="+", default=[5, 25])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--store", type=Path, help="keep features there (default: nowhere)")
    parser.add_argument("--out", type=Path, help="write all numbers there, as JSON")
    args = parser.parse_args()
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for model in args.models:
            extractor = frofa.FrozenFeatureExtractor(model, output="auto", store=args.store or scratch, verbose=True)
            auto = list(extractor.feature_spec())
            print(f"{Path(model).name}: auto takes {' and '.join(auto)}")
            for directory in args.directories:
                paths, labels = frofa.load_image_folder(directory / "train")
                # In memory, as rows are drawn many times: blocks of plain images (n, C).
                lazy = extractor.set_params(output=["pooled", "mean"]).transform(paths)
                blocks = frofa.FeatureBlocks({name: [np.asarray(lazy.views(name)[0])] for name in lazy.names})
                for shots in args.shots:
                    row: dict[str, Any] = {"model": Path(model).name, "set": directory.name, "shots": shots}
                    row |= {
                        "+".join(names): accuracies(blocks.select(names), labels, shots, args.seeds)
                        for names in CHOICES
                    }
                    results.append({**row, "auto": auto})
                    means = ", ".join(f"{'+'.join(names)} {np.mean(row['+'.join(names)]):.1f}" for names in CHOICES)
                    print(f"  {directory.name}, {shots} shots: {means}", flush=True)
    if args.out is not None:
        args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
