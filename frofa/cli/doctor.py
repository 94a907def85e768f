"""``frofa doctor``: whether a backbone is what it should be, and what it costs."""

import argparse
from pathlib import Path

from frofa.cli.console import fail, say
from frofa.cli.options import (
    EXIT_ERROR,
    PRECISIONS,
    Commands,
    add_shared,
    check_in,
    check_out,
    finish,
    list_some_images,
    positive,
    sparsity,
)


def add(commands: Commands) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "doctor",
        help="check a backbone, and say what it costs",
        description="Check weights, preprocessing, outputs and their sensitivity to batch and precision, and measure "
        "throughput, memory and the size of a store; one line a check. The exit code is 1 where one failed.",
    )
    add_shared(parser, "model")
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGES", help="images or directories (default: ours)")
    add_shared(parser, "--device", "--image-size")
    parser.add_argument(
        "--max-tokens",
        type=positive,
        metavar="N",
        help="check it over images at their own aspect ratio, N patches at most",
    )
    parser.add_argument(
        "--precision",
        default="auto",
        choices=PRECISIONS,
        help="to compare with float32 (default: that of an extraction)",
    )
    parser.add_argument(
        "--sparsity", type=sparsity, metavar="2:4|SHARE", help="prune the linear layers (default: do not)"
    )
    vectors = parser.add_mutually_exclusive_group()
    vectors.add_argument(
        "--golden", type=Path, metavar="FILE.npz", help="golden vectors (default: golden.npz in the model's folder)"
    )
    vectors.add_argument(
        "--write-golden", type=Path, metavar="FILE.npz", help="write golden vectors of this model, if all is well"
    )
    finish(parser, _run)


def _run(args: argparse.Namespace) -> int:
    check_out(args.write_golden, "--write-golden")
    for path in (*args.images, *([args.golden] if args.golden else ())):
        check_in(path, "file or directory")
    from frofa.encoders.registered import refuse_unavailable

    refuse_unavailable(args.model)
    from frofa.doctor import examine, extractor_for, write_golden

    extractor = extractor_for(
        args.model,
        device=args.device,
        image_size=args.image_size,
        max_tokens=args.max_tokens,
        precision=args.precision,
        sparsity=args.sparsity,
    )
    images = None
    if args.images:  # a registered encoder takes files of its own kind
        is_custom = extractor._encoder() is not None
        images = [str(path) for path in args.images] if is_custom else list_some_images(args.images)
    # Checks take seconds each: every finding is said as soon as it is there.
    n_failed = 0
    for finding in examine(extractor, images, golden=args.golden):
        say(str(finding))
        n_failed += finding.status == "failed"
    if n_failed:
        fail(f"{n_failed} of the checks failed, see above")
        return EXIT_ERROR
    # Golden vectors of a model that fails would make its faults the standard.
    if args.write_golden is not None:
        write_golden(args.model, args.write_golden)
        say(f"golden vectors: {args.write_golden}")
    return 0
