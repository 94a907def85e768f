"""Keys and features made of numbers, and processes that meet a fault at a chosen moment."""

import errno
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tqdm.auto import tqdm

from frofa.store import FeatureSpec, FeatureStore

SPEC = FeatureSpec("weights", "architecture", "{}", "decoder", "tokens", 1, True, "float32", "float32")
KILLS = int(os.environ.get("FROFA_KILLS", "12"))
"""How many random moments a process is killed at; the project's own figure is 200."""
STEP = 1 if KILLS >= 200 else 7
"""Of the calls of the system, every how many-th a process is killed at."""

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
Act = Callable[["Faults"], object]


def key(i: int) -> str:
    return blake2b(str(i).encode(), digest_size=20).hexdigest()


def keys(numbers: Iterable[int]) -> list[str]:
    return [key(i) for i in numbers]


def features(numbers: Iterable[int]) -> npt.NDArray[Any]:
    """Shape (n, 2, 3): what belongs to `keys` of the same numbers."""
    first = np.array(list(numbers), np.float32)[:, None, None]
    return first + np.arange(6, dtype=np.float32).reshape(2, 3) * np.float32(0.125)


def filled(path: Path, *batches: Iterable[int]) -> FeatureStore:
    """A store with a shard for each batch."""
    store = FeatureStore(path)
    for batch in batches:
        store.put(SPEC, keys(numbers := list(batch)), features(numbers))
    return store


def assert_holds(store: FeatureStore, numbers: Iterable[int]) -> None:
    wanted = list(numbers)
    assert store.missing(SPEC, keys(wanted)) == []
    if wanted:
        np.testing.assert_array_equal(store.get(SPEC, keys(wanted)), features(wanted))


def snapshot(path: Path) -> dict[str, bytes]:
    """The content of all files, and the directories."""
    found = {str(file.relative_to(path)): file for file in path.rglob("*")}
    return {name: file.read_bytes() if file.is_file() else b"" for name, file in sorted(found.items())}


class Child:
    """A forked process that runs a function; what the function reports can be read when it has ended.

    Parameters
    ----------
    function : callable
        Takes a function that reports a number.
    """

    def __init__(self, function: Callable[[Callable[[int], None]], object]):
        self._read, write = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(write)
            return

        # tqdm's own lock is shared by processes that were forked: a child that is killed with it would keep it.
        tqdm.set_lock(threading.RLock())

        def report(number: int) -> None:
            os.write(write, b"%d\n" % number)

        try:
            function(report)
            os._exit(0)
        except OSError as error:
            os.write(write, f"{type(error).__name__}: {error}".encode())
            os._exit(3)
        except BaseException:
            os.write(write, traceback.format_exc().encode())
        finally:
            os._exit(1)

    def wait(self) -> tuple[int, list[int], str]:
        """The exit status, negative for a signal; the numbers it reported; the error it ended with."""
        with os.fdopen(self._read, "rb") as pipe:
            *reported, error = pipe.read().decode().split("\n", maxsplit=-1)
        lines = [int(line) for line in reported if line.isdigit()]
        text = "\n".join([*(line for line in reported if not line.isdigit()), error])
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]), lines, text

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


class Faults:
    """Counts what this process asks of the file system, and does something at the k-th call.

    There is no way back: to be used in a `Child`.

    Parameters
    ----------
    at : int
        From 1; a larger number than there are calls does nothing.
    act : callable
        Called before the k-th call is carried out; half of what a write is to write is written before.
    removals : bool
        Whether deletions count.
    """

    def __init__(self, at: int, act: Act, *, removals: bool = True):
        self.at, self.n_calls, self.fired = at, 0, False
        self.act: Act = act
        events = {"os.mkdir", "os.rename"} | ({"os.remove", "os.rmdir"} if removals else set())
        fsync, opened, faults = os.fsync, io.open, self

        class Raw(io.FileIO):
            def write(self, data: Any) -> int:
                faults.n_calls += 1
                if faults.n_calls >= faults.at:
                    super().write(memoryview(data)[: len(data) // 2])
                    faults.fire()
                return super().write(data) or 0

        def open_(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if mode in ("xb", "wb"):
                return io.BufferedWriter(Raw(path, mode))
            return opened(path, mode, *arguments, **options)

        def synced(descriptor: int) -> None:
            self.step()
            fsync(descriptor)

        def audited(event: str, arguments: tuple[Any, ...]) -> None:
            if event in events or (event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT):
                self.step()

        Path.open = open_  # type: ignore[method-assign, assignment]
        os.fsync = synced  # type: ignore[assignment]
        sys.addaudithook(audited)

    def step(self) -> None:
        self.n_calls += 1
        if self.n_calls >= self.at:
            self.fire()

    def fire(self) -> None:
        self.fired = True
        self.act(self)


def kill(_: Faults) -> None:
    """End this process as the power does."""
    os.kill(os.getpid(), signal.SIGKILL)


def full_once(faults: Faults) -> None:
    """A disk that is full, and has room again for the next call."""
    faults.at = sys.maxsize
    raise OSError(errno.ENOSPC, "No space left on device")


def full(_: Faults) -> None:
    """A disk that is full and stays full."""
    raise OSError(errno.ENOSPC, "No space left on device")
