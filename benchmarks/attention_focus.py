"""How unevenly attention heads look at images, with few images to learn from.

Heads are trained on the first support sample of the training images, and look at test images. Printed, and written as
JSON, are for each head the accuracy on these, and for each of its maps the mean over the images of its largest weight,
in units of the mean weight: 1 is an even look at all patches.

Usage: python benchmarks/attention_focus.py DIRECTORY... --backbones NAME... [--shots 12] [--out FILE.json]
DIRECTORY holds train/CLASS/IMAGE and test/CLASS/IMAGE. The numbers of docs/attention.md are in
results/attention_focus.json.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from frofa import FrozenFeatureExtractor, PretrainedHead, load_image_folder, sample_shots
from frofa.augmentations import Brightness
from frofa.estimators import MAPClassifier, SoftMoEClassifier
from frofa.pretrained import start_of


def heads_for(backbone: str) -> dict[str, Any]:
    """Make the heads, of which one starts at the backbone's own pooling or last block, if there is such a one."""
    shared: dict[str, Any] = {"random_state": 0, "novelty": None}
    heads: dict[str, Any] = {
        "MAP, 300 steps": MAPClassifier(None, **shared),
        "MAP, brightness c2 0.3, 1000 steps": MAPClassifier(Brightness(0.3, "c2"), n_steps=1000, **shared),
        "soft MoE, 300 steps": SoftMoEClassifier(None, **shared),
    }
    start = start_of(backbone)
    if isinstance(start, PretrainedHead):
        heads["MAP of the backbone, 300 steps"] = MAPClassifier(None, init=start, **shared)
    return heads


def measure(directory: Path, backbone: str, shots: int, n_test: int) -> list[dict[str, Any]]:
    """Train and look, on one set with one backbone."""
    extractor = FrozenFeatureExtractor(backbone, output="tokens", max_tokens=121 if "naflex" in backbone else None)
    paths, labels = load_image_folder(directory / "train")
    rows = sample_shots(labels, shots, random_state=0)
    X, y = extractor.transform([paths[i] for i in rows]), np.asarray(labels)[rows]
    paths, labels = load_image_folder(directory / "test")
    rows = sample_shots(labels, n_test, random_state=0)
    X_test, y_test = extractor.transform([paths[i] for i in rows]), np.asarray(labels)[rows]
    found = []
    for name, head in heads_for(backbone).items():
        head.fit(X, y)
        largest = np.mean([weights.max(1) * weights.shape[1] for weights in head.attention(X_test)], axis=0)
        accuracy = head.score(X_test, y_test)
        found.append(
            {
                "set": directory.name,
                "backbone": Path(backbone).name,
                "head": name,
                "accuracy": round(float(accuracy), 4),
                "largest": [round(float(one), 2) for one in largest],
            }
        )
        print(f"{directory.name}, {Path(backbone).name}, {name}: {100 * accuracy:.1f} %, largest {largest.round(2)}")
    return found


def main() -> None:
    """Measure all sets and backbones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--backbones", nargs="+", required=True)
    parser.add_argument("--shots", type=int, default=12, help="images a class to train on (12)")
    parser.add_argument("--n-test", type=int, default=10, help="images a class to look at (10)")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    found = [
        one
        for directory in args.sets
        for backbone in args.backbones
        for one in measure(directory, backbone, args.shots, args.n_test)
    ]
    if args.out:
        args.out.write_text(json.dumps({"shots": args.shots, "n_test": args.n_test, "heads": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
