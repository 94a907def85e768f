"""``frofa fit``: from labelled images to a classifier."""

import argparse
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frofa.cli.console import note, say, warn
from frofa.cli.features import extraction_parameters
from frofa.cli.heads import HEADS, fit_one_head, no_estimate
from frofa.cli.options import (
    EPILOG,
    EXIT_SKIPPED,
    EXTRACTION,
    Commands,
    add_shared,
    check_out,
    finish,
    positive,
    seed,
    whole,
)
from frofa.cli.sources import LabelledImages, add_source_options, load_labelled_sources, report_skipped
from frofa.cli.words import add_word_options, word_parameters
from frofa.exceptions import ImageReadError, SkippedImagesWarning
from frofa.utils.text import shorten

if TYPE_CHECKING:
    import numpy.typing as npt

    from frofa.image_classifier import ImageClassifier


def add(commands: Commands) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "fit",
        help="train a classifier on labelled images",
        description="Train a classifier on labelled images, with nothing to tune, and estimate its accuracy by leaving "
        "each image out in turn. It takes seconds for a hundred images, and is for 'frofa predict', 'frofa evaluate' "
        "and frofa.load.",
        epilog=EPILOG,
    )
    add_source_options(parser, optional=True)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="model to write, such as flowers.frofa")
    parser.add_argument(
        "--effort",
        choices=["fast", "high"],
        default="fast",
        help="fast: linear heads; high: attention heads with feature augmentation too, which takes minutes on a CPU "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--views", type=positive, default=6, metavar="N", help="views of each image (default: %(default)s)"
    )
    parser.add_argument(
        "--no-mirror",
        dest="mirror",
        action="store_false",
        help="take no mirror images as views: for images in which left and right have a meaning, such as letters",
    )
    parser.add_argument("--shots", type=positive, help="use only so many images a class, chosen at random")
    parser.add_argument("--seed", type=seed, default=0, help="of the choice of shots, folds and heads (default: 0)")
    parser.add_argument(
        "--head",
        choices=HEADS,
        help="train this head alone, on one kind of features of the plain images, and cross-validate its "
        "hyperparameters; --effort and --views are not used",
    )
    parser.add_argument("--cv", type=whole(2), default=5, help="folds at most for --head (default: %(default)s)")
    parser.add_argument(
        "--allow-part-names",
        action="store_true",
        help="take folders called train, test, ... for classes, which is an error otherwise",
    )
    add_word_options(parser)
    add_shared(parser, *EXTRACTION)
    finish(parser, _run)


def _run(args: argparse.Namespace) -> int:
    from frofa.encoders.registered import refuse_unavailable

    check_out(args.out)
    check_out(args.skipped, "--skipped", suffix=".csv")
    refuse_unavailable(args.model)
    words = word_parameters(args)
    if args.head and words:
        raise ValueError("--prior text goes with the default classifier, and not with --head.")
    if not args.sources:
        return _fit_to_words(args, words)
    images = _load(args)
    # Shots are drawn among the images that can be read, so that each class has as many as were asked for.
    unreadable: list[ImageReadError] = []
    if args.shots is not None:
        images, unreadable = _sample_readable(images, args)
    fit = fit_one_head if args.head else _fit
    skipped = [*unreadable, *fit(args, images)]
    report_skipped(skipped, len(images.items) + len(unreadable), args.skipped)
    return EXIT_SKIPPED if skipped else 0


def _load(args: argparse.Namespace) -> LabelledImages:
    """Labelled images of two classes at least, which are not the parts of a data set."""
    from frofa.images.listing import are_parts

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the classes are .* parts of a data set")  # an error here
        images = load_labelled_sources(args)
    names = set(images.labels.tolist())
    places = ", ".join(args.sources)
    if len(names) < 2:
        raise ValueError(f"a classifier takes two classes at least; {places} has one, {shorten(names)}.")
    if are_parts(map(str, names)) and not args.allow_part_names:
        raise ValueError(
            f"the classes of {places} are {shorten(names)}, which look like the parts of a data set: give the folder "
            "of one of them, or --allow-part-names to train on these."
        )
    return images


