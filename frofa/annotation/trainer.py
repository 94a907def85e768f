"""Threads that learn while people label: what they find is there at once, and what was there stays of use."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from frofa.annotation.learning.knowledge import Knowledge
from frofa.annotation.learning.situation import Situation
from frofa.utils.text import one_line

if TYPE_CHECKING:
    from frofa.annotation.learning.learner import Learner

FIT = "fit"
TROUBLES = {
    FIT: "Nothing is learnt from these labels",
    "order": "Images are not shown by what is learnt from them",
    "guesses": "Images are not guessed",
    "groups": "Groups of images are not looked for",
    "mistakes": "Mistakes are not looked for",
    "needed": "The number of labels that are needed is not estimated",
}
"""Sentences about parts of learning that fail, while the others go on."""
SECONDS = 0.1
"""Time between two looks for new labels and features."""
CLOSING_SECONDS = 10.0
"""Time that a step may take to its end after all others have ended."""
BATCHES = 5
"""Batches of images that are suggested ahead."""
GROWTH = 1.3
"""Factor by which features must have grown before all is learnt anew, if they are not complete."""


class Moment(NamedTuple):
    """The state of a session: rows of its record, images with features, and whether these are all there will be."""

    version: int
    n_ready: int
    complete: bool


class Taught(Protocol):
    """A session, as far as learning goes."""

    batch_size: int

    def moment(self) -> Moment:
        """Give the state of the session, which costs little."""
        ...

    def situation(self) -> Situation:
        """Give what there is to learn from."""
        ...

    def publish(self, knowledge: Knowledge) -> None:
        """Take over what was learnt."""
        ...

    def tell_trouble(self, trouble: str | None) -> None:
        """Tell people what does not work, or that all does."""
        ...


class Trainer:
    """Learning of a session, in two threads or, by `catch_up`, at once.

    One thread fits to new labels, so that this waits for nothing; the other one renews what takes longer.

    Parameters
    ----------
    session : Taught
    """

    def __init__(self, session: Taught):
        self._session = session
        self._learner: Learner | None = None
        self._learnt: Moment | None = None
        self._troubles: dict[str, str] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(step,), name=f"frofa-labelling-{name}", daemon=True)
            for name, step in (("fit", self._fit_once), ("improve", self._improve_once))
        ]

    def start(self) -> None:
        """Begin to learn in the background."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End the threads, each after the step that it is at."""
        self._closed.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(CLOSING_SECONDS)

    def catch_up(self, parts: tuple[str, ...] | None = None) -> None:
        """Learn all there is to learn, or the named parts of it, before this returns; not beside the threads."""
        self._learn_if_new()
        while (part := self._stalest(parts)) is not None:
            self._improve(part)

    def _run(self, step: Callable[[], bool]) -> None:
        while not self._closed.is_set():
            if not step():
                self._closed.wait(SECONDS)

    def _fit_once(self) -> bool:
        return self._tried(FIT, self._learn_if_new)

    def _improve_once(self) -> bool:
        part = self._stalest()
        return part is not None and self._tried(part, lambda: self._improve(part))

    def _tried(self, part: str, step: Callable[[], bool]) -> bool:
        """Do a step, and tell people if it fails: the page goes on without it, and the other steps do."""
        trouble = None
        try:
            # Nothing new to fit says nothing about the last fit.
            if not step():
                return False
        except Exception as error:
            trouble = f"{TROUBLES[part]}: {one_line(error)}"
        with self._lock:
            if self._troubles.get(part) != trouble:
                others = {name: text for name, text in self._troubles.items() if name != part}
                self._troubles = others if trouble is None else {**others, part: trouble}
                self._session.tell_trouble(". ".join(self._troubles.values()) or None)
        return trouble is None or part != FIT

    def _learn_if_new(self) -> bool:
        """Fit anew where there are other labels, or enough more features; tell whether there were."""
        moment = self._session.moment()
        if not moment.n_ready or (self._learnt is not None and not _is_new(moment, self._learnt)):
            return False
        self._learnt = moment
        learner = self._ready()
        learner.learn(self._session.situation())
        self._publish(learner)
        return True

    def _stalest(self, parts: tuple[str, ...] | None = None) -> str | None:
        """Name the part, of all or of these, that is out of date for longest."""
        return None if self._learner is None else self._learner.stalest(parts)

    def _improve(self, part: str) -> bool:
        learner = self._ready()
        learner.improve(part)
        self._publish(learner)
        return True

    def _publish(self, learner: "Learner") -> None:
        """Give the session all that is known by now, never less than before."""
        with self._lock:
            self._session.publish(learner.knowledge)

    def _ready(self) -> "Learner":
        if self._learner is None:
            from frofa.annotation.learning.learner import Learner

            self._learner = Learner(BATCHES * self._session.batch_size, 0)
        return self._learner


def _is_new(moment: Moment, before: Moment) -> bool:
    if moment.version != before.version:
        return True
    grown = moment.n_ready >= GROWTH * before.n_ready or moment.complete
    return moment.n_ready > before.n_ready and grown
