"""The images below a directory, and none outside it, whatever links lead there."""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from frofa.images.items import LazyImage
from frofa.images.listing import count, is_hidden, is_image_name
from frofa.images.pixels.budget import refuse_large


@dataclass(frozen=True)
class Folder:
    """A directory without links in its path, the images below it, and sentences about what was left out.

    Names are relative to the directory, with slashes, and sorted.
    """

    root: Path
    names: list[str]
    notes: list[str] = field(default_factory=list)


def list_folder(directory: Path) -> Folder:
    """List the images below a directory without following links to directories.

    A link to a file is taken if the file lies below the directory, too. Hidden files and directories are left out, as
    everywhere in frofa. OSError if the directory itself cannot be listed; those below it that cannot are noted.
    """
    root = os.path.realpath(directory)
    names: list[str] = []
    notes: list[str] = []
    n_links, waiting = 0, [("", root)]
    os.scandir(root).close()
    while waiting:
        above, path = waiting.pop()
        try:
            with os.scandir(path) as entries:
                found = [entry for entry in entries if not is_hidden(entry.name)]
        except OSError as error:
            notes.append(f"cannot list the directory {path}: {error.strerror}")
            continue
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                waiting.append((f"{above}{entry.name}/", entry.path))
            elif entry.is_symlink() and not _leads_to_image(entry, root):
                n_links += is_image_name(entry.name) or os.path.isdir(entry.path)  # noqa: PTH112 (False for a loop)
            elif is_image_name(entry.name) and entry.is_file():
                names.append(above + entry.name)
    if n_links:
        notes.append(
            f"{count(n_links, 'link')} left out: links to directories are not followed, nor those to files outside "
            f"{root}. Give the directory that they lead to."
        )
    return Folder(Path(root), sorted(names), notes)


def _leads_to_image(entry: "os.DirEntry[str]", root: str) -> bool:
    try:
        return entry.is_file() and is_inside(os.path.realpath(entry.path), root)
    except OSError:  # a loop of links
        return False


def is_inside(path: str, root: str) -> bool:
    """Tell whether a path without links lies below a directory without links in its path."""
    return path.startswith(os.path.join(root, ""))  # noqa: PTH118 (a prefix of names)


@dataclass(frozen=True)
class FolderImage(LazyImage):
    """An image below a directory, which is looked at again when it is read: it may be a link elsewhere by then."""

    root: str
    name: str

    def describe(self) -> str:
        """Name the image by its path below the directory."""
        return self.name

    @property
    def n_bytes(self) -> int:
        """Bytes of the file; 0 where it is not there any more."""
        try:
            return os.stat(os.path.join(self.root, self.name)).st_size  # noqa: PTH116, PTH118 (as below)
        except OSError:
            return 0

    def read(self) -> bytes:
        """Read the file; an OSError says that it is none, lies elsewhere now, or is too large."""
        path = os.path.realpath(os.path.join(self.root, self.name))  # noqa: PTH118 (realpath takes strings)
        if not is_inside(path, self.root):
            raise OSError(f"a link to a file outside {self.root}")
        # The last part is no link any more, and a pipe is not waited for.
        descriptor = os.open(path, os.O_RDONLY | _flag("O_NOFOLLOW") | _flag("O_NONBLOCK") | _flag("O_BINARY"))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError("not a file")
            refuse_large(status.st_size)
            return file.read()


def _flag(name: str) -> int:
    return int(getattr(os, name, 0))


def classes_of_folders(names: Sequence[str]) -> list[str]:
    """Give the first directory of each name, ``""`` where the image lies in the directory itself."""
    return [name.partition("/")[0] if "/" in name else "" for name in names]
