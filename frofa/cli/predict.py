"""``frofa predict``: classify images with a saved model."""

import argparse
from pathlib import Path

from frofa.cli._options import EXIT_SKIPPED, Commands, add_speed_options, check_out, list_some_images


def add(commands: Commands) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "predict",
        help="classify images with a trained model",
        description="Classify images, and write path, label and probability as CSV.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="what 'frofa fit' wrote")
    parser.add_argument("images", type=Path, nargs="+", metavar="PATH", help="images, or directories of images")
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="file to write (default: standard output)")
    parser.add_argument("--store", type=Path, help="feature store to use (default: none, features are not kept)")
    add_speed_options(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    import csv
    import io

    from sklearn.pipeline import Pipeline

    from frofa._files import write_atomically
    from frofa.extractor import FrozenFeatureExtractor
    from frofa.persistence import load

    model = load(args.model, device=args.device)
    if not isinstance(model, Pipeline) or not isinstance(model[0], FrozenFeatureExtractor):
        raise ValueError(f"{args.model} does not start with an extractor, so that it cannot classify images.")
    if args.out is not None:
        check_out(args.out)
    paths = list_some_images(args.images)
    extractor = model[0].set_params(
        on_error="raise" if args.fail_fast else "skip",
        store=args.store,
        batch_size=args.batch_size,
        n_jobs=args.n_jobs,
        verbose=True,
    )
    extraction = extractor.extract(paths)
    probabilities = model[1:].predict_proba(extraction.features)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label", "probability"])
    for position, row in zip(extraction.kept, probabilities, strict=True):
        writer.writerow([paths[position], model.classes_[row.argmax()], f"{row.max():.4f}"])
    if args.out is None:
        print(text.getvalue(), end="")
    else:
        write_atomically(args.out, lambda file: file.write(text.getvalue().encode("utf-8")))
        print(f"{args.out}: {len(probabilities)} images")
    return EXIT_SKIPPED if extraction.skipped else 0
