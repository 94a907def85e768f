"""What to say of images that could not be read."""

import argparse
import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from frofa.cli.console import KEEP_BYTES, warn
from frofa.cli.options import check_out

if TYPE_CHECKING:
    from frofa.exceptions import ImageReadError

LISTED = 20


def add_skipped_option(parser: argparse.ArgumentParser) -> None:
    """Add the file of skipped images."""
    parser.add_argument("--skipped", type=Path, metavar="FILE.csv", help="write names of skipped images, with reasons")


def check_skipped(path: Path | None) -> None:
    """Refuse a file of skipped images that cannot be written, before the work."""
    if path is not None:
        check_out(path, "--skipped", suffix=".csv")


def report_skipped(
    skipped: "Sequence[ImageReadError]",
    n_images: int,
    file: Path | None = None,
    *,
    all_of_them: str = "--skipped FILE.csv writes them all",
) -> None:
    """Say on standard error which images were skipped and why, the first twenty of them, and write all to a file."""
    if file is not None:
        write_skipped(file, skipped)
    if not skipped:
        return
    lines = [f"{error.name}: {error.reason}" for error in skipped[:LISTED]]
    if len(skipped) > LISTED:
        lines.append(f"and {len(skipped) - LISTED} more; {all_of_them}")
    separator = " " if len(lines) == 1 else "\n  "
    listed = separator.join(["", *lines])
    warn(f"skipped {len(skipped)} of {n_images} images:{listed}")


def write_skipped(path: Path, skipped: "Sequence[ImageReadError]") -> None:
    """Write a CSV file of all skipped images, in the order of the input; without any, its header alone."""
    from frofa.utils.files import write_atomically

    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "reason"])
    writer.writerows((error.name, error.reason) for error in skipped)
    data = text.getvalue().encode("utf-8", KEEP_BYTES)
    write_atomically(path, lambda file: file.write(data))
