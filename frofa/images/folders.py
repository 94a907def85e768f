"""Directories of images, and lists of paths."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from frofa.images.image_set import ImageSet, image_set
from frofa.images.items import ImageItem
from frofa.images.listing import BESIDE, describe_ignored, describe_others, is_hidden, scan, warn_of_parts
from frofa.images.pixels.formats import EXTENSIONS
from frofa.utils.files import expand_home
from frofa.utils.text import class_name, in_utf8


def load_folder(directory: Path, *, labelled: bool = True) -> ImageSet:
    """Find the images of a directory in ImageFolder layout, ``DIRECTORY/CLASS/.../IMAGE``, or of a flat one.

    It is taken for a flat one, which has no labels, if it is not `labelled` or no sub-directory has an image. Images
    are sorted by class, then by path. Files beside the class directories and files of other kinds are noted; a class
    directory without images is a warning.
    """
    listing = scan(directory)
    notes = [*listing.notes, *describe_others(listing.others)]
    if not labelled:
        return image_set(listing.images, notes=notes)
    # The first part of a path below the directory is its class; a file beside the class directories has none.
    start = len(os.path.join(directory, ""))  # noqa: PTH118 (a length, not a path)
    below = [path[start:].partition(os.sep) for path in listing.images]
    classes = [name if separator else "" for name, separator, _ in below]
    if any(classes):
        _warn_of_empty_classes(directory, set(classes))
    return by_class(listing.images, classes, notes)


def by_class(items: Sequence[ImageItem], classes: Sequence[str], notes: Sequence[str] = ()) -> ImageSet:
    """Order images by class, and keep their order within each; those without a class are left out and noted.

    If none has a class, all are taken as they are.
    """
    if not any(classes):
        return image_set(items, notes=notes)
    warn_of_parts(filter(None, classes))
    loose = [item for item, name in zip(items, classes, strict=True) if not name]
    beside = describe_ignored("file", loose, BESIDE)
    advice = "labels=False (--no-labels) takes all images, without labels"
    notes = [*(f"{note}; {advice}" for note in beside), *notes]
    names = [class_name(name) for name in classes]
    # By the composed spelling, then by the one on disk: one class in two spellings keeps an order.
    order = sorted((position for position, name in enumerate(names) if name), key=lambda at: (names[at], classes[at]))
    return image_set([items[position] for position in order], [names[position] for position in order], notes)


def _warn_of_empty_classes(directory: Path, known: set[str]) -> None:
    for entry in sorted(directory.iterdir()):
        if entry.is_dir() and not is_hidden(entry.name) and entry.name not in known:
            warnings.warn(f"the class directory {entry} has no image", stacklevel=2)


def load_image_folder(directory: str | os.PathLike[str]) -> tuple[list[str], npt.NDArray[np.str_]]:
    """List the images of a directory in ImageFolder layout, ``DIRECTORY/CLASS/.../IMAGE``.

    Parameters
    ----------
    directory : path
        One sub-directory a class; its name is the label, in Unicode's composed form (NFC). Hidden files and directories
        are ignored, and so are files beside the class directories and files without the ending of an image. Links to
        directories are followed.

    Returns
    -------
    paths : list of str
        Sorted by class, then by path.
    labels : ndarray of str, shape (n,)
        The class of each path.

    Raises
    ------
    NotADirectoryError
        If `directory` is not a directory.
    ValueError
        If it has no class directories, or one of them has no image.

    Examples
    --------
    >>> paths, labels = load_image_folder("flowers/train")  # doctest: +SKIP
    >>> sorted(set(labels))  # doctest: +SKIP
    ['daisy', 'rose']
    """
    root = Path(expand_home(directory))
    if not root.is_dir():
        raise NotADirectoryError(f"expected a directory of class directories, DIRECTORY/CLASS/IMAGE. Got {root}.")
    classes = [entry.name for entry in root.iterdir() if entry.is_dir() and not is_hidden(entry.name)]
    classes.sort(key=lambda name: (class_name(name), name))
    if not classes:
        raise ValueError(
            f"expected a directory of class directories, DIRECTORY/CLASS/IMAGE. Got {root}, which has no sub-directory."
        )
    warn_of_parts(classes)
    paths: list[str] = []
    labels: list[str] = []
    for name in classes:
        found = list_images(root / name)
        if not found:
            raise ValueError(f"the class directory {root / name} has no image. Known endings: {', '.join(EXTENSIONS)}.")
        paths += found
        labels += [class_name(name)] * len(found)
    return paths, np.array(labels)


def list_images(path: str | os.PathLike[str]) -> list[str]:
    """List the image files below a directory, sorted; of a file, that file alone.

    Links that lead nowhere are listed where their names have the ending of an image; reading them is the error.

    Raises
    ------
    FileNotFoundError
        If `path` does not exist.
    """
    root = Path(expand_home(path))
    if root.is_file():
        return [str(root)]
    if not root.is_dir():
        raise FileNotFoundError(f"no such file or directory: {root}")
    return scan(root).images


def read_paths(stream: BinaryIO) -> list[str]:
    """Read a list of paths: one a line, or separated by NUL characters, as ``find -print0`` writes them.

    Empty lines are left out. Names that are not UTF-8 keep their bytes, as everywhere in Python. A byte order mark is
    no part of the first name; one of UTF-16 says that all are in UTF-16, as some shells of Windows write them.
    """
    data = in_utf8(stream.read())
    if b"\0" not in data:
        # Lines count only where no NUL separates the names, which may have line breaks in them then.
        data = data.replace(b"\r\n", b"\0").replace(b"\n", b"\0")
    return [os.fsdecode(path) for path in data.split(b"\0") if path]
