"""``frofa extract``: from images to features on disk."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from frofa.cli.console import fail, say
from frofa.cli.features import extract, make_extractor
from frofa.cli.options import (
    EPILOG,
    EXIT_ERROR,
    EXIT_SKIPPED,
    EXTRACTION,
    PRECISIONS,
    Commands,
    add_shared,
    check_out,
    finish,
    positive,
    sparsity,
)
from frofa.cli.sources import add_source_options, load_sources, report_skipped
from frofa.utils.files import write_atomically
from frofa.utils.text import shorten

if TYPE_CHECKING:
    from frofa.extraction.extractor import FrozenFeatureExtractor
    from frofa.extraction.run import Extraction
    from frofa.images.image_set import ImageSet

OUTPUTS = ("tokens", "cls", "mean", "pooled", "projected", "auto")
Views: TypeAlias = "dict[str, tuple[Any, ...]]"
"""Features of each view of the images, by the name of the array that has them."""


def add(commands: Commands) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "extract",
        help="write the features of images to disk",
        description="Extract features of images into a store, and with --out to one .npz file with the arrays "
        "features, paths and, where there are any, labels. A killed run goes on where it stopped.",
        epilog=EPILOG,
    )
    add_source_options(parser)
    parser.add_argument("--out", type=Path, metavar="FILE.npz", help="file to write (default: fill the store only)")
    parser.add_argument(
        "--output",
        nargs="+",
        default=["pooled"],
        choices=OUTPUTS,
        help="one vector an image (cls, mean, pooled, or projected, which is compared with texts), or its patch "
        "tokens; or auto, what the model was trained by and the mean (see 'frofa doctor'); of several, the arrays are "
        "called features_NAME (default: pooled)",
    )
    parser.add_argument(
        "--layer",
        type=int,
        nargs="+",
        default=[None],
        help="transformer blocks, from 0, or from -1 for the last (default: last)",
    )
    parser.add_argument(
        "--views",
        type=positive,
        default=1,
        metavar="N",
        help="views of each image: itself, mirrored, and random crops, which arrays have as a second axis (default: 1)",
    )
    parser.add_argument(
        "--view-area",
        type=float,
        nargs=2,
        default=[0.5, 1.0],
        metavar=("LEAST", "MOST"),
        help="part of an image's area that a crop shows (default: 0.5 1)",
    )
    parser.add_argument("--no-mirror", dest="mirror", action="store_false", help="mirror no view")
    parser.add_argument("--no-norm", dest="norm", action="store_false", help="leave out the model's final norm")
    parser.add_argument(
        "--dtype", default="float32", choices=["float32", "float16", "bfloat16"], help="(default: %(default)s)"
    )
    parser.add_argument(
        "--precision",
        default="auto",
        choices=PRECISIONS,
        help="of the forward pass (default: float32 on a CPU, bfloat16 on a GPU)",
    )
    parser.add_argument(
        "--sparsity",
        type=sparsity,
        metavar="2:4|SHARE",
        help="prune the linear layers of a vision transformer, which costs accuracy and gives no speed; see 'frofa "
        "bench-backbone' (default: do not)",
    )
    add_shared(parser, *EXTRACTION)
    finish(parser, _run)


def _run(args: argparse.Namespace) -> int:
    check_out(args.out, suffix=".npz")
    check_out(args.skipped, "--skipped", suffix=".csv")
    images = load_sources(args)
    extractors = _make_extractors(args)
    # One pass over the images for all extractors: labels, skipped images and duplicates are the same in each of them.
    extractions = extract(extractors, images.items, images.labels, fail_fast=args.fail_fast)
    first, found = next(iter(extractions.values())), _views(extractions, extractors)
    if args.out is not None:
        _write(args.out, images, first, found)
    for name, views in found.items():
        n, *sizes = views[0].shape
        shape = " x ".join(str(size) for size in (n, *([len(views)] if args.views > 1 else []), *sizes))
        say(f"{args.out or args.store}: {name} {shape} {views[0].dtype}")
    _say_labels(first.y)
    n_computed = max(extraction.n_computed for extraction in extractions.values())
    say(
        f"{len(images.items)} in all: {n_computed} images computed now, "
        f"{max(0, len(first.kept) - first.n_duplicates - n_computed)} from the store, {first.n_duplicates} duplicates, "
        f"{len(first.skipped)} skipped"
    )
    report_skipped(first.skipped, len(images.items), args.skipped)
    # A store that cannot be written is a warning where --out has the features; else they are lost.
    if args.out is None and any(extraction.n_not_kept for extraction in extractions.values()):
        fail(f"{args.store} cannot be written, and there is no --out: nothing was kept")
        return EXIT_ERROR
    return EXIT_SKIPPED if first.skipped else 0


def _make_extractors(args: argparse.Namespace) -> "dict[str, FrozenFeatureExtractor]":
    """A fitted extractor for each output and layer, by the name of its array: a wrong one is known before the work."""
    outputs, layers = dict.fromkeys(args.output), dict.fromkeys(args.layer)
    options = {"norm": args.norm, "dtype": args.dtype, "precision": args.precision, "sparsity": args.sparsity}
    options |= {"n_views": args.views, "view_area": tuple(args.view_area), "mirror": args.mirror}
    # Names of arrays say what differs between them, and no more.
    made = {}
    for output in outputs:
        for layer in layers:
            name = "features"
            if len(outputs) * len(layers) > 1:
                name += f"_{output}" + (f"_layer{layer}" if len(layers) > 1 else "")
            made[name] = make_extractor(args, output, layer=layer, **options).fit()
    return made


def _views(extractions: "dict[str, Extraction]", extractors: "dict[str, FrozenFeatureExtractor]") -> Views:
    """The features of each array, view by view; what ``auto`` stands for has arrays of its own."""
    from frofa.blocks import FeatureBlocks

    found: Views = {}
    for name, extraction in extractions.items():
        features = extraction.features
        if not isinstance(features, FeatureBlocks):
            found[name] = (features,)
            continue
        is_auto = extractors[name].output == "auto"
        found |= {f"features_{block}" if is_auto else name: features.views(block) for block in features.names}
    return found


def _write(out: Path, images: "ImageSet", first: "Extraction", found: Views) -> None:
    import numpy as np

    # Of one view, arrays are (n, ...); of several, (n, n_views, ...).
    arrays: dict[str, Any] = {
        name: np.asarray(views[0]) if len(views) == 1 else np.stack([np.asarray(view) for view in views], axis=1)
        for name, views in found.items()
    }
    arrays["paths"] = np.array(images.names)[first.kept]
    if first.y is not None:
        arrays["labels"] = first.y
    write_atomically(out, lambda file: np.savez(file, **arrays))


def _say_labels(labels: Any) -> None:
    from frofa.images.listing import count

    if labels is None:
        return
    classes = set(labels.tolist()) - {""}
    n_unlabelled = int((labels == "").sum()) if labels.dtype.kind == "U" else 0
    gaps = f"; {n_unlabelled} without a label" if n_unlabelled else ""
    say(f"{count(len(classes), 'class')}: {shorten(classes)}{gaps}")
