"""``frofa evaluate``: how good a saved model is on labelled images."""

import argparse
import json
from collections import Counter
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from frofa._version import __version__
from frofa.cli.console import emit, note, say, warn
from frofa.cli.evaluation import evaluation_lines, evaluation_of
from frofa.cli.model import Predictions, add_model_options, check_model, load_model, predict
from frofa.cli.options import EPILOG, EXIT_SKIPPED, Commands, add_shared, check_out, shorten
from frofa.cli.sources import LabelledImages, load_labelled_sources, report_skipped
from frofa.utils.files import write_atomically


def add(commands: Commands) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "evaluate",
        help="how good a trained model is on labelled images",
        description="Classify labelled images, and print the accuracy with its 95 % interval (Wilson's), the accuracy "
        "of each class, log-loss, expected calibration error and a confusion table. Images with labels that the model "
        "does not know are counted, and left out of all numbers. Whether images are among those that the model was "
        "trained on is not checked.",
        epilog=EPILOG,
    )
    add_model_options(parser, _run)
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="file to write all of it to")
    add_shared(parser, "--skipped")


def _run(args: argparse.Namespace) -> int:
    check_model(args.model)
    check_out(args.out, suffix=".json")
    check_out(args.skipped, "--skipped", suffix=".csv")
    images = load_labelled_sources(args)
    model = load_model(args)
    if not hasattr(model, "predict_proba"):
        raise ValueError(f"the head of {args.model}, a {type(model[-1]).__name__}, has no probabilities to evaluate.")
    found = predict(model, images.items, fail_fast=args.fail_fast)
    report_skipped(found.skipped, len(images.items), args.skipped)
    if not found.kept:
        raise ValueError(f"none of the {len(images.items)} images could be read.")
    # `kept` are positions among the images, `known` a mask over those: both narrow labels and predictions alike.
    known, unknown = _known(images, found, model.classes_)
    evaluation = evaluation_of(images.labels[found.kept][known], found.table()[known], model.classes_)
    evaluation |= {
        "n_skipped": len(found.skipped),
        "n_unlabelled": images.n_unlabelled,
        "unknown_labels": unknown,
        "sources": args.sources,
        "model": _identity(args.model, model),
        "versions": _versions(),
    }
    # Written before it is printed: a closed standard output costs no evaluation.
    if args.out is not None:
        data = json.dumps(evaluation, indent=1, allow_nan=False).encode()
        write_atomically(args.out, lambda file: file.write(data + b"\n"))
    emit("\n".join(evaluation_lines(evaluation)))
    if args.out is not None:
        say(f"all of it: {args.out}")
    return EXIT_SKIPPED if found.skipped else 0


def _known(images: LabelledImages, found: Predictions, classes: Any) -> tuple[Any, dict[str, int]]:
    """Tell the predictions with a label that the model knows, and count the images of each label that it does not."""
    from frofa.evaluation import label_positions
    from frofa.images.listing import count

    labels = images.labels[found.kept]
    known = label_positions(labels, classes) >= 0
    unknown = dict(Counter(str(label) for label in labels[~known].tolist()))
    if not known.any():
        raise ValueError(
            f"no image has a label that the model knows. It knows {shorten(set(classes.tolist()))}. "
            f"Got {shorten(set(unknown))}."
        )
    if unknown:
        left_out = f"{count(sum(unknown.values()), 'image')} of {count(len(unknown), 'label')}"
        warn(f"{left_out} that the model does not know left out: {shorten(set(unknown))}")
    if absent := set(classes.tolist()) - set(classes[label_positions(labels[known], classes)].tolist()):
        note(f"no image of {count(len(absent), 'class')} that the model knows: {shorten(absent)}")
    return known, unknown


def _identity(path: Path, model: Any) -> dict[str, Any]:
    """Identify the model that was evaluated: its file by digest, and the backbone by that of its weights."""
    from frofa.encoders.protocol import describe

    extractor = model[0]
    return {
        "file": str(path),
        "sha256": sha256(path.read_bytes()).hexdigest(),
        "backbone": extractor.model if isinstance(extractor.model, str) else describe(extractor.model),
        "weights_digest": getattr(extractor, "weights_digest_", None),
        "head": type(model[-1]).__name__,
    }


def _versions() -> dict[str, str]:
    names = ("scikit-learn", "numpy", "torch", "timm", "pillow")
    return {"frofa": __version__, **{name: version(name) for name in names}}
