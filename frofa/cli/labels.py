"""``frofa labels``: which images to label next, which labels are wrong, how many are enough; and other tools."""

import argparse
import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frofa.cli import exchange
from frofa.cli.console import emit, note, say, warn
from frofa.cli.features import extraction_parameters
from frofa.cli.options import EPILOG, EXIT_SKIPPED, EXTRACTION, Commands, add_shared, check_out, finish, positive, seed
from frofa.cli.sources import add_source_options, csv_bytes, load_labelled_sources, load_sources, report_skipped
from frofa.exceptions import ImageReadError, SkippedImagesWarning
from frofa.utils.files import write_atomically

if TYPE_CHECKING:
    from frofa.image_classifier import ImageClassifier
    from frofa.images.image_set import ImageSet
    from frofa.labelling import LabelIssues

STRATEGIES = ("auto", "coverage", "uncertainty", "margin", "entropy", "random")
WITHOUT_SKIPPED = tuple(name for name in EXTRACTION if name != "--skipped")
SUFFIXES = (".csv", ".json")


def add(commands: Commands) -> None:
    """Add the sub-command with its own sub-commands."""
    parser = commands.add_parser(
        "labels",
        help="which images to label next, which labels are wrong, how many are enough; labels of other tools",
        epilog=EPILOG,
    )
    actions = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_next(actions)
    _add_wrong(actions)
    _add_enough(actions)
    exchange.add(actions)


def _add_next(actions: Commands) -> None:
    parser = actions.add_parser(
        "next",
        help="which images to label next",
        description="Suggest the images from which a classifier learns most, the best first, one path a line. What has "
        "labels is DIRECTORY/CLASS/IMAGE; what can be labelled are the images that lie in DIRECTORY itself, rows of a "
        "table without a label, and those of --pool, whatever directories they lie in. Labels are not needed: without "
        "any, the images are suggested that stand for most others.",
        epilog=EPILOG,
    )
    add_source_options(parser)
    parser.add_argument("--pool", nargs="+", default=[], metavar="SOURCE", help="images that can be labelled")
    parser.add_argument("-n", type=positive, default=10, metavar="N", help="images to suggest (default: %(default)s)")
    parser.add_argument(
        "--strategy",
        choices=STRATEGIES,
        default="auto",
        help="auto: coverage, weighted by uncertainty where two classes are known (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="write rank and path (default: paths, printed)")
    _add_rest(parser, _next, WITHOUT_SKIPPED)


def _add_wrong(actions: Commands) -> None:
    parser = actions.add_parser(
        "wrong",
        help="which labels are wrong, which images are there twice, and which are like no others",
        description="Leave each image out and let the others say what it is; estimate how many labels are wrong, and "
        "list those that are more likely wrong than right, the worst first, with the label that is suggested; copies "
        "and near-copies, those of several labels and those in training and test images first; and outliers. Nothing "
        "is changed.",
        epilog=EPILOG,
    )
    add_source_options(parser)
    parser.add_argument("--test", nargs="+", default=[], metavar="SOURCE", help="test images, to look for leaks")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write all of it: .csv has a row for each image, the worst label first; .json has suspects, groups of "
        "copies and outliers",
    )
    _add_rest(parser, _wrong, EXTRACTION)


