"""``frofa predict``: classify images with a saved model."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frofa.cli.console import complain, emit_data, say
from frofa.cli.model import Predictions, add_model_options, check_model, load_model, predict
from frofa.cli.options import EPILOG, EXIT_SKIPPED, Commands, check_out, level, share
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
    parser.add_argument(
        "--sets",
        type=level,
        metavar="LEVEL",
        help="add the column set, a list in JSON: labels of which one is right for this share of the images, such as "
        "0.9",
    )
    parser.add_argument(
        "--reject",
        type=share,
        metavar="SHARE",
        help="label images 'none of these' (-1, if labels are numbers) that are more novel than all but this share of "
        "those of the known classes, such as 0.05, and add the column novelty_p_value",
    )


def _run(args: argparse.Namespace) -> int:
    check_model(args.model)
    check_out(args.out)
    images = load_sources(args)
    model = load_model(args)
    if args.probabilities and not model.has_probabilities:
        raise ValueError(f"the head of {args.model}, a {model.name}, has no probabilities.")
    found = predict(model, images.items, fail_fast=args.fail_fast, reject=args.reject, level=args.sets)
    data = _table(images, found, model.classes, all_classes=args.probabilities)
    if args.out is not None:
        write_atomically(args.out, lambda file: file.write(data))
        say(f"{args.out}: {len(images.items)} images")
    else:
        emit_data(data)
    if found.novelty is not None:
        complain(_rejections(found, model.classes))
    if found.sets is not None:
        complain(_sizes(found.sets, args.sets))
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
    columns += ["set"] if found.sets is not None else []
    columns += ["novelty_p_value"] if found.novelty is not None else []
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
            if found.sets is not None:
                # A list in JSON, as labels may have any character in them.
                row["set"] = json.dumps(classes[found.sets[numbers[position]]].tolist(), ensure_ascii=False)
        rows.append([row.get(column, "") for column in columns])
    return csv_bytes(rows)


def _classified(found: Predictions, number: int, classes: Any) -> dict[str, object]:
    """The columns of a classified image, with the probability of each of the classes."""
    row: dict[str, object] = {"label": found.labels[number]}
    if found.probabilities is not None:
        probabilities = found.probabilities[number]
        row["probability"] = f"{probabilities.max():.4f}"
        row |= {f"probability_{label}": f"{value:.6f}" for label, value in zip(classes, probabilities, strict=False)}
    if found.novelty is not None:
        row["novelty_p_value"] = f"{found.novelty[number]:.4f}"
    return row


def _sizes(sets: Any, level: float) -> str:
    """Sentence on how large the sets are."""
    sizes = sets.sum(1)
    parts = f"{int((sizes == 1).sum())} of one, {int((sizes == 0).sum())} of none"
    return f"sets of {100 * level:g} % have {sizes.mean():.1f} labels on average; {parts}"


def _rejections(found: Predictions, classes: Any) -> str:
    """Sentence on how many images are none of the classes."""
    from frofa.evaluation import label_positions
    from frofa.images.listing import count

    return f"rejected {int((label_positions(found.labels, classes) < 0).sum())} of {count(len(found.kept), 'image')}"


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
    rejected = _rejected(predicted[known], n_right)
    return f"accuracy {_percent(n_right, n_known)} of {count(n_known, 'image')}{rejected}{others}"


def _rejected(predicted: Any, n_right: int) -> str:
    """Part of the sentence on rejected images, whose positions are -1; empty where there are none."""
    n_rejected = int((predicted < 0).sum())
    n_left = len(predicted) - n_rejected
    if not n_rejected:
        return ""
    rest = f"; {_percent(n_right, n_left)} of the others" if n_left else ""
    return f", of which {n_rejected} rejected (counted as wrong){rest}"


def _percent(n_hits: int, n: int) -> str:
    return f"{100 * n_hits / n:.1f} %"
