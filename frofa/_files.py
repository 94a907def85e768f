"""Files and directories that appear whole or not at all."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

TEMPORARY = ".tmp-"
"""How the names of what is being written begin; nothing reads those."""
STALE_AFTER = 3600.0
"""Seconds without a change after which something temporary belongs to nobody."""


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Create or replace the file `path` with what `write` puts into a binary file.

    The data is on disk when this returns; a crash at any moment leaves the old file or the new one, and at worst a
    ``.tmp-*`` file beside it, which nothing reads.
    """
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())  # mkstemp makes private files
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def create_directory(path: Path, contents: dict[str, Callable[[BinaryIO], object]]) -> bool:
    """Create the directory `path` with files in it, all at once.

    Parameters
    ----------
    path : Path
        In a directory that exists.
    contents : dict of str to callable
        The name of each file, and what writes it.

    Returns
    -------
    bool
        False if there was such a directory already, which is left as it is.
    """
    try:
        temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=path.parent))
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        for name, write in contents.items():
            with (temporary / name).open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
        sync_directory(temporary)
        temporary.chmod(0o777 & ~_umask())  # mkdtemp makes private directories
        created = _move_new(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_directory(path.parent)
    return created


def remove_directory(path: Path) -> None:
    """Remove a directory with all in it: it is gone at once, whatever happens while its files are deleted."""
    try:
        bin_ = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=path.parent))
        path.replace(bin_ / path.name)
    except FileNotFoundError:  # another process was faster
        bin_.rmdir()
        return
    sync_directory(path.parent)
    shutil.rmtree(bin_, ignore_errors=True)


def remove_stale(directory: Path) -> int:
    """Delete what crashes have left in a directory; return how many bytes that frees."""
    freed = 0
    for entry in directory.glob(f"{TEMPORARY}*"):
        files = [entry, *entry.rglob("*")]
        stats = [file.lstat() for file in files if file.exists()]
        if stats and max(stat.st_mtime for stat in stats) < time.time() - STALE_AFTER:
            freed += sum(stat.st_size for stat in stats)
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
    return freed


def sync_directory(directory: Path) -> None:
    """Put a directory's entries on disk."""
    if os.name == "nt":  # directories cannot be opened there
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _move_new(source: Path, target: Path) -> bool:
    try:
        source.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        shutil.rmtree(source)  # the same name was given to the same content
        return False
    return True


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _cannot_write(path: Path, error: OSError) -> OSError:
    return type(error)(error.errno, f"cannot write it: {error.strerror}", str(path))
