"""Files of the page, as they lie in the package: read once, and known by their exact names."""

from importlib.resources import files
from pathlib import PurePosixPath

PACKAGES = ("frofa.web", "frofa.annotation")
"""Packages with a folder called ``assets``; of two files of one name, the later one counts."""
KINDS = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def read_assets() -> dict[str, tuple[str, bytes]]:
    """Read the type and the content of each file by its name; files of other kinds are not served."""
    found = {}
    for package in PACKAGES:
        folder = files(package).joinpath("assets")
        for entry in folder.iterdir() if folder.is_dir() else ():
            kind = KINDS.get(PurePosixPath(entry.name).suffix)
            if kind is not None and entry.is_file():
                found[entry.name] = kind, entry.read_bytes()
    return found
