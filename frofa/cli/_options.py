"""What the sub-commands share: options, checks and exit codes."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from frofa.extractor import FrozenFeatureExtractor

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
EXIT_ERROR, EXIT_SKIPPED, EXIT_INTERRUPTED = 1, 3, 130
EPILOG = """exit codes: 0 done; 1 failed, with one line on standard error; 2 wrong usage; 3 done, but some images could
not be read and were skipped; 130 interrupted."""


def positive(text: str) -> int:
    """A positive whole number of the command line.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is another thing, which argparse makes wrong usage.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive whole number. Got {text!r}.")
    return int(text)


def add_extractor_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which features: model, store, image size; and the options of speed."""
    parser.add_argument(
        "--model", default="frofa/vit_tiny_tin200", help="backbone; see 'frofa models' (default: %(default)s)"
    )
    parser.add_argument(
        "--store", type=Path, default=Path("frofa-store"), help="feature store (default: ./%(default)s)"
    )
    parser.add_argument("--rehash", action="store_true", help="read every file again, also those that look unchanged")
    parser.add_argument("--image-size", type=positive, help="side in pixels (default: the model's own)")
    add_speed_options(parser)


def add_speed_options(parser: argparse.ArgumentParser) -> None:
    """Add what changes only how fast it goes, and what to do about unreadable images."""
    parser.add_argument("--batch-size", type=positive, default=64, help="images a forward pass (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: the GPU if there is one)")
    parser.add_argument("--n-jobs", type=int, default=-1, help="threads that decode images (default: one a core)")
    parser.add_argument("--fail-fast", action="store_true", help="stop at an image that cannot be read")


def check_out(path: Path, option: str = "--out") -> None:
    """Refuse a file that cannot be written before the work, not after it."""
    if path.is_dir():
        raise ValueError(f"{option} must be a file. Got the directory {path}.")
    if not path.parent.is_dir():
        raise ValueError(f"cannot write {path}: there is no directory {path.parent}.")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"cannot write {path}: the directory {path.parent} is not writable.")


def list_some_images(given: Sequence[Path]) -> list[str]:
    """The images of files and directories; finding none is an error."""
    from frofa.images import list_images

    paths = [path for place in given for path in list_images(place)]
    if not paths:
        raise no_images(given)
    return paths


def no_images(given: Sequence[object]) -> ValueError:
    """The error where there is nothing to work on."""
    from frofa._listing import EXTENSIONS

    places = ", ".join(str(place) for place in given)
    return ValueError(f"found no image in {places}. Known endings: {', '.join(EXTENSIONS)}.")


def make_extractor(args: argparse.Namespace, output: Any, **options: Any) -> "FrozenFeatureExtractor":
    """The extractor that the options ask for."""
    from frofa._files import expand_home
    from frofa.extractor import FrozenFeatureExtractor

    model = args.model
    kind, _, path = model.partition(":")
    if kind in ("local-dir", "hf-dir"):  # a saved model is used from other directories, too
        model = f"{kind}:{Path(expand_home(path)).absolute()}"
    return FrozenFeatureExtractor(
        model,
        output=output,
        image_size=args.image_size,
        batch_size=args.batch_size,
        device=args.device,
        n_jobs=args.n_jobs,
        store=args.store,
        rehash=args.rehash,
        on_error="raise" if args.fail_fast else "skip",
        verbose=True,
        **options,
    )


def shorten(classes: set[str]) -> str:
    """Names of classes, ten at most."""
    names = sorted(str(name) for name in classes)
    return ", ".join(names[:10]) + (f", ... ({len(names) - 10} more)" if len(names) > 10 else "")
