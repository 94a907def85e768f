"""``frofa bench-backbone``: what a faster precision gains, and what it costs in accuracy."""

import argparse
from pathlib import Path
from typing import Any

from frofa.cli.console import say
from frofa.cli.options import EXIT_ERROR, EXIT_SKIPPED, Commands, add_shared, check_out, finish, positive
from frofa.cli.sources import report_skipped
from frofa.utils.progress import progress_bar


def add(commands: Commands) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "bench-backbone",
        help="speed and accuracy of a backbone in float32, bfloat16, int8 and with weights pruned to 2:4",
        description="Print images/s of the forward pass on this device, and top-1 accuracy of a ridge probe on "
        "DIRECTORY/CLASS/IMAGE, for each side by side: mean and 95 % interval over support samples, which are the "
        "same for all. A side that cannot be had says why. Nothing is kept on disk.",
    )
    add_shared(parser, "model")
    parser.add_argument("images", type=Path, metavar="DIRECTORY", help="DIRECTORY/CLASS/IMAGE; the class is the label")
    parser.add_argument("--shots", type=positive, default=5, help="images a class to train on (default: %(default)s)")
    parser.add_argument("--seeds", type=positive, default=5, help="support samples (default: %(default)s)")
    parser.add_argument(
        "--sides",
        nargs="+",
        metavar="SIDE",
        help="which, and in which order (default: float32 bfloat16 2:4, and int8 on a CPU)",
    )
    parser.add_argument("--compile", action="store_true", help="compile the forward pass of each by torch.compile")
    add_shared(parser, "--device", "--batch-size", "--image-size", "--skipped")
    finish(parser, _run)


def _run(args: argparse.Namespace) -> int:
    from frofa.encoders.registered import refuse_unavailable

    # Arguments and images are checked before PyTorch is imported, and before a model is loaded.
    check_out(args.skipped, "--skipped", suffix=".csv")
    refuse_unavailable(args.model)
    paths, labels, skipped = _readable(args.images)
    from frofa.compute.devices import resolve_device
    from frofa.doctor.precisions import compare_sides, side_lines, sides_for
    from frofa.extraction.extractor import FrozenFeatureExtractor

    extractor = FrozenFeatureExtractor(
        args.model,
        device=args.device,
        batch_size=args.batch_size,
        image_size=args.image_size,
        compile=args.compile,
        verbose=True,
    )
    extractor.fit()  # a model that cannot be loaded is one error, not one for each side
    sides = []
    # Each side is said as soon as it is measured; the table comes when all are there to be compared.
    names = args.sides or sides_for(resolve_device(args.device))
    for side in compare_sides(extractor, paths, labels, shots=args.shots, n_seeds=args.seeds, sides=names):
        say(f"{side.name}: {side.error or f'{side.images_per_second:.4g} images/s'}")
        sides.append(side)
    say(f"\nridge probe at {args.shots} shots, {args.seeds} support samples, {len(paths)} images")
    say("\n".join(side_lines(sides)))
    report_skipped(skipped, len(paths) + len(skipped), args.skipped)
    if any(side.error for side in sides):
        return EXIT_ERROR
    return EXIT_SKIPPED if skipped else 0


def _readable(directory: Path) -> tuple[list[str], Any, list[Any]]:
    """The images that can be read, so that all sides have the same ones, their labels, and what is wrong with others.

    They are decoded twice, which costs little beside the forward passes of all sides.
    """
    from frofa.images.folders import load_image_folder
    from frofa.images.reading import check_readable

    paths, labels = load_image_folder(directory)
    if len(set(labels)) < 2:
        raise ValueError(f"a probe takes two classes at least; {directory} has one, {labels[0]}.")
    bar = progress_bar(paths, desc="decode", unit="img")
    errors = [check_readable(position, path) for position, path in enumerate(bar)]
    kept = [position for position, error in enumerate(errors) if error is None]
    if not kept:
        raise ValueError(f"none of the {len(paths)} images could be read; the first: {errors[0]}")
    return [paths[position] for position in kept], labels[kept], [error for error in errors if error is not None]
