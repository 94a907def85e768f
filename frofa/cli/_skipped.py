"""What to say of images that could not be read."""

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from frofa.exceptions import ImageReadError

LISTED = 20


def report_skipped(skipped: "Sequence[ImageReadError]", n_images: int) -> None:
    """Say on standard error which images were skipped and why, the first twenty of them."""
    if not skipped:
        return
    lines = [f"{error.name}: {error.reason}" for error in skipped[:LISTED]]
    if len(skipped) > LISTED:
        lines.append(f"and {len(skipped) - LISTED} more; --skipped FILE.csv writes them all")
    separator = " " if len(lines) == 1 else "\n  "
    listed = separator.join(["", *lines])
    print(f"frofa: warning: skipped {len(skipped)} of {n_images} images:{listed}", file=sys.stderr)


def write_skipped(path: Path, skipped: "Sequence[ImageReadError]") -> None:
    """Write a CSV file of all skipped images, in the order of the input; without any, its header alone."""
    from frofa._files import write_atomically

    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "reason"])
    writer.writerows((error.name, error.reason) for error in skipped)
    data = text.getvalue().encode("utf-8", "surrogateescape")
    write_atomically(path, lambda file: file.write(data))
