"""Progress for a log: whole lines, few of them."""

import time
from typing import Any

from tqdm.std import tqdm


class ProgressLines(tqdm):  # type: ignore[type-arg]
    """A bar of tqdm that writes its state as a line of its own, each `mininterval` seconds and at the end.

    One that is not to stay (``leave=False``), or ends before its `delay`, has no line at the end.
    """

    def __init__(
        self, iterable: Any = None, *, mininterval: float, leave: bool = True, delay: float = 0, **options: Any
    ):
        self._stays, self._delay = leave, delay
        options |= {"mininterval": mininterval, "maxinterval": mininterval, "delay": max(delay, mininterval)}
        super().__init__(iterable, **options, leave=False, ncols=100)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:  # type: ignore[override]  # noqa: ARG002 (tqdm's signature)
        """Write the state, or another text, as a line; there is nothing to clear, which tqdm asks for by no text."""
        text = str(self) if msg is None else msg
        if text:
            self.fp.write(f"{text}\n")
            self.fp.flush()
        return bool(text)

    def close(self) -> None:
        """Write the last state, once."""
        ends = not self.disable and self._stays and self.n and time.time() >= self.start_t + self._delay
        text = str(self) if ends else ""
        super().close()
        self.display(text)
