"""Progress bars: one rule for all of them, whoever shows them."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, Literal, TypeAlias

Mode: TypeAlias = Literal["lines", "terminal", "none"]
_MODE: ContextVar[Mode] = ContextVar("progress_mode", default="lines")
SECONDS = 30
"""Time between two lines of progress where nobody watches a bar."""


@contextmanager
def progress_mode(mode: Mode) -> Iterator[None]:
    """Decide where progress is shown meanwhile: also as lines, on a terminal alone, or nowhere."""
    before = _MODE.set(mode)
    try:
        yield
    finally:
        _MODE.reset(before)


def progress_bar(iterable: Any = None, *, shown: bool | None = True, **options: Any) -> Any:
    """A progress bar of tqdm, on a terminal or in a notebook; elsewhere, as in a log, a line twice a minute at most.

    Without an iterable, `total` and the bar's `update` count. `shown`: False shows nothing, None writes no lines
    elsewhere. Options are those of ``tqdm.tqdm``.
    """
    from tqdm.auto import tqdm

    mode = _MODE.get()
    if shown is False or mode == "none":
        return tqdm(iterable, disable=True, **options)
    if _is_watched():
        return tqdm(iterable, **options)
    if shown is None or mode == "terminal":
        return tqdm(iterable, disable=True, **options)
    return _progress_lines()(iterable, mininterval=SECONDS, **options)


@cache
def _progress_lines() -> type[Any]:
    """Derive the bar for a log from tqdm, which is slow to import and so imported for a bar alone."""
    from tqdm.std import tqdm

    class ProgressLines(tqdm):  # type: ignore[type-arg]
        """A bar that writes its state as a line of its own, each `mininterval` seconds and at the end.

        One that is not to stay (``leave=False``), or ends before its `delay`, has no line at the end.
        """

        def __init__(
            self, iterable: Any, *, mininterval: float, leave: bool = True, delay: float = 0, **options: Any
        ) -> None:
            self._stays, self._delay = leave, delay
            options |= {"mininterval": mininterval, "maxinterval": mininterval, "delay": max(delay, mininterval)}
            super().__init__(iterable, **options, leave=False, ncols=100)

        def display(self, msg: str | None = None, pos: int | None = None) -> bool:  # type: ignore[override]  # noqa: ARG002 (tqdm's signature)
            text = str(self) if msg is None else msg
            # No text is how tqdm asks to clear the bar: of lines, there is nothing to clear.
            if text:
                self.fp.write(f"{text}\n")
                self.fp.flush()
            return bool(text)

        def close(self) -> None:
            ends = not self.disable and self._stays and self.n and time.time() >= self.start_t + self._delay
            text = str(self) if ends else ""
            super().close()
            self.display(text)

    return ProgressLines


def _is_watched() -> bool:
    """Tell whether standard error can show a bar that moves: on a terminal, or in a notebook."""
    return "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty())
