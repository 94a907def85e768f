"""``frofa fit``: from a folder of labelled images to a classifier."""

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

from frofa.cli._options import EXIT_SKIPPED, Commands, add_extractor_options, check_out, make_extractor, shorten


def add(commands: Commands) -> None:
    """Add the sub-command."""
    from_choices = ["auto", "ridge", "logistic", "prototype", "soft-moe", "map", "map+frofa"]
    parser = commands.add_parser(
        "fit",
        help="train a classifier on a folder of labelled images",
        description="Train a head on the frozen features of DIRECTORY/CLASS/IMAGE. With 'auto', the head is chosen by "
        "cross-validation on these images, and so are hyperparameters and augmentation.",
    )
    parser.add_argument("images", type=Path, metavar="DIRECTORY", help="DIRECTORY/CLASS/IMAGE; the class is the label")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="model to write, such as flowers.frofa")
    parser.add_argument("--head", default="auto", choices=from_choices, help="(default: %(default)s)")
    parser.add_argument("--shots", type=int, help="use only so many images a class, chosen at random")
    parser.add_argument("--cv", type=int, default=5, help="folds at most (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of shots, folds and head (default: 0)")
    add_extractor_options(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from sklearn.pipeline import Pipeline

    from frofa.images import load_image_folder
    from frofa.persistence import save
    from frofa.selection import fit_head, head_choices, n_fits, n_folds

    check_out(args.out)
    if args.cv < 2:
        raise ValueError(f"--cv must be 2 or more. Got {args.cv}.")
    paths, labels = load_image_folder(args.images)
    if len(set(labels)) < 2:
        raise ValueError(f"a classifier takes two classes at least; {args.images} has one, {labels[0]}.")
    n_unreadable = 0
    if args.shots is not None:
        paths, labels, n_unreadable = _sample_readable(paths, labels, args)
    if n_folds(labels, args.cv) < 2 and args.head == "auto":
        raise ValueError("--head auto cross-validates, which takes 2 images of every class at least: choose a --head.")
    choices = head_choices(args.seed, verbose=True)
    if args.head != "auto":
        choices = {args.head: choices[args.head]}
    extractors = {choice.output: make_extractor(args, choice.output) for choice in choices.values()}
    extractions = {output: extractor.fit().extract(paths, labels) for output, extractor in extractors.items()}
    y = labels[next(iter(extractions.values())).kept]
    if lost := set(labels.tolist()) - set(y.tolist()):
        raise ValueError(f"no image could be read of: {', '.join(sorted(lost))}.")
    folds = n_folds(y, args.cv)
    fitted = {}
    for name, choice in choices.items():
        extraction = extractions[choice.output]
        print(f"frofa: training {name}, fits: {n_fits(choice, folds, always=args.head == 'auto')}", file=sys.stderr)
        fitted[name] = fit_head(choice, extraction.features, y, cv=args.cv, seed=args.seed, always=args.head == "auto")
        found = ", ".join(f"{key.split('__')[-1]}={value}" for key, value in fitted[name].params.items())
        score = fitted[name].score
        known = "not cross-validated" if score != score else f"accuracy {100 * score:.1f} % over {folds} folds"
        print(f"{name:<10} {known}{'; ' if known and found else ''}{found}".rstrip())
    best = max(fitted, key=lambda name: (fitted[name].score == fitted[name].score, fitted[name].score))
    model = Pipeline([("extract", extractors[choices[best].output]), ("head", fitted[best].estimator)])
    model.set_params(**{name: False for name in model.get_params() if name.endswith("__verbose")})
    save(model, args.out)
    print(f"{args.out}: {best} on {args.model}, {len(y)} images, {len(set(y))} classes: {shorten(set(y))}")
    skipped = n_unreadable or any(extraction.skipped for extraction in extractions.values())
    return EXIT_SKIPPED if skipped else 0


def _sample_readable(paths: list[str], labels: Any, args: argparse.Namespace) -> tuple[list[str], Any, int]:
    """Choose the shots among images that can be read; also say how many could not be."""
    import numpy as np

    from frofa.evaluation import sample_shots
    from frofa.images import check_readable

    kept = np.arange(len(paths))
    while True:
        rows = kept[sample_shots(labels[kept], args.shots, args.seed)]
        failures = {row: failure for row in rows.tolist() if (failure := check_readable(row, paths[row]))}
        if not failures:
            return [paths[row] for row in rows], labels[rows], len(paths) - len(kept)
        for failure in failures.values():
            if args.fail_fast:
                raise failure
            warnings.warn(f"another image is taken instead: {failure}", stacklevel=1)
        kept = kept[~np.isin(kept, list(failures))]
