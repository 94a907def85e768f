"""Output of the command: results on standard output; notes, warnings and errors on standard error.

Names that cannot be encoded never raise: bytes of a file's name are written as they are, other characters as escapes.
"""

import codecs
import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TextIO

_QUIET: ContextVar[bool] = ContextVar("quiet", default=False)
KEEP_BYTES = "frofa-keep-bytes"
"""Error handler of encoding: ``surrogateescape``, and ``backslashreplace`` for what it cannot write."""


def _keep_bytes(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    # A run may mix bytes of a file's name with other characters: one at a time, each in the way that suits it.
    first = UnicodeEncodeError(error.encoding, error.object, error.start, error.start + 1, error.reason)
    try:
        return codecs.lookup_error("surrogateescape")(first)
    except UnicodeEncodeError:
        return codecs.lookup_error("backslashreplace")(first)


codecs.register_error(KEEP_BYTES, _keep_bytes)


@contextmanager
def console(*, quiet: bool) -> Iterator[None]:
    """Make both streams take every name, and silence `note` where `quiet` is set."""
    # Streams that a caller put in the place of the standard ones may be of any kind, and stay as they are.
    changed = [(stream, stream.errors) for stream in (sys.stdout, sys.stderr) if hasattr(stream, "reconfigure")]
    for stream, _ in changed:
        stream.reconfigure(errors=KEEP_BYTES)
    token = _QUIET.set(quiet)
    try:
        yield
    finally:
        _QUIET.reset(token)
        for stream, errors in changed:
            with suppress(OSError, ValueError):  # what is left in its buffer cannot be written
                stream.reconfigure(errors=errors)


def say(text: str) -> None:
    """Write a line about work that is done: where standard output takes none, the work is done none the less."""
    try:
        _write(sys.stdout, f"{text}\n")
    except BrokenPipeError:
        _silence(sys.stdout)
    except OSError as error:
        _silence(sys.stdout)
        warn(f"cannot write to standard output: {error.strerror}")


def emit(text: str) -> None:
    """Write a result that is kept nowhere else; OSError if standard output does not take it."""
    _emit(lambda: _write(sys.stdout, f"{text}\n"))


def emit_data(data: bytes) -> None:
    """Write a file's content, byte by byte, whatever the encoding of standard output; errors as of `emit`."""
    _emit(lambda: _write_bytes(sys.stdout, data))


def note(text: str) -> None:
    """Say what goes on, or what was left out; nothing with ``--quiet``."""
    if not _QUIET.get():
        complain(text)


def warn(text: str) -> None:
    """Say what may be wrong."""
    complain(f"warning: {text}")


def fail(text: str) -> None:
    """Say why the command failed, in one line."""
    complain(f"error: {' '.join(text.split())}")


def complain(text: str) -> None:
    """Write a line on standard error, if it takes one."""
    try:
        _write(sys.stderr, f"frofa: {text}\n")
    except OSError:
        _silence(sys.stderr)


def _emit(write: Callable[[], None]) -> None:
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, "it is closed")
        write()
    except OSError as error:
        _silence(sys.stdout)
        raise OSError(f"cannot write to standard output: {error.strerror}") from error


def _write(stream: TextIO | None, text: str) -> None:
    if stream is not None:  # closed by who started the command
        stream.write(text)
        stream.flush()


def _write_bytes(stream: TextIO, data: bytes) -> None:
    binary = getattr(stream, "buffer", None)
    if binary is None:
        _write(stream, data.decode("utf-8", "surrogateescape"))
        return
    # What was written as text waits in a buffer of its own, and comes first.
    stream.flush()
    binary.write(data)
    binary.flush()


def _silence(stream: TextIO | None) -> None:
    """Lead a stream nowhere, so that neither later lines nor the interpreter's end fail on it."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # type: ignore[union-attr] # None has no fileno, which is suppressed
        os.close(nowhere)
