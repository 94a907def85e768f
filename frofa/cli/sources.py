"""The images of a sub-command, and those of them that could not be read."""

import argparse
import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from frofa.cli.console import KEEP_BYTES, note, warn
from frofa.cli.options import no_images, positive
from frofa.utils.files import expand_home, write_atomically

if TYPE_CHECKING:
    import numpy.typing as npt

    from frofa.exceptions import ImageReadError
    from frofa.images.image_set import ImageSet
    from frofa.images.items import ImageItem

LISTED = 20
"""Skipped images that are named on standard error."""


def add_source_options(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """Add the sources, of which there may be none if they are optional, and the options that say how to read them."""
    parser.add_argument(
        "sources",
        nargs="*" if optional else "+",
        metavar="SOURCE",
        help="DIRECTORY/CLASS/IMAGE or DIRECTORY/IMAGE; a .csv or .tsv file of paths and labels; a .zip or .tar "
        "archive; a video; an image; or - for a list of paths on standard input, one a line or separated by NUL",
    )
    labels = parser.add_mutually_exclusive_group()
    labels.add_argument(
        "--labels", metavar="CSV", help="take the images that this file lists, from the directory or archive SOURCE"
    )
    labels.add_argument(
        "--no-labels",
        dest="labels",
        action="store_const",
        const=False,
        help="take all images of a directory or archive, whatever directories they lie in, without labels",
    )
    parser.add_argument(
        "--path-column", metavar="NAME", help="column of paths in a CSV file (default: path, or another usual name)"
    )
    parser.add_argument(
        "--label-column",
        metavar="NAME",
        help="column of labels (default: label, or another usual name, if there is one)",
    )
    parser.add_argument("--every", type=positive, default=1, metavar="K", help="take every K-th frame of a video")


def load_sources(args: argparse.Namespace, *, beside: bool = False) -> "ImageSet":
    """The images of all sources; what was left out is noted, and finding none is an error.

    With `beside`, files beside the directories of classes are images without a label, and not left out.
    """
    from frofa.images.image_set import join
    from frofa.images.sources import load_images

    if args.labels and len(args.sources) > 1:
        raise ValueError(f"--labels goes with one SOURCE. Got {len(args.sources)}.")
    options = {"path_column": args.path_column, "label_column": args.label_column, "every": args.every}
    parts = [load_images(source, labels=args.labels, **options) for source in args.sources]
    if beside and args.labels is None:
        parts = [_with_loose(source, part) for source, part in zip(args.sources, parts, strict=True)]
    images = join(parts)
    for left_out in images.notes:
        note(left_out)
    if not images.items:
        raise no_images(args.sources)
    return images


def _with_loose(source: str, images: "ImageSet") -> "ImageSet":
    """Add the images that lie in a directory itself to those of its class directories."""
    from frofa.images.image_set import image_set, join
    from frofa.images.listing import BESIDE, is_hidden, is_image_name

    directory = Path(expand_home(source))
    if images.labels is None or not directory.is_dir():
        return images
    loose = sorted(
        str(entry)
        for entry in directory.iterdir()
        if is_image_name(entry.name) and not is_hidden(entry.name) and not entry.is_dir()
    )
    if not loose:
        return images
    kept = replace(images, notes=[left_out for left_out in images.notes if BESIDE not in left_out])
    return join([kept, image_set(loose)])


class LabelledImages(NamedTuple):
    """Images with their labels, as in an `ImageSet`, and the number of images without one, which are left out."""

    items: "Sequence[ImageItem]"
    labels: "npt.NDArray[Any]"
    n_unlabelled: int

    def take(self, rows: list[int]) -> "LabelledImages":
        """Take some of the images, by position."""
        return self._replace(items=[self.items[row] for row in rows], labels=self.labels[rows])


def load_labelled_sources(args: argparse.Namespace) -> LabelledImages:
    """The images of all sources that have a label; the others are counted, and finding no label is an error."""
    images = load_sources(args)
    if images.labels is None:
        places = ", ".join(args.sources)
        raise ValueError(
            f"found no labels in {places}: expected DIRECTORY/CLASS/IMAGE, an archive laid out so, or a CSV file with "
            "a column of labels (--label-column)."
        )
    labels = images.labels
    # An empty label is none: of a row of a table, or of a source without labels among others that have some.
    labelled = [position for position, label in enumerate(labels.tolist()) if label != ""]
    if len(labelled) < len(labels):
        note(f"{len(labels) - len(labelled)} of {len(labels)} images have no label and are left out")
    return LabelledImages(images.items, labels, len(labels) - len(labelled)).take(labelled)


def report_skipped(
    skipped: "Sequence[ImageReadError]",
    n_images: int,
    file: Path | None = None,
    *,
    all_of_them: str = "--skipped FILE.csv writes them all",
) -> None:
    """Say on standard error which images were skipped and why, the first twenty of them; write all to a CSV file."""
    # The file is written also where nothing was skipped, so that a script finds one.
    if file is not None:
        data = csv_bytes([["path", "reason"], *([error.name, error.reason] for error in skipped)])
        write_atomically(file, lambda stream: stream.write(data))
    if not skipped:
        return
    lines = [f"{error.name}: {error.reason}" for error in skipped[:LISTED]]
    if len(skipped) > LISTED:
        lines.append(f"and {len(skipped) - LISTED} more; {all_of_them}")
    separator = " " if len(lines) == 1 else "\n  "
    listed = separator.join(["", *lines])
    warn(f"skipped {len(skipped)} of {n_images} images:{listed}")


def csv_bytes(rows: Iterable[Iterable[object]]) -> bytes:
    """A CSV file in UTF-8, in which names of files keep their bytes."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", KEEP_BYTES)
