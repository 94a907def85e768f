"""The token and the port of a labelling server, kept by file of labels, so that its address stays the same."""

import hmac
import json
import os
import re
import secrets
import stat
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from filelock import FileLock, Timeout

from frofa.utils.files import TEMPORARY, make_directories, user_cache

TOKEN_BYTES = 32
CODE_SECONDS = 60.0
TOKEN = re.compile(r"[\w-]{43}", re.ASCII)
"""The tokens that `secrets.token_urlsafe` makes of so many bytes."""


@dataclass
class Access:
    """The token that the page's address has, and the port of last time, 0 if there was none.

    Only one of several servers for one file of labels owns the file in which both are kept: the others have ports and
    tokens of their own. The file can be read by its user alone.
    """

    token: str
    port: int = 0
    path: Path | None = None
    lock: FileLock | None = None

    def keep(self, port: int) -> None:
        """Write the token and the port for the next time; where that cannot be done, the next address is another."""
        self.port = port
        if self.path is not None:
            with suppress(OSError):
                _write_private(self.path, json.dumps({"port": port, "token": self.token}).encode())

    def release(self) -> None:
        """Let another server own the file."""
        if self.lock is not None:
            self.lock.release()


class OneTimeCode:
    """A code that stands for the token once, within a minute.

    What starts a browser has its address among its arguments, which all users of a machine can see for as long as it
    runs.
    """

    def __init__(self) -> None:
        self._code, self._until = "", 0.0
        self._lock = threading.Lock()

    def give(self) -> str:
        """Draw a new code, in the place of the last."""
        with self._lock:
            self._code, self._until = new_token(), time.monotonic() + CODE_SECONDS
            return self._code

    def take(self, code: str) -> bool:
        """Tell whether this is the code; if it is, it is not any more."""
        with self._lock:
            sound = bool(self._code) and time.monotonic() < self._until and is_token(code, self._code)
            if sound:
                self._code = ""
            return sound


def is_token(given: str, token: str) -> bool:
    """Compare in a time that does not depend on how much of it is right."""
    return hmac.compare_digest(given.encode("utf-8", "backslashreplace"), token.encode())


def new_token() -> str:
    """Draw a token of 256 bits."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def access_to(labels: Path, directory: Path | None = None) -> Access:
    """Find the token and port that were kept for a file of labels, or draw a new token.

    They are kept in the user's cache, unless another directory is given.
    """
    folder = directory or user_cache() / "labelling"
    name = sha256(os.fsencode(os.path.realpath(labels))).hexdigest()[:32]
    try:
        make_directories(folder)
        folder.chmod(0o700)
        lock = FileLock(folder / f"{name}.lock", mode=0o600, thread_local=False)
        lock.acquire(timeout=0)
    except (OSError, Timeout):
        return Access(new_token())
    path = folder / f"{name}.json"
    token, port = _read_private(path) or (new_token(), 0)
    return Access(token, port, path, lock)


def _read_private(path: Path) -> tuple[str, int] | None:
    """Read token and port; None where the file is not there, is not the user's alone, or has something else in it."""
    try:
        # A link is not followed, and a pipe not waited for.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or not _is_own(status):
                return None
            content = json.loads(file.read(1024))
        token, port = content["token"], content["port"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    sound = isinstance(token, str) and TOKEN.fullmatch(token) and type(port) is int and 0 < port < 2**16
    return (token, port) if sound else None


def _is_own(status: os.stat_result) -> bool:
    return os.name == "nt" or (status.st_uid == os.getuid() and not status.st_mode & 0o077)


def _write_private(path: Path, data: bytes) -> None:
    """Replace a file by one that nobody else could read at any moment."""
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
