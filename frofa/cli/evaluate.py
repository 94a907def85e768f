"""``frofa evaluate``: how good a saved model is on labelled images."""

import argparse
import json
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frofa.cli.console import emit, note, say, warn
from frofa.cli.model import SavedModel, add_model_options, check_model, load_model, predict
from frofa.cli.options import EPILOG, EXIT_SKIPPED, Commands, add_shared, check_out
from frofa.cli.sources import load_labelled_sources, report_skipped
from frofa.utils.files import write_atomically
from frofa.utils.text import shorten
from frofa.utils.versions import versions

if TYPE_CHECKING:
    from frofa.image_classifier.report import EvaluationReport


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
    from frofa.image_classifier.report import evaluation_report

    model = load_model(args)
    if not model.has_probabilities:
        raise ValueError(f"the head of {args.model}, a {model.name}, has no probabilities to evaluate.")
    found = predict(model, images.items, fail_fast=args.fail_fast)
    report_skipped(found.skipped, len(images.items), args.skipped)
    if not found.kept:
        raise ValueError(f"none of the {len(images.items)} images could be read.")
    report = evaluation_report(images.labels[found.kept], found.table(), model.classes, found.skipped)
    _note_classes(report)
    evaluation = report.to_dict() | {
        "n_unlabelled": images.n_unlabelled,
        "sources": args.sources,
        "model": _identity(args.model, model),
        "versions": versions(),
    }
    # Written before it is printed: a closed standard output costs no evaluation.
    if args.out is not None:
        data = json.dumps(evaluation, indent=1, allow_nan=False).encode()
        write_atomically(args.out, lambda file: file.write(data + b"\n"))
    emit(str(report))
    if args.out is not None:
        say(f"all of it: {args.out}")
    return EXIT_SKIPPED if found.skipped else 0


def _note_classes(report: "EvaluationReport") -> None:
    """Say which labels the model does not know, and which classes have no image."""
    from frofa.images.listing import count

    if unknown := report.unknown_labels:
        left_out = f"{count(sum(unknown.values()), 'image')} of {count(len(unknown), 'label')}"
        warn(f"{left_out} that the model does not know left out: {shorten(set(unknown))}")
    if absent := {label for label, share in report.class_accuracies.items() if share is None}:
        note(f"no image of {count(len(absent), 'class')} that the model knows: {shorten(absent)}")


def _identity(path: Path, model: SavedModel) -> dict[str, Any]:
    """Identify the model that was evaluated: its file by digest, and the backbone by that of its weights."""
    from frofa.encoders.protocol import describe

    return {
        "file": str(path),
        "sha256": sha256(path.read_bytes()).hexdigest(),
        "backbone": model.backbone if isinstance(model.backbone, str) else describe(model.backbone),
        "weights_digest": model.weights_digest,
        "head": model.name,
    }
