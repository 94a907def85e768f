"""``frofa fit``: from labelled images to a classifier."""

import argparse
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frofa.cli.console import note, say, warn
from frofa.cli.features import extract, make_extractor
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
    shorten,
    whole,
)
from frofa.cli.sources import LabelledImages, add_source_options, load_labelled_sources, report_skipped
from frofa.exceptions import ImageReadError

if TYPE_CHECKING:
    from frofa.extraction.extractor import FrozenFeatureExtractor
    from frofa.selection import Chosen, HeadChoice


def add(commands: Commands) -> None:
    """Add the sub-command."""
    from_choices = ["auto", "ridge", "logistic", "prototype", "soft-moe", "map", "map+frofa"]
    parser = commands.add_parser(
        "fit",
        help="train a classifier on labelled images",
        description="Train a head on the frozen features of labelled images, and estimate its accuracy by "
        "cross-validation. With 'auto', the head is chosen so, and so are hyperparameters and augmentation.",
        epilog=EPILOG,
    )
    add_source_options(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="model to write, such as flowers.frofa")
    parser.add_argument("--head", default="auto", choices=from_choices, help="(default: %(default)s)")
    parser.add_argument("--shots", type=positive, help="use only so many images a class, chosen at random")
    parser.add_argument("--cv", type=whole(2), default=5, help="folds at most, 2 or more (default: %(default)s)")
    parser.add_argument("--seed", type=seed, default=0, help="of the choice of shots, folds and head (default: 0)")
    parser.add_argument(
        "--allow-part-names",
        action="store_true",
        help="take folders called train, test, ... for classes, which is an error otherwise",
    )
    add_shared(parser, *EXTRACTION)
    finish(parser, _run)


def _run(args: argparse.Namespace) -> int:
    from frofa.encoders.registered import refuse_unavailable

    check_out(args.out)
    check_out(args.skipped, "--skipped", suffix=".csv")
    refuse_unavailable(args.model)
    images = _load(args)
    # Shots are drawn among the images that can be read, so that each class has as many as were asked for.
    unreadable: list[ImageReadError] = []
    if args.shots is not None:
        images, unreadable = _sample_readable(images, args)
    choices = _choices(args, images.labels)
    # One extractor for each kind of features that some head reads, and one pass over the images for all of them.
    extractors: dict[str, FrozenFeatureExtractor] = {
        choice.output: make_extractor(args, choice.output).fit() for choice in choices.values()
    }
    extractions = extract(extractors, images.items, images.labels, fail_fast=args.fail_fast)
    first = next(iter(extractions.values()))
    y = images.labels[first.kept]
    if lost := set(images.labels.tolist()) - set(y.tolist()):
        raise ValueError(f"no image could be read of: {shorten(lost)}.")
    # Rows of the features from here on, which lack the images that were skipped, and now the copies.
    rows = _without_copies(y, first.keys or [])
    if lost := set(y.tolist()) - set(y[rows].tolist()):
        raise ValueError(f"each image of these classes is also one of another: {shorten(lost)}.")
    y = y[rows]
    fitted = _fit(args, choices, {name: found.features[rows] for name, found in extractions.items()}, y)
    # A score that was not cross-validated is NaN, which equals nothing, itself included, and ranks below all others.
    best = max(fitted, key=lambda name: (fitted[name].score == fitted[name].score, fitted[name].score))
    _save(args.out, extractors[choices[best].output], fitted[best].estimator)
    say(f"{args.out}: {best} on {args.model}, {len(y)} images, {len(set(y))} classes: {shorten(set(y.tolist()))}")
    skipped = [*unreadable, *first.skipped]
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


def _choices(args: argparse.Namespace, labels: Any) -> "dict[str, HeadChoice]":
    from frofa.selection import head_choices, n_folds

    choices = head_choices(args.seed, verbose=True)
    if args.head != "auto":
        return {args.head: choices[args.head]}
    if n_folds(labels, args.cv) < 2:
        raise ValueError("--head auto cross-validates, which takes 2 images of every class at least: choose a --head.")
    return choices


def _fit(
    args: argparse.Namespace, choices: "dict[str, HeadChoice]", features: dict[str, Any], y: Any
) -> "dict[str, Chosen]":
    """Fit each head, and say how good it is."""
    from frofa.selection import fit_head, n_fits, n_folds

    folds = n_folds(y, args.cv)
    if folds < 2:
        rarest = min(Counter(y.tolist()).items(), key=lambda item: (item[1], item[0]))[0]
        note(f"no estimate of accuracy: it takes 2 images of every class, and {rarest} has one")
    fitted = {}
    for name, choice in choices.items():
        note(f"training {name}, fits: {n_fits(choice, folds, always=True)}")
        fitted[name] = fit_head(choice, features[choice.output], y, cv=args.cv, seed=args.seed, always=True)
        found = [f"{key.split('__')[-1]}={value}" for key, value in fitted[name].params.items()]
        score = fitted[name].score
        known = "not cross-validated" if score != score else f"accuracy {100 * score:.1f} % over {folds} folds"
        say(f"{name:<10} {'; '.join([known, ', '.join(found)] if found else [known])}")
    return fitted


def _without_copies(labels: Any, keys: "Sequence[str]") -> list[int]:
    """Rows of different images: copies on both sides of a split would make its accuracy too good to be true."""
    from frofa.images.listing import count

    labels_of: dict[str, set[Any]] = {}
    for key, label in zip(keys, labels.tolist(), strict=True):
        labels_of.setdefault(key, set()).add(label)
    # Of images with equal content, the first one stays; where their labels differ, none does.
    disputed = {key for key, found in labels_of.items() if len(found) > 1}
    first = {key: row for row, key in reversed(list(enumerate(keys))) if key not in disputed}
    if n_copies := len(keys) - len(first) - sum(key in disputed for key in keys):
        note(f"left out, as they repeat others: {count(n_copies, 'image')}")
    if disputed:
        some = shorten(labels_of[min(disputed)])
        warn(f"left out, as they have several labels: {count(len(disputed), 'image')}, such as one of {some}")
    return sorted(first.values())


def _save(path: Path, extractor: "FrozenFeatureExtractor", head: Any) -> None:
    from sklearn.pipeline import Pipeline

    from frofa.persistence.saving import save

    # Progress bars are for this run: a saved model shows none unless it is asked to.
    model = Pipeline([("extract", extractor), ("head", head)])
    model.set_params(**{name: False for name in model.get_params() if name.endswith("__verbose")})
    save(model, path)


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
