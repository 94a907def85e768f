"""``frofa demo``: the main job on packaged images."""

import argparse
import tempfile
from pathlib import Path

from frofa.cli.console import say
from frofa.cli.options import Commands, finish, positive
from frofa.utils.optional import require


def add(commands: Commands) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "demo",
        help="the main job on packaged images, offline, in about a minute or two",
        description="Extract features of a packaged sample of Fashion-MNIST with the embedded backbone, train heads on "
        "5 and 10 images a class, with and without frozen-feature augmentation, and print and plot their accuracy.",
    )
    parser.add_argument(
        "--seeds", type=positive, default=3, help="support samples for each number of shots (default: %(default)s)"
    )
    parser.add_argument("--plot", type=Path, default=Path("frofa-demo.png"), help="PNG to write (default: %(default)s)")
    finish(parser, _run)


def _run(args: argparse.Namespace) -> int:
    from frofa.demo import run_demo

    require("matplotlib", "plot")  # before the work, not after it
    with tempfile.TemporaryDirectory() as directory:
        display = run_demo(Path(directory), args.seeds, say)
    display.plot().figure_.savefig(args.plot, dpi=120)
    say(f"plot: {args.plot}")
    return 0