def _fit_to_words(args: argparse.Namespace, words: "Mapping[str, Any]") -> int:
    """Save a classifier by the words for the classes alone."""
    from frofa.images.listing import count

    if not words or words["class_names"] is None:
        raise ValueError("fit needs a SOURCE of images; or --prior text and --class-names, which need none.")
    model = _classifier(args, words).fit()
    model.set_params(verbose=False, rehash=False).save(args.out)
    say(
        f"{args.out}: {count(args.views, 'view')} on {args.text_model or args.model}, no images, "
        f"{count(len(model.classes_), 'class')}: {shorten(model.classes_.tolist())}"
    )
    return 0


def _classifier(args: argparse.Namespace, words: "Mapping[str, Any]") -> "ImageClassifier":
    from frofa.image_classifier import ImageClassifier

    return ImageClassifier(
        **extraction_parameters(args),
        n_views=args.views,
        mirror=args.mirror,
        effort=args.effort,
        random_state=args.seed,
        **words,
    )


def _fit(args: argparse.Namespace, images: LabelledImages) -> Sequence[ImageReadError]:
    """Fit and save the classifier, say how good it is, and return the images that were skipped."""
    model = _classifier(args, word_parameters(args, images.labels))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "skipped ", SkippedImagesWarning)  # the summary says more
            model.fit(images.items, images.labels)
    except ImageReadError as error:
        if args.fail_fast:
            raise
        raise ValueError(f"none of the {len(images.items)} images could be read; the first: {error}") from error
    # Progress bars are for this run: a saved model shows none unless it is asked to.
    model.head_.set_params(verbose=False)
    model.set_params(verbose=False, rehash=False).save(args.out)
    _describe(args, model, images.labels[model.kept_])
    return model.skipped_


def _describe(args: argparse.Namespace, model: "ImageClassifier", y: "npt.NDArray[Any]") -> None:
    from frofa.images.listing import count

    if model.n_copies_:
        note(f"taken together with what they repeat: {count(model.n_copies_, 'image')}")
    low, high = model.out_of_fold_interval_
    if low == low:
        accuracy = f"{100 * model.out_of_fold_accuracy_:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
        say(f"out-of-fold accuracy {accuracy}, log-loss {model.out_of_fold_log_loss_:.3f}")
    else:
        note(no_estimate(y))
    if args.effort == "high":
        _describe_members(model.head_.members_)
    views = count(args.views, "view")
    say(
        f"{args.out}: effort {args.effort}, {views} on {args.model}, {count(len(y), 'image')}, "
        f"{count(len(model.classes_), 'class')}: {shorten(model.classes_.tolist())}"
    )


def _describe_members(members: "Mapping[str, Any]") -> None:
    """Say of each member what it counts, how good it is alone, and why it was left out."""
    for name, one in members.items():
        accuracy = one.out_of_fold_accuracy  # NaN, which equals nothing, of a member that was not tried
        alone = f", alone {100 * accuracy:.1f} %" if accuracy == accuracy else ""
        why = f" ({one.reason})" if one.reason else ""
        say(f"{name:<24} weight {one.weight:.2f}{alone}{why}")


def _sample_readable(images: LabelledImages, args: argparse.Namespace) -> tuple[LabelledImages, list[ImageReadError]]:
    """Choose the shots among images that can be read; also say which could not be."""
    import numpy as np

    from frofa.evaluation import sample_shots
    from frofa.images.reading import check_readable

    # Draw, leave out those that cannot be read and draw again, until all of the drawn ones can be.
    kept = np.arange(len(images.items))
    unreadable: list[ImageReadError] = []
    while True:
        rows = kept[sample_shots(images.labels[kept], args.shots, args.seed)].tolist()
        failures = [failure for row in rows if (failure := check_readable(row, images.items[row]))]
        if not failures:
            return images.take(rows), unreadable
        if args.fail_fast:
            raise failures[0]
        for failure in failures:
            warn(f"another image is taken instead: {failure}")
        unreadable += failures
        kept = kept[~np.isin(kept, [failure.position for failure in failures])]
