"""Runs a property on many generated examples: a fixed small number of them, or for as long as is asked for.

``pytest tests/fuzzing/test_fuzz.py`` tries the same few examples of each target every time. With
``FROFA_FUZZ_MINUTES=60`` in the environment, an hour is divided among the targets that were selected, with other
examples every time; each says how many it tried. An example that fails is printed as Python code: it belongs into a
test of its own.
"""

import faulthandler
import json
import os
import random
import re
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.strategies import SearchStrategy
from PIL import UnidentifiedImageError

from frofa.exceptions import FrofaError
from frofa.utils.files import TEMPORARY

MINUTES = float(os.environ.get("FROFA_FUZZ_MINUTES", "0"))
LIMIT = 30
"""Seconds after which an example counts as one that hangs."""
PHASES = (Phase.generate, Phase.shrink)
PUBLIC = (FrofaError, ValueError, TypeError, OSError)
RAW = (json.JSONDecodeError, UnicodeError, np.linalg.LinAlgError, UnidentifiedImageError)
"""Errors of other libraries that are public ones only by descent."""
UNMEANT = re.compile(
    r"object is not (subscriptable|iterable|callable)|unexpected keyword|unsupported operand|to unpack|"
    r"object has no attribute|required positional|has no len\(\)|indices must be"
)
"""What Python says of a fault in code, not in an input."""
Example = TypeVar("Example")


class Hangs(BaseException):
    """An example takes too long; no `Exception`, so that nobody catches it, and Hypothesis does not look for more."""


@contextmanager
def public_errors(*more: type[Exception]) -> Iterator[None]:
    """Let errors pass that the documentation promises, and `more`; others are failures."""
    try:
        yield
    except more:
        pass
    except PUBLIC as error:
        ours = isinstance(error, FrofaError)  # which may quote what another library said
        if isinstance(error, RAW) or (not ours and UNMEANT.search(str(error))):
            raise AssertionError(f"a {type(error).__name__} that nobody meant: {error}") from error


class Fuzz:
    """Tries examples.

    Parameters
    ----------
    directory : Path
        Where examples put files; none may stay open there, nor may temporary ones be left.
    seconds : float
        For how long; 0 is the fixed number of examples.
    """

    def __init__(self, directory: Path, seconds: float):
        self.directory, self.seconds = directory, seconds
        self.n_examples = 0

    def __call__(self, strategy: SearchStrategy[Example], check: Callable[[Example], object], examples: int) -> None:
        """Check `examples` values of the strategy; or as many as there is time for, so many at once."""

        def run(example: Any) -> None:
            self.n_examples += 1
            with _limited(example), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                check(example)

        set_hypothesis_home_dir(self.directory / "hypothesis")
        options = settings(
            max_examples=examples,
            derandomize=not self.seconds,
            database=None,
            phases=PHASES,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        trial, end = options(given(strategy)(run)), time.monotonic() + self.seconds
        if not self.seconds:
            trial()
        while time.monotonic() < end:
            seed(random.SystemRandom().randrange(2**32))(trial)()
        self._check_leftovers()

    def _check_leftovers(self) -> None:
        assert list(self.directory.rglob(f"{TEMPORARY}*")) == []
        descriptors = Path("/proc/self/fd")
        if descriptors.is_dir():
            opened = [str(link.readlink()) for link in descriptors.iterdir() if link.is_symlink()]
            assert [path for path in opened if path.startswith(str(self.directory))] == []


@contextmanager
def _limited(example: object) -> Iterator[None]:
    """Fail after `LIMIT` seconds; end the process, with a traceback, if not even that helps."""

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (the signal's)
        raise Hangs(f"more than {LIMIT} s for {example!r}")

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    faulthandler.dump_traceback_later(5 * LIMIT, exit=True, file=sys.__stderr__ or 2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
