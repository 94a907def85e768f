"""``frofa report``: all about a saved model on labelled images, as a page."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from frofa.cli.console import note, say, warn
from frofa.cli.model import add_model_options, check_model, load_classifier
from frofa.cli.options import EPILOG, EXIT_SKIPPED, Commands, add_shared, check_out, level, seed, share, whole
from frofa.cli.sources import load_sources, report_skipped
from frofa.exceptions import ImageReadError
from frofa.utils.text import shorten

if TYPE_CHECKING:
    from frofa.images.image_set import ImageSet
    from frofa.reporting import Facts

MEGABYTE = 1_000_000


def add(commands: Commands) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "report",
        help="all about a trained model on labelled images, as a page for a browser",
        description="Classify labelled images, and write one HTML file that needs nothing else and loads nothing: "
        "accuracy with its interval and of each class, the confusion matrix with the images behind each cell, the "
        "worst and the least certain images with their prediction sets, calibration and rejection, the learning curve "
        "with how many labels are enough, labels that may be wrong, copies in training and test images, a map, what "
        "attention heads look at, what members and augmentation add, and what it takes to make it again.",
        epilog=EPILOG,
    )
    add_model_options(parser, _run)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.html", help="file to write")
    parser.add_argument(
        "--train",
        nargs="+",
        default=[],
        metavar="SOURCE",
        help="images that the model was trained on, for the learning curve, wrong labels and leaks (default: the "
        "features that the model keeps of them, if it keeps some)",
    )
    parser.add_argument("--title", help="title of the page (default: the model and numbers)")
    parser.add_argument(
        "--level", type=level, default=0.9, help="confidence level of sets and learning curve (default: %(default)s)"
    )
    parser.add_argument(
        "--target",
        type=share,
        metavar="SHARE",
        help="accuracy for which labels are counted (default: 0.9, or halfway from the present accuracy to 1)",
    )
    parser.add_argument(
        "--map",
        choices=["pca", "umap"],
        default="pca",
        help="what lays out the map; umap takes longer, and pip install 'frofa[umap]' (default: %(default)s)",
    )
    parser.add_argument(
        "--max-mb", type=whole(1, 1000), default=20, metavar="MB", help="size of the file at most (default: 20)"
    )
    parser.add_argument("--seed", type=seed, default=0, help="of whatever is drawn (default: 0)")
    add_shared(parser, "--skipped")


def _run(args: argparse.Namespace) -> int:
    check_model(args.model)
    check_out(args.out, suffix=".html")
    check_out(args.skipped, "--skipped", suffix=".csv")
    images, train = _labelled(load_sources(args), args.sources), _training_images(args)
    from frofa.reporting.assembly import Options
    from frofa.reporting.identity import of_file
    from frofa.reporting.reports import Report, facts_of

    command = {"command": shlex.join(["frofa", *args.arguments]), **of_file(args.model)}
    options = Options(args.title, args.level, args.target, args.map, command, verbose=True)
    classifier = load_classifier(args)
    try:
        facts = facts_of(
            classifier, images, train=train, options=options, random_state=args.seed, fail_fast=args.fail_fast
        )
    except ImageReadError as error:
        if args.fail_fast:
            raise
        raise ValueError(f"none of the images could be read; the first: {error}") from error
    Report(facts, args.max_mb * MEGABYTE).save(args.out)
    _summarise(args, facts)
    skipped = facts.evaluation.skipped
    report_skipped(skipped, len(images.items), args.skipped)
    return EXIT_SKIPPED if skipped else 0


def _labelled(images: "ImageSet", sources: list[str]) -> "ImageSet":
    """Refuse images none of which has a label."""
    if images.labels is None:
        raise ValueError(
            f"found no labels in {', '.join(sources)}: expected DIRECTORY/CLASS/IMAGE, an archive laid out so, or a "
            "CSV file with a column of labels (--label-column)."
        )
    return images


def _training_images(args: argparse.Namespace) -> "ImageSet | None":
    if not args.train:
        return None
    from frofa.images.image_set import join
    from frofa.images.sources import load_images

    columns = {"path_column": args.path_column, "label_column": args.label_column}
    train = join([load_images(source, **columns, every=args.every) for source in args.train])
    for left_out in train.notes:
        note(left_out)
    if not train.items:
        raise ValueError(f"found no image in {', '.join(args.train)}.")
    return _labelled(train, args.train)


def _summarise(args: argparse.Namespace, facts: "Facts") -> None:
    from frofa.image_classifier.report import percent
    from frofa.images.listing import count

    if unknown := facts.evaluation.unknown_labels:
        left_out = f"{count(sum(unknown.values()), 'image')} of {count(len(unknown), 'label')}"
        warn(f"{left_out} that the model does not know left out: {shorten(set(unknown))}")
    if facts.n_unlabelled:
        note(f"{count(facts.n_unlabelled, 'image')} without a label left out")
    found = [f"accuracy {percent(facts.evaluation.accuracy)} of {count(len(facts.names), 'image')}"]
    found += [f"{count(len(facts.wrong), 'label')} to look at"] if facts.wrong else []
    leaks = [leak for leak in facts.leaks if leak.is_leak]
    leaked = {copy.index for leak in leaks for copy in leak.copies if copy.where == "test"}
    which = "among the training images too" if all(leak.exact for leak in leaks) else "nearly the same as in training"
    found += [f"{count(len(leaked), 'image')} {which}"] if leaked else []
    say(f"{args.out}: {', '.join(found)}")
