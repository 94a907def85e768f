"""Planted near-copies of test images found, and false alarms: re-encoded, made smaller, cropped and mirrored ones.

Copies are made of test images, as the threshold was chosen on training images of one set by one backbone. Run as
``python benchmarks/near_copies.py SETS... --backbones NAMES... --views 2 --store DIR``; a second call with
other backbones adds to the file.
"""

import argparse
import io
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from image_cells import MOST_TEST, add_options, load
from PIL import Image, ImageOps

import frofa
from frofa import FeatureBlocks, FrozenFeatureExtractor, label_issues
from frofa.estimators import PrototypeClassifier

RESULTS = Path(__file__).parent / "results" / "confidence_near_copies.json"
MARGIN = 0.05
"""Part of each side that a cropped copy has lost."""
KINDS = ("re-encoded", "smaller", "cropped", "mirrored")


def altered(image: Image.Image, kind: str) -> Image.Image:
    """Alter an image: JPEG of quality 75, 3/4 of its size, 9/10 of each side, or mirrored."""
    width, height = image.size
    if kind == "re-encoded":
        file = io.BytesIO()
        image.save(file, "JPEG", quality=75)
        return Image.open(file).convert("RGB")
    if kind == "smaller":
        return image.resize((max(1, width * 3 // 4), max(1, height * 3 // 4)), Image.Resampling.BICUBIC)
    if kind == "cropped":
        dx, dy = max(1, round(MARGIN * width)), max(1, round(MARGIN * height))
        return image.crop((dx, dy, width - dx, height - dy))
    return ImageOps.mirror(image)


def measure(directory: Path, backbone: str, views: int, store: Path | None, n_copies: int) -> dict[str, Any]:
    """Plant so many copies of each kind, each of another image, and look for them."""
    cell = load(directory, backbone, views, store)
    paths, labels = frofa.load_image_folder(directory / "test")
    labels = np.asarray(labels)
    shown = np.concatenate([np.flatnonzero(labels == label)[:MOST_TEST] for label in np.unique(labels)])
    sources = np.random.default_rng(0).permutation(len(shown))[: n_copies * len(KINDS)]
    kinds = np.tile(KINDS, n_copies)
    copies = [
        altered(Image.open(paths[shown[source]]).convert("RGB"), kind)
        for source, kind in zip(sources, kinds, strict=True)
    ]
    extractor = FrozenFeatureExtractor(
        backbone, output="auto", n_views=views, dtype="float16", precision="float32", device="cpu"
    )
    features = extractor.fit_transform(copies)
    if not isinstance(features, FeatureBlocks):
        features = FeatureBlocks({"pooled": [features]})
    planted = FeatureBlocks(
        {name: list(np.asarray(features.block(name), np.float32).swapaxes(0, 1)) for name in features.names}
    )
    found = label_issues(PrototypeClassifier(), cell.test, cell.test_labels, X_test=planted, n_rounds=0, outliers=False)
    pairs = {(i, j) for group in found.duplicates for i in group.train for j in group.test}
    hits = np.array([(source, copy) in pairs for copy, source in enumerate(sources.tolist())])
    # Groups of which originals are copies of each other, or of a copy that is not theirs.
    alone = [group.train for group in found.duplicates if len(group.train) > 1]
    wrong = [pair for pair in pairs if sources[pair[1]] != pair[0]]
    return {
        "set": cell.data,
        "backbone": cell.backbone,
        "images": len(shown),
        "copies of each kind": n_copies,
        "found": {kind: float(hits[kinds == kind].mean()) for kind in KINDS},
        "groups of originals": [
            [Path(paths[shown[i]]).parent.name + "/" + Path(paths[shown[i]]).name for i in one] for one in alone
        ],
        "copies with another image": len({copy for _, copy in wrong}),
    }


def main() -> None:
    """Run all cells, and print the shares that were found."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    parser.add_argument("--copies", type=int, default=15, help="copies of each kind (15)")
    args = parser.parse_args()
    shortened = [one if one.startswith("--") or "/" not in one else Path(one).name for one in sys.argv[1:]]
    for backbone in args.backbones:
        for directory in args.sets:
            row = measure(directory, backbone, args.views, args.store, args.copies)
            known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"commands": [], "rows": []}
            others = [one for one in known["rows"] if (one["set"], one["backbone"]) != (row["set"], row["backbone"])]
            command = " ".join(["python benchmarks/near_copies.py", *shortened])
            known = {"commands": sorted({*known["commands"], command}), "rows": [*others, row]}
            known["versions"] = {name: version(name) for name in ("frofa", "Pillow", "numpy", "torch")}
            RESULTS.write_text(json.dumps(known, indent=1) + "\n")
            shares = ", ".join(f"{kind} {share:.0%}" for kind, share in row["found"].items())
            print(
                row["set"], row["backbone"], shares, len(row["groups of originals"]), row["copies with another image"]
            )


if __name__ == "__main__":
    main()