def _add_enough(actions: Commands) -> None:
    parser = actions.add_parser(
        "enough",
        help="how many labels are enough for an accuracy",
        description="Fit to parts of the labelled images, follow the accuracy, and say how many labels it takes to "
        "reach a target, with an interval; or that it cannot be said from these.",
        epilog=EPILOG,
    )
    add_source_options(parser)
    parser.add_argument(
        "--target", type=_share, default=0.9, metavar="SHARE", help="accuracy to reach (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="file to write all of it to")
    _add_rest(parser, _enough, WITHOUT_SKIPPED)


def _add_rest(parser: argparse.ArgumentParser, run: Any, shared: Iterable[str]) -> None:
    parser.add_argument(
        "--views", type=positive, default=6, metavar="N", help="views of each image (default: %(default)s)"
    )
    parser.add_argument(
        "--no-mirror", dest="mirror", action="store_false", help="take no mirror images as views, as for letters"
    )
    parser.add_argument("--seed", type=seed, default=0, help="of whatever is drawn (default: 0)")
    add_shared(parser, *shared)
    finish(parser, run)


def _share(text: str) -> float:
    """A share between 0 and 1; others are wrong usage."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, such as 0.9. Got {text!r}.")
    return value


def _next(args: argparse.Namespace) -> int:
    check_out(args.out, suffix=".csv")
    images, pool = _images_and_pool(args)
    classifier = _classifier(args)
    from frofa.labelling import suggest

    X, y = images
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        chosen = suggest(
            classifier,
            pool.items,
            X or None,
            y if X else None,
            batch_size=args.n,
            strategy=args.strategy,
            random_state=args.seed,
        )
    code = _say_warnings(caught)
    names = [pool.names[position] for position in chosen.tolist()]
    if len(names) < args.n:
        note(f"suggested {len(names)} of {args.n}: there are no more different images without a label")
    if args.out is None:
        emit("\n".join(names))
    else:
        data = csv_bytes([["rank", "path"], *enumerate(names, start=1)])
        write_atomically(args.out, lambda file: file.write(data))
        say(f"{args.out}: {len(names)} images to label next")
    return code


def _images_and_pool(args: argparse.Namespace) -> "tuple[tuple[list[Any], Any], ImageSet]":
    """Images with their labels, and the images that can be labelled, of which there must be some."""
    from frofa.images.image_set import image_set, join
    from frofa.images.sources import load_images

    images = load_sources(args, beside=True)
    labels = [""] * len(images.items) if images.labels is None else images.labels.tolist()
    labelled = [position for position, label in enumerate(labels) if label != ""]
    unlabelled = [images.items[position] for position, label in enumerate(labels) if label == ""]
    pool = join([image_set(unlabelled), *(load_images(source, labels=False) for source in args.pool)])
    for left_out in pool.notes:
        note(left_out)
    if not pool.items:
        raise ValueError(
            f"found no image without a label in {', '.join(args.sources)}: give those that can be labelled by --pool, "
            "or put them into DIRECTORY, beside the directories of the classes."
        )
    note(f"{len(labelled)} images have labels, {len(pool.items)} can be labelled")
    given = images.labels[labelled] if images.labels is not None else None
    return ([images.items[position] for position in labelled], given), pool


def _wrong(args: argparse.Namespace) -> int:
    check_out(args.out)
    if args.out is not None and args.out.suffix not in SUFFIXES:
        raise ValueError(f"--out must end in {' or '.join(SUFFIXES)}. Got {args.out}.")
    check_out(args.skipped, "--skipped", suffix=".csv")
    images = load_labelled_sources(args)
    test = _test_images(args)
    classifier = _classifier(args)
    from frofa.labelling import label_issues

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "skipped ", SkippedImagesWarning)  # the summary says more
            found = label_issues(
                classifier,
                images.items,
                images.labels,
                X_test=None if test is None else test.items,
                y_test=None if test is None else test.labels,
                random_state=args.seed,
            )
    except ImageReadError as error:
        if args.fail_fast:
            raise
        raise ValueError(f"none of the images could be read; the first: {error}") from error
    # Written before it is printed: a closed standard output costs no search.
    if args.out is not None:
        data = _table(found) if args.out.suffix == ".csv" else _json(found.to_dict())
        write_atomically(args.out, lambda file: file.write(data))
    emit(str(found))
    if args.out is not None:
        say(f"all of it: {args.out}")
    report_skipped(found.skipped, len(images.items) + (0 if test is None else len(test.items)), args.skipped)
    return EXIT_SKIPPED if found.skipped else 0


def _test_images(args: argparse.Namespace) -> "ImageSet | None":
    if not args.test:
        return None
    from frofa.images.image_set import join
    from frofa.images.sources import load_images

    test = join([load_images(source) for source in args.test])
    for left_out in test.notes:
        note(left_out)
    if not test.items:
        raise ValueError(f"found no image in {', '.join(args.test)}.")
    return test


def _table(found: "LabelIssues") -> bytes:
    """A CSV file with a row for each image, the worst label first; columns are empty where nothing is known."""
    rows = found.rows()
    return csv_bytes([list(rows[0]), *(["" if value is None else value for value in row.values()] for row in rows)])


def _enough(args: argparse.Namespace) -> int:
    check_out(args.out, suffix=".json")
    images = load_labelled_sources(args)
    classifier = _classifier(args)
    from frofa.learning_curves import how_many_labels

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        needed = how_many_labels(classifier, images.items, images.labels, target=args.target, random_state=args.seed)
    code = _say_warnings(caught)
    if args.out is not None:
        data = _json(needed.to_dict())
        write_atomically(args.out, lambda file: file.write(data))
    emit(str(needed))
    if args.out is not None:
        say(f"all of it: {args.out}")
    return code


def _classifier(args: argparse.Namespace) -> "ImageClassifier":
    parameters = extraction_parameters(args)
    from frofa.image_classifier import ImageClassifier

    return ImageClassifier(**parameters, n_views=args.views, mirror=args.mirror, random_state=args.seed)


def _say_warnings(caught: "list[warnings.WarningMessage]") -> int:
    """Say each warning once, and return the exit code, which tells whether images were skipped."""
    for text in dict.fromkeys(str(one.message) for one in caught):
        warn(text)
    return EXIT_SKIPPED if any(issubclass(one.category, SkippedImagesWarning) for one in caught) else 0


def _json(found: dict[str, Any]) -> bytes:
    return json.dumps(found, indent=1, allow_nan=False).encode() + b"\n"
