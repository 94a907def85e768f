"""The ``frofa`` command with its sub-commands, of which each is a module here."""

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from frofa._version import __version__
from frofa.cli import (
    bench,
    bench_backbone,
    demo,
    doctor,
    evaluate,
    extract,
    fit,
    label,
    labels,
    models,
    predict,
    report,
    search,
    store,
    study,
)
from frofa.cli.console import complain, console, fail, warn
from frofa.cli.options import EPILOG, EXIT_ERROR, EXIT_INTERRUPTED
from frofa.exceptions import FrofaError
from frofa.utils.files import expand_home
from frofa.utils.progress import Mode, progress_mode


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = build_parser().parse_args(arguments)
    expand_homes(args)
    args.arguments = sys.argv[1:] if arguments is None else arguments
    mode: Mode = "none" if args.quiet else "lines" if args.progress else "terminal"
    with console(quiet=args.quiet), progress_mode(mode), warnings.catch_warnings():
        # Reading such an image is an error, which names it.
        warnings.filterwarnings("ignore", message="Image size .* exceeds limit")
        warnings.showwarning = lambda message, *_, **__: warn(str(message))
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        return run(args)
    except KeyboardInterrupt:
        complain("interrupted; what was finished is kept, and the same command goes on from there")
        return EXIT_INTERRUPTED
    except (FrofaError, OSError, ValueError, TypeError, ImportError) as error:
        if args.debug:
            raise
        fail(str(error))
        return EXIT_ERROR


def expand_homes(args: argparse.Namespace) -> None:
    """Turn ``~`` at the start of paths into the home directory, which shells leave in ``--store=~/features``."""
    for name, value in vars(args).items():
        if isinstance(value, Path):
            setattr(args, name, Path(expand_home(value)))
        elif isinstance(value, list) and all(isinstance(one, Path) for one in value):
            setattr(args, name, [Path(expand_home(one)) for one in value])


def build_parser() -> argparse.ArgumentParser:
    """The parser of all sub-commands."""
    parser = argparse.ArgumentParser(
        prog="frofa", description="Few-shot image classification with frozen vision transformers.", epilog=EPILOG
    )
    parser.add_argument("--version", action="version", version=f"frofa {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (
        demo,
        models,
        doctor,
        bench_backbone,
        bench,
        extract,
        fit,
        predict,
        evaluate,
        report,
        label,
        labels,
        study,
        store,
        search,
    ):
        command.add(commands)
    return parser
