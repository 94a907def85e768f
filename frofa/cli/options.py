"""Options, checks and exit codes that sub-commands share."""

import argparse
import ctypes
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
EXIT_ERROR, EXIT_SKIPPED, EXIT_INTERRUPTED = 1, 3, 130
EPILOG = """exit codes: 0 done; 1 failed, with one line on standard error; 2 wrong usage, such as an unknown option or a
value that it cannot have; 3 done, but some images could not be read and were skipped; 130 interrupted."""
DEVICES = ("cpu", "cuda", "mps", "xpu", "hpu", "npu")
"""PyTorch's names of devices that something can be computed on."""
DRIVERS = {"linux": "libcuda.so.1", "win32": "nvcuda.dll"}
"""The library without which a platform has no GPU of NVIDIA."""
AMD = Path("/dev/kfd")
"""A device file that Linux has with every GPU of AMD that computes; PyTorch calls those cuda, too."""
DIGITS = 18
"""Most digits of a number that an option takes."""


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """The type of an option that takes whole numbers from `least` to `most`; others are wrong usage."""
    wanted = f"a whole number, {least} or more" if most is None else f"a whole number from {least} to {most}"
    if (least, most) == (1, None):
        wanted = "a positive whole number"

    def parse(text: str) -> int:
        # Decimal digits alone: int would take signs, spaces and underscores, too.
        if not text.isdecimal() or len(text) > DIGITS or int(text) < least or (most is not None and int(text) > most):
            raise argparse.ArgumentTypeError(f"expected {wanted}. Got {text!r}.")
        return int(text)

    return parse


positive = whole(1)
seed = whole(0, 2**32 - 1)
"""The type of an option that takes a seed of NumPy."""


def jobs(text: str) -> int:
    """A number of threads, or -1 for one a core, -2 for one less, and so on."""
    if not re.fullmatch(r"-?0*[1-9]\d{0,8}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"expected a number of threads, or -1 for one a core. Got {text!r}.")
    return int(text)


def device(text: str) -> str:
    """A device by its name; PyTorch, which takes seconds to import, need not be asked for those that cannot be."""
    if not re.fullmatch(rf"auto|({'|'.join(DEVICES)})(:\d{{1,3}})?", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"expected auto, {', '.join(DEVICES)}, or such as cuda:1. Got {text!r}.")
    if text.startswith("cuda") and not _may_have_cuda():
        raise argparse.ArgumentTypeError(f"this machine has no driver of a GPU. Got {text!r}.")
    return text


def _may_have_cuda() -> bool:
    """Tell whether there may be a GPU that PyTorch calls cuda, of NVIDIA or of AMD, without importing PyTorch."""
    if sys.platform not in DRIVERS:
        return False
    if AMD.exists():
        return True
    try:
        ctypes.CDLL(DRIVERS[sys.platform])
    except OSError:
        return False
    return True


def finish(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]) -> None:
    """Add the options that every sub-command has, on how much is said, and set the function that runs it."""
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--quiet", action="store_true", help="no notes and no progress; warnings and errors stay")
    amount.add_argument(
        "--progress",
        action="store_true",
        help="progress also where standard error is no terminal, as lines (default: bars, on a terminal alone)",
    )
    parser.set_defaults(run=run)


