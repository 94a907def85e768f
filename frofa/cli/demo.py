"""``frofa demo``: the main job on packaged images."""

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from frofa.cli.console import say
from frofa.cli.options import Commands, finish, positive
from frofa.utils.optional import require

if TYPE_CHECKING:
    from frofa.display import FewShotDisplay


def add(commands: Commands) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "demo",
        help="the main job on packaged images, offline, in about a minute",
        description="Extract features of a packaged sample of Fashion-MNIST with the embedded backbone, train the "
        "default classifier, usual probes and attention heads with and without frozen-feature augmentation on 5 and 10 "
        "images a class, and print and plot their accuracy and how it differs.",
    )
    parser.add_argument(
        "--seeds", type=positive, default=10, help="support samples for each number of shots (default: %(default)s)"
    )
    parser.add_argument("--plot", type=Path, default=Path("frofa-demo.png"), help="PNG to write (default: %(default)s)")
    finish(parser, _run)


def _run(args: argparse.Namespace) -> int:
    from frofa.demo import FIRST, run_demo

    require("matplotlib", "plot")  # before the work, not after it
    with tempfile.TemporaryDirectory() as directory:
        display = run_demo(Path(directory), args.seeds, say)
    save_picture(display, FIRST, args.plot)
    say(f"plot: {args.plot}")
    return 0


def save_picture(display: "FewShotDisplay", first: str, path: Path) -> None:
    """Write accuracies and, beside them, differences to the first head."""
    from frofa.utils.drawing import new_figure

    figure = new_figure(11, 4.2)
    left, right = figure.subplots(1, 2)
    display.plot(left)
    display.plot(right, against=first)
    right.get_legend().remove()
    figure.savefig(path, dpi=120)
