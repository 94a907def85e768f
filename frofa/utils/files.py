"""Files and directories that appear whole or not at all, also when the power fails."""

import errno
import os
import secrets
import shutil
import stat
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from frofa.exceptions import StoreNotWrittenWarning

TEMPORARY = ".tmp-"
"""The beginning of the names of what is being written; nothing reads it."""
STALE_AFTER = 3600.0
"""Seconds without a change after which something temporary belongs to nobody."""
_UNSYNCABLE = (errno.EACCES, errno.EPERM, errno.EINVAL, errno.EBADF, errno.ENOTSUP)


def expand_home(path: str | os.PathLike[str]) -> str:
    """Put the home directory for a ``~`` at the start of a path that a user gave, as a shell does.

    The home of a user who does not exist is left as it is: there may be such a file.
    """
    return os.path.expanduser(os.fspath(path))  # noqa: PTH111 (pathlib's raises a RuntimeError for such a user)


def user_cache() -> Path:
    """Give the directory of what frofa keeps for its user: below ``$XDG_CACHE_HOME``, or ``~/.cache``."""
    return Path(expand_home(os.environ.get("XDG_CACHE_HOME") or "~/.cache")) / "frofa"


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Create or replace the file `path` with what `write` puts into a binary file.

    The data is on disk when this returns; a crash at any moment leaves the old file or the new one, and at worst a
    ``.tmp-*`` file beside it, which nothing reads.
    """
    write_together({path: write})


def write_together(contents: Mapping[Path, Callable[[BinaryIO], object]]) -> None:
    """Create or replace several files, none before all of them are written; as `write_atomically` does one.

    Only between the last steps, which take no space for data, a crash may leave some of them new and others old.
    """
    temporaries = {path: _temporary(path) for path in contents}
    new, placed = [path for path in contents if not path.exists()], set[Path]()
    try:
        # What can fail for want of space comes first, for all of them.
        for path, temporary in temporaries.items():
            with _named(path):
                _write_synced(temporary, contents[path])
        for path, temporary in temporaries.items():
            with _named(path):
                temporary.replace(path)
                placed.add(path)
                sync_directory(path.parent)
    except BaseException:
        # Files that were not there before do not stay without the others.
        alone = placed.intersection(new) if len(placed) < len(contents) else ()
        for file in (*temporaries.values(), *alone):
            with suppress(OSError):
                file.unlink()
        raise


def create_directory(path: Path, contents: dict[str, Callable[[BinaryIO], object]]) -> bool:
    """Create the directory `path`, in one that exists, with files in it, all at once.

    `contents` has the name of each file, and what writes it. Returns False if there was such a directory already, which
    is left as it is.
    """
    temporary = _temporary(path)
    try:
        with _named(path):
            # All is written under another name; the rename at the end makes it appear at once.
            temporary.mkdir()
            for name, write in contents.items():
                _write_synced(temporary / name, write)
            sync_directory(temporary)
            created = _move_new(temporary, path)
            sync_directory(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return created


def make_directories(path: Path) -> None:
    """Create a directory, and those above it, if they are not there; they are on disk when this returns."""
    if not path.parent.is_dir():
        make_directories(path.parent)
    make_directory(path)


def make_directory(path: Path) -> None:
    """Create a directory in one that is there, if it is not there itself; it is on disk when this returns."""
    with _named(path):
        try:
            path.mkdir()
        except FileExistsError:
            # Another process made it, and may have removed it since: looked at once, it is a directory, a file or gone.
            with suppress(FileNotFoundError):
                if not stat.S_ISDIR(path.stat().st_mode):
                    raise
        sync_directory(path.parent)  # also if it was there: whoever made it may not have come to this yet


def remove_directory(path: Path) -> None:
    """Remove a directory with all in it: it is gone at once, whatever happens while its files are deleted."""
    going = _temporary(path)
    try:
        # The rename is the removal: after it, nothing reads what is deleted file by file.
        path.rename(going)
    except FileNotFoundError:  # another process was faster
        return
    try:
        sync_directory(path.parent)
    finally:
        shutil.rmtree(going, ignore_errors=True)


def remove_stale(directory: Path) -> int:
    """Delete what crashes have left in a directory; return how many bytes that frees."""
    freed = 0
    for entry in directory.glob(f"{TEMPORARY}*"):
        # As old as its newest part: a writer may be busy in it for long.
        stats = [*_stats([entry]), *_stats(_files_below(entry))]
        if stats and max(status.st_mtime for status in stats) < time.time() - STALE_AFTER:
            freed += sum(status.st_size for status in stats)
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
    return freed


def clock_behind(directory: Path) -> tuple[int, float]:
    """Ask a directory for the number of its device, and by how many seconds its clock is behind this machine's, or 0.

    Times of files are those of the clock of who keeps them, on a network of a server.
    """
    probe, now = _temporary(directory / TEMPORARY), time.time()
    try:
        with _named(directory):
            probe.touch(exist_ok=False)
            status = probe.stat()
    finally:
        with suppress(OSError):
            probe.unlink()
    return status.st_dev, max(0.0, now - status.st_mtime)


def disk_usage(path: Path) -> int:
    """Add up the bytes of all files below a directory."""
    return sum(status.st_size for status in _stats(_files_below(path)))


def sync_directory(directory: Path) -> None:
    """Put a directory's entries on disk, where the system can do that."""
    if os.name == "nt":  # directories cannot be opened there
        return
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except PermissionError:  # entries can be made where they cannot be listed
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSYNCABLE:  # some network file systems have no such call, and need none
            raise
    finally:
        os.close(descriptor)


def warn_not_written(path: Path, error: OSError, consequence: str) -> None:
    """Warn that something cannot be written which nothing depends on."""
    why = os.strerror(error.errno) if isinstance(error.errno, int) else error
    message = f"{path} cannot be written ({why}): {consequence}"
    warnings.warn(message, StoreNotWrittenWarning, stacklevel=3)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")


def _write_synced(path: Path, write: Callable[[BinaryIO], object]) -> None:
    with path.open("xb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


def _move_new(source: Path, target: Path) -> bool:
    try:
        source.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        shutil.rmtree(source)  # the same name was given to the same content
        return False
    return True


def _files_below(path: Path) -> Iterator[Path]:
    # Of the standard ways to list a tree, this is the one that takes it when others change it meanwhile.
    return (Path(directory, name) for directory, _, names in os.walk(path) for name in names)


def _stats(files: Iterable[Path]) -> Iterator[os.stat_result]:
    """The status of those that are still there."""
    for file in files:
        with suppress(FileNotFoundError):
            yield file.lstat()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say in the system's errors which file could not be written; others pass."""
    try:
        yield
    except OSError as error:
        if not isinstance(error.errno, int):
            raise
        raise type(error)(error.errno, f"cannot write it: {error.strerror}", str(path)) from error
