"""``frofa study``: compare heads, or augmentations."""

import argparse
import shlex
from pathlib import Path

from frofa.cli.console import say
from frofa.cli.options import EXIT_SKIPPED, Commands, add_shared, check_in, finish, positive, pruned
from frofa.utils.optional import require


def add(commands: Commands) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "study",
        help="compare heads, augmentations, or backbones by labels, on your images, with a report",
        description="Heads that need no tuning beside today's defaults, beside probes tuned on validation images, and "
        "beside the best that could have been chosen on the test images; or, with --heads map probes, MAP heads and "
        "probes with every augmentation of the FroFA paper at several levels. Disjoint support samples; a validation "
        "part of the training images chooses, test images are for the report only. Writes results.csv, report.md and "
        "figures. A killed study goes on where it stopped.",
    )
    parser.add_argument(
        "images", type=Path, nargs="+", metavar="DIRECTORY", help="with train/CLASS and test/CLASS, or CLASS alone"
    )
    parser.add_argument("--backbone", nargs="+", default=["frofa/vit_tiny_tin200"], help="(default: %(default)s)")
    parser.add_argument("--shots", type=positive, nargs="+", default=[1, 2, 5, 10, 25], help="(default: 1 2 5 10 25)")
    parser.add_argument(
        "--seeds",
        type=positive,
        default=10,
        help="support samples for each number of shots, disjoint if there are images enough (default: 10)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="no heads on tokens, or few levels of each augmentation: minutes, not hours",
    )
    parser.add_argument(
        "--heads",
        nargs="+",
        default=["few-shot"],
        choices=["few-shot", "map", "probes"],
        help="what to compare: few-shot heads, or augmentations of MAP heads and of probes (default: few-shot)",
    )
    parser.add_argument(
        "--augmentations", nargs="+", metavar="NAME", help="those to study, as a result file names them (default: all)"
    )
    parser.add_argument(
        "--law",
        action="store_true",
        help="accuracy as a function of weights, how many of them are left, and labels, instead: measures every "
        "backbone at every sparsity, fits a law, and says which backbone for how many labels (law.md)",
    )
    parser.add_argument(
        "--sparsity",
        type=pruned,
        nargs="+",
        default=[0.0, 0.25, 0.5, 0.75],
        help="for --law: shares of the weights that are set to zero (default: 0 0.25 0.5 0.75)",
    )
    parser.add_argument("--out", type=Path, default=Path("frofa-study"), help="directory (default: ./%(default)s)")
    add_shared(parser, "--device", "--n-jobs")
    finish(parser, _run)


def _run(args: argparse.Namespace) -> int:
    for directory in args.images:
        check_in(directory, "directory")
    from frofa.encoders.registered import refuse_unavailable

    for model in args.backbone:
        refuse_unavailable(model)
    from frofa.study import Study, n_skipped, report_law, report_study, run_law, run_study
    from frofa.study.data import printable

    require("matplotlib", "plot")  # before the work, not after it
    study = Study(
        directories=args.images,
        backbones=args.backbone,
        out=args.out,
        shots=args.shots,
        n_seeds=args.seeds,
        quick=args.quick,
        heads=args.heads,
        augmentations=args.augmentations,
        sparsities=args.sparsity,
        device=args.device,
        n_jobs=args.n_jobs,
        command=printable(f"frofa {shlex.join(args.arguments)}"),
    )
    if args.law:
        run_law(study, say)
        say(f"report: {report_law(study)}")
        return 0
    run_study(study, say)
    say(f"report: {report_study(study)}")
    return EXIT_SKIPPED if n_skipped(study) else 0
