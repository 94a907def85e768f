"""Listing the images below a directory, and a count and notes of what else is there."""

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from frofa.images.items import ImageItem, describe
from frofa.images.pixels.formats import EXTENSIONS

BESIDE = "beside the class folders"
"""Words of the note on files that have no class."""


@dataclass
class Listing:
    """Paths of images, sorted; the number of other files of each ending; and notes of surprises, a sentence each.

    Links that lead nowhere are listed if their names have the ending of an image, so that reading them is an error.
    """

    images: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def is_image_name(name: str) -> bool:
    """Tell whether a file's name has the ending of an image."""
    return ending(name) in EXTENSIONS


def ending(name: str) -> str:
    """Give a file's ending in lower case, with the dot."""
    return PurePosixPath(name).suffix.lower()


def is_hidden(name: str) -> bool:
    """Tell whether files and directories of this name are left out: hidden ones, and those macOS adds to archives."""
    return name == "__MACOSX" or (name.startswith(".") and name not in (".", ".."))


def scan(root: str | os.PathLike[str]) -> Listing:
    """List a directory with all its sub-directories.

    Links to directories are followed, but for one that leads to a directory it lies in. A sub-directory that cannot be
    listed is a warning; of `root` itself, the OSError is raised.
    """
    found = Listing()
    top = os.fspath(root)
    # If the root itself cannot be listed, this raises; below it, that is a warning.
    os.scandir(top).close()
    # Each directory waits with the identities of those it lies in.
    waiting: list[tuple[str, tuple[tuple[int, int], ...]]] = [(top, ())]
    while waiting:
        path, above = waiting.pop()
        try:
            here = (*above, _identity(path))
            with os.scandir(path) as found_here:
                entries = [entry for entry in found_here if not is_hidden(entry.name)]
        except OSError as error:
            warnings.warn(f"cannot list the directory {path}: {error.strerror}", stacklevel=2)
            continue
        for entry in entries:
            # Only a link can lead back up; other directories cannot lie in themselves.
            if not _is_directory(entry):
                _add_file(found, entry)
            elif entry.is_symlink() and _identity(entry.path) in here:
                found.notes.append(f"{entry.path} is a link to a directory that it lies in: not followed")
            else:
                if is_image_name(entry.name):
                    found.notes.append(f"{entry.path} is a directory, not an image")
                waiting.append((entry.path, here))
    found.images.sort()
    found.notes.sort()
    return found


def describe_others(others: Mapping[str, int]) -> list[str]:
    """Say in one sentence how many files are not images; nothing if there are none."""
    if not others:
        return []
    common = sorted(others.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{kind or 'no ending'} ({number})" for kind, number in common[:5])
    rest = f", and {len(common) - 5} more endings" if len(common) > 5 else ""
    return [f"{count(sum(others.values()), 'file')} of other kinds ignored: {listed}{rest}"]


def describe_ignored(noun: str, items: Sequence[ImageItem], which: str) -> list[str]:
    """Say in one sentence how many images are left out, with the first as an example; nothing if there are none."""
    if not items:
        return []
    verb = "is" if len(items) == 1 else "are"
    return [f"{count(len(items), noun)} {which} {verb} ignored, such as {describe(items[0])}"]


def count(number: int, noun: str) -> str:
    """Put a number before its noun: ``1 file``, ``2 files``, ``2 classes``."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116 (no Path object for each of many directories)
    return status.st_dev, status.st_ino


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False


def _add_file(found: Listing, entry: os.DirEntry[str]) -> None:
    try:
        # A link that leads nowhere counts as a file, so that its name is in the error.
        readable = entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))  # noqa: PTH110
    except OSError:  # a loop of links
        readable = True
    if not readable:  # reading one may never end
        found.others["pipe or device"] += 1
    elif is_image_name(entry.name):
        found.images.append(entry.path)
    else:
        found.others[ending(entry.name)] += 1


PARTS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})


def are_parts(classes: Iterable[str]) -> bool:
    """Tell whether all classes are called like the parts of a data set, as when the folder above them was given."""
    names = set(classes)
    return len(names) > 1 and PARTS.issuperset(name.lower() for name in names)


def warn_of_parts(classes: Iterable[str]) -> None:
    """Warn that classes are called like the parts of a data set."""
    names = sorted(set(classes))
    if are_parts(names):
        warnings.warn(
            f"the classes are {', '.join(names)}, which look like the parts of a data set: give the folder of one of "
            "them, which has the class folders.",
            stacklevel=3,
        )
