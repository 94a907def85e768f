"""Progress bars: one rule for all of them, whoever shows them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, TypeAlias

Mode: TypeAlias = Literal["lines", "terminal", "none"]
_MODE: ContextVar[Mode] = ContextVar("progress_mode", default="lines")
SECONDS = 30
"""Between two lines of progress where nobody watches a bar."""


@contextmanager
def progress_mode(mode: Mode) -> Iterator[None]:
    """Decide where progress is shown: also as lines, on a terminal alone, or nowhere."""
    before = _MODE.set(mode)
    try:
        yield
    finally:
        _MODE.reset(before)


def progress_bar(iterable: Any = None, *, shown: bool | None = True, **options: Any) -> Any:
    """A progress bar of tqdm, on a terminal or in a notebook; elsewhere, as in a log, a line twice a minute at most.

    Parameters
    ----------
    iterable : iterable, default=None
        What the bar goes over; without it, `total` and the bar's `update` count.
    shown : bool or None, default=True
        Whether somebody asked for it. None shows it on a terminal or in a notebook, but makes no lines elsewhere.
    **options
        As of ``tqdm.tqdm``.

    Returns
    -------
    tqdm
        Also a context manager; one that shows nothing where nothing is to be shown.
    """
    from tqdm.auto import tqdm

    mode = _MODE.get()
    if shown is False or mode == "none":
        return tqdm(iterable, disable=True, **options)
    if _is_watched():
        return tqdm(iterable, **options)
    if shown is None or mode == "terminal":
        return tqdm(iterable, disable=True, **options)
    from frofa.utils.progress_lines import ProgressLines

    return ProgressLines(iterable, mininterval=SECONDS, **options)


def _is_watched() -> bool:
    """Whether standard error can show a bar that moves: it is a terminal, or the output of a notebook."""
    return "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty())
