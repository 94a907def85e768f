"""Images by the names that other tools have for them: files in a folder, and nowhere else."""

import os
from collections.abc import Iterator
from pathlib import Path

from frofa.images.listing import count, is_image_name
from frofa.utils.text import one_line


class Places:
    """Images in a folder, found by name. No file is opened, and none outside the folder is told of.

    Parameters
    ----------
    root : Path
        The folder that all images are in.
    base : Path
        The folder of the record, from which its paths are.

    Attributes
    ----------
    missing, outside : list of str
        Names of which there was no file, and those that lead out of the folder.
    """

    def __init__(self, root: Path, base: Path):
        self.root, self.base = os.path.abspath(root), os.path.abspath(base)  # noqa: PTH100 (links stay what they are)
        self._real = os.path.realpath(root)
        self.missing: list[str] = []
        self.outside: list[str] = []
        self._by_name: dict[str, list[str]] | None = None

    def find(self, name: str) -> str | None:
        """Give the path in the record of a file, by its path from the folder, or an absolute one."""
        path = os.path.normpath(os.path.join(self.root, name))  # noqa: PTH118 (text of any kind)
        if "\0" in name or not _is_within(path, self.root) or not _is_within(os.path.realpath(path), self._real):
            self.outside.append(name)
            return None
        if not os.path.isfile(path):  # noqa: PTH113 (a name that is too long is no file)
            self.missing.append(name)
            return None
        return Path(os.path.relpath(path, self.base)).as_posix()

    def find_by_name(self, *names: str) -> str | None:
        """Give the path in the record of the only image in the folder with one of these names, the first that there is.

        Names that several images have are missing.
        """
        if self._by_name is None:
            self._by_name = {}
            for path in _images(self.root):
                self._by_name.setdefault(os.path.basename(path), []).append(path)  # noqa: PTH119
        for name in names:
            if len(found := self._by_name.get(name, [])) == 1:
                return self.find(found[0])
        self.missing.append(names[0])
        return None

    def notes(self) -> list[str]:
        """Say which names are those of no image, in a sentence each.

        A ValueError says that some lead out of the folder.
        """
        if self.outside:
            raise ValueError(
                f"expected images in {self.root}. Got {count(len(self.outside), 'name')} of files elsewhere, such as "
                f"{one_line(repr(self.outside[0]), 120)}: say by --root where they are. Nothing is written."
            )
        if not self.missing:
            return []
        some = ", ".join(one_line(repr(name), 80) for name in self.missing[:3])
        elsewhere = "say by --root where the images are, if that is elsewhere"
        n = count(len(self.missing), "image")
        return [f"left out, as there is no such file in {self.root}: {n}, such as {some}; {elsewhere}"]


def _is_within(path: str, root: str) -> bool:
    return path == root or path.startswith(root if root.endswith(os.sep) else root + os.sep)


def _images(root: str) -> Iterator[str]:
    for folder, _, names in os.walk(root):
        yield from (os.path.join(folder, name) for name in names if is_image_name(name))  # noqa: PTH118
