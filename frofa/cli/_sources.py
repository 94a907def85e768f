"""Where a sub-command's images come from."""

import argparse
import sys
from typing import TYPE_CHECKING

from frofa.cli._options import no_images

if TYPE_CHECKING:
    from frofa.inputs import ImageSet


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Add the sources, and what says how to read them."""
    parser.add_argument(
        "sources",
        nargs="+",
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
    parser.add_argument("--path-column", metavar="NAME", help="column of paths in a CSV file (default: path)")
    parser.add_argument("--label-column", metavar="NAME", help="column of labels (default: label, if there is one)")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="take every K-th frame of a video")


def load_sources(args: argparse.Namespace) -> "ImageSet":
    """The images of all sources; what was left out is said on standard error, and finding none is an error."""
    from frofa.inputs import join, load_images

    if args.labels and len(args.sources) > 1:
        raise ValueError(f"--labels goes with one SOURCE. Got {len(args.sources)}.")
    options = {"path_column": args.path_column, "label_column": args.label_column, "every": args.every}
    images = join([load_images(source, labels=args.labels, **options) for source in args.sources])
    for note in images.notes:
        print(f"frofa: {note}", file=sys.stderr)
    if not images.items:
        raise no_images(args.sources)
    return images