def colour(text: str) -> str:
    """A colour of the command line as it was given; anything else is wrong usage."""
    from frofa.images.pixels.colour import parse_colour

    try:
        parse_colour(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def share(text: str, example: str = "0.05") -> float:
    """A share between 0 and 1, neither of them; anything else is wrong usage."""
    if not re.fullmatch(r"0?\.\d{1,9}", text, re.ASCII) or float(text) <= 0:
        raise argparse.ArgumentTypeError(f"expected a share between 0 and 1, such as {example}. Got {text!r}.")
    return float(text)


def level(text: str) -> float:
    """A confidence level between 0 and 1, neither of them."""
    return share(text, "0.9")


def sparsity(text: str) -> str | float:
    """A sparsity: ``2:4``, or a share of the weights between 0 and 1."""
    if text != "2:4" and not (re.fullmatch(r"0?\.\d{1,9}", text, re.ASCII) and float(text) > 0):
        raise argparse.ArgumentTypeError(f"expected 2:4, or a share between 0 and 1, such as 0.5. Got {text!r}.")
    return text if text == "2:4" else float(text)


def pruned(text: str) -> float:
    """A share of the weights that is set to zero, from 0 to below 1."""
    if not re.fullmatch(r"0|0?\.\d{1,9}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"expected a share from 0 to below 1, such as 0.5. Got {text!r}.")
    return float(text)


SHARED: dict[str, dict[str, Any]] = {
    "model": {"metavar": "MODEL", "help": "backbone; see 'frofa models'"},
    "--model": {
        "default": "frofa/vit_tiny_tin200",
        "help": "backbone; see 'frofa models' (default: %(default)s)",
    },
    "--store": {"type": Path, "default": Path("frofa-store"), "help": "feature store (default: ./%(default)s)"},
    "--rehash": {"action": "store_true", "help": "read every file again, also those that look unchanged"},
    "--image-size": {"type": positive, "help": "side in pixels (default: the model's own)"},
    "--background": {
        "type": colour,
        "default": "silver",
        "metavar": "COLOUR",
        "help": "what shows where an image is transparent: a name, or #RRGGBB (default: %(default)s)",
    },
    "--batch-size": {"type": positive, "default": 64, "help": "images a forward pass (default: %(default)s)"},
    "--device": {
        "type": device,
        "default": "auto",
        "help": "cpu, cuda, cuda:1, ... (default: the GPU if there is one)",
    },
    "--n-jobs": {"type": jobs, "default": -1, "help": "threads that decode images (default: one a core)"},
    "--fail-fast": {"action": "store_true", "help": "stop at an image that cannot be read"},
    "--skipped": {"type": Path, "metavar": "FILE.csv", "help": "write names of skipped images, with reasons"},
}
"""Arguments that several sub-commands have: what `add_argument` takes, by name."""
SPEED = ("--batch-size", "--device", "--n-jobs", "--fail-fast")
"""Options that change only the speed, and the choice of what to do about unreadable images."""
EXTRACTION = ("--skipped", "--model", "--store", "--rehash", "--image-size", "--background", *SPEED)
"""Options of a sub-command that extracts features with a backbone of the user's choice."""
PRECISIONS = ("auto", "float32", "bfloat16", "float16", "int8")


def add_shared(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add arguments of `SHARED`, in this order, which is that of the help."""
    for name in names:
        parser.add_argument(name, **SHARED[name])


def check_in(path: Path, what: str = "file") -> None:
    """Refuse a file or directory that is not there, before anything heavy is imported."""
    if not path.exists():
        raise FileNotFoundError(f"there is no {what} {path}.")


def check_out(path: Path | None, option: str = "--out", *, suffix: str = "") -> None:
    """Refuse a file that cannot be written, or ends in another suffix, before the work; None asks for no file."""
    if path is None:
        return
    if suffix and path.suffix != suffix:
        raise ValueError(f"{option} must end in {suffix}. Got {path}.")
    if path.is_dir():
        raise ValueError(f"{option} must be a file. Got the directory {path}.")
    if not path.parent.is_dir():
        raise ValueError(f"cannot write {path}: there is no directory {path.parent}.")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"cannot write {path}: the directory {path.parent} is not writable.")


def list_some_images(given: Sequence[Path]) -> list[str]:
    """The images of files and directories; finding none is an error."""
    from frofa.images.folders import list_images

    paths = [path for place in given for path in list_images(place)]
    if not paths:
        raise no_images(given)
    return paths


def no_images(given: Sequence[object]) -> ValueError:
    """The error where there is nothing to work on."""
    from frofa.images.pixels.formats import EXTENSIONS

    places = ", ".join("standard input" if place == "-" else str(place) for place in given)
    return ValueError(f"found no image in {places}. Known endings: {', '.join(EXTENSIONS)}.")
