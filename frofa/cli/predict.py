"""``frofa predict``: classify images with a saved model."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frofa.cli.console import complain, emit_data, say
from frofa.cli.model import Predictions, add_model_options, check_model, load_model, predict
from frofa.cli.options import EPILOG, EXIT_SKIPPED, Commands, check_out
from frofa.cli.sources import csv_bytes, load_sources, report_skipped
from frofa.utils.files import write_atomically

if TYPE_CHECKING:
    from frofa.images.image_set import ImageSet


def add(commands: Commands) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "predict",
        help="classify images with a trained model",
        description="Classify images, and write a row for each of them as CSV in UTF-8: path, label, probability, and "
        "error, which says why an image could not be read; true_label, where the images have labels. Names of files "
        "keep their bytes.",
        epilog=EPILOG,
    )
    add_model_options(parser, _run)
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="file to write (default: standard output)")
    parser.add_argument(
        "--probabilities", action="store_true", help="add the probability of each class, as probability_CLASS"
    )


def _run(args: argparse.Namespace) -> int:
    check_model(args.model)
    check_out(args.out)
    images = load_sources(args)
    model = load_model(args)
    if args.probabilities and not model.has_probabilities:
        raise ValueError(f"the head of {args.model}, a {model.name}, has no probabilities.")
    found = predict(model, images.items, fail_fast=args.fail_fast)
    data = _table(images, found, model.classes, all_classes=args.probabilities)
    if args.out is not None:
        write_atomically(args.out, lambda file: file.write(data))
        say(f"{args.out}: {len(images.items)} images")
    else:
        emit_data(data)
    report_skipped(found.skipped, len(images.items), all_of_them="the column 'error' has them all")
    # The table is written even so: it says of each image why it could not be read.
    if not found.kept:
        raise ValueError(f"none of the {len(images.items)} images could be read.")
    if images.labels is not None:
        complain(_accuracy(found, images.labels, model.classes))
    return EXIT_SKIPPED if found.skipped else 0


def _table(images: "ImageSet", found: Predictions, classes: Any, *, all_classes: bool) -> bytes:
    """A CSV file with a row for each image, in the order of the input."""
    columns = ["path", "label", "probability", "error"]
    columns += ["true_label"] if images.labels is not None else []
    columns += [f"probability_{label}" for label in classes] if all_classes else []
    # Predictions are there for the images that could be read alone: a row's prediction by its position in the input.
    numbers = {position: number for number, position in enumerate(found.kept)}
    reasons = {error.position: error.reason for error in found.skipped}
    rows: list[list[object]] = [list(columns)]
    for position, name in enumerate(images.names):
        row: dict[str, object] = {"path": name, "error": reasons.get(position, "")}
        if images.labels is not None:
            row["true_label"] = images.labels[position]
        if position in numbers:
            row |= _classified(found, numbers[position], classes if all_classes else ())
        rows.append([row.get(column, "") for column in columns])
    return csv_bytes(rows)


def _classified(found: Predictions, number: int, classes: Any) -> dict[str, object]:
    """The columns of a classified image, with the probability of each of the classes."""
    row: dict[str, object] = {"label": found.labels[number]}
    if found.probabilities is not None:
        probabilities = found.probabilities[number]
        row["probability"] = f"{probabilities.max():.4f}"
        row |= {f"probability_{label}": f"{value:.6f}" for label, value in zip(classes, probabilities, strict=False)}
    return row


def _accuracy(found: Predictions, labels: Any, classes: Any) -> str:
    """Sentence on the accuracy over the images with a label that the model knows."""
    from frofa.evaluation import label_positions
    from frofa.images.listing import count

    truth, predicted = label_positions(labels[found.kept], classes), label_positions(found.labels, classes)
    known = truth >= 0
    # Both are positions among the classes, -1 for a label that the model does not know.
    n_known, n_right = int(known.sum()), int((truth == predicted)[known].sum())
    unknown = len(truth) - n_known
    others = f"; {count(unknown, 'image')} without a label that the model knows" if unknown else ""
    if not n_known:
        return f"no accuracy{others}"
    return f"accuracy {100 * n_right / n_known:.1f} % of {count(n_known, 'image')}{others}"
