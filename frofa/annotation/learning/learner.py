"""Learning step by step: the quick ones after each label, and the others in turn."""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from frofa.annotation.learning import judging, suggesting
from frofa.annotation.learning.fitting import Fit, fit, measured
from frofa.annotation.learning.knowledge import Knowledge
from frofa.annotation.learning.situation import Rows, Situation

Changes: TypeAlias = dict[str, Any]
"""Fields of `Knowledge` that a part of learning renews."""
NEAR = 1000
"""Images whose guesses are made at once: those to show next, and others at random."""
GROUP_SIZE = 24
"""Images of a group at most."""


class Guesses(NamedTuple):
    """Guesses of some images: their positions (r,), the number of the class of each, and its probability."""

    positions: Rows
    guesses: Rows
    probabilities: npt.NDArray[np.float32]


class Learner:
    """Knowledge of a session's images, renewed piece by piece.

    `learn` fits a classifier to a situation, which takes a fraction of a second, and `improve` renews one of the parts
    that take longer, `PARTS` in turn. Parts that were not renewed stay what they were. A thread may learn while another
    one improves: each works on a fit of its own, and what it finds is put into `knowledge` at the end.

    Parameters
    ----------
    n_suggested : int
        Number of images that are suggested, some batches.
    random_state : int
        Seed of samples.
    """

    PARTS = ("order", "guesses", "groups", "mistakes", "needed")

    def __init__(self, n_suggested: int, random_state: int):
        self.n_suggested, self.random_state = n_suggested, random_state
        self.knowledge = Knowledge(0)
        self._fit: Fit | None = None
        self._renewed: dict[str, tuple[int, int]] = {}
        self._last = ""
        self._lock = threading.Lock()

    def learn(self, situation: Situation) -> None:
        """Fit to what is labelled, measure accuracy, and guess the images that are shown next."""
        start = time.perf_counter()
        fitted = fit(situation)
        fitted = replace(fitted, measured=measured(fitted, self.random_state))
        guesses = _guesses_of(fitted, self._near(situation))
        with self._lock:
            self._fit = fitted
            known = replace(self.knowledge, version=situation.version, measured=fitted.measured)
            self.knowledge = replace(_with(known, fitted, guesses), seconds=time.perf_counter() - start)

    def stalest(self, parts: Collection[str] | None = None) -> str | None:
        """Name the part, of all or of these, to renew next; None if all are of this moment.

        It is the one that was not renewed for longest, but for the order, which comes before every other one.
        """
        if self._fit is None:
            return None
        now = self._moment(self._fit.situation)
        stale = [part for part in parts or self.PARTS if self._renewed.get(part) != now]
        if "order" in stale and self._last != "order":
            return "order"
        others = [part for part in stale if part != "order"] or stale
        return min(others, key=lambda part: self._renewed.get(part, (-1, -1)), default=None)

    def improve(self, part: str) -> None:
        """Renew a part, by the last fit."""
        fitted = self._fit
        assert fitted is not None
        # Before it is done: what fails once is not tried again before there are other labels.
        self._renewed[part], self._last = self._moment(fitted.situation), part
        changes, guesses = self._STEPS[part](self, fitted)
        with self._lock:
            known = replace(self.knowledge, **changes)
            # A fit that was made in between may know other classes: its own guesses stay then.
            same = self._fit is not None and self._fit.classes == fitted.classes
            self.knowledge = _with(known, fitted, guesses) if guesses is not None and same else known

    def _order(self, fitted: Fit) -> tuple[Changes, Guesses | None]:
        rows = suggesting.suggested(fitted, self.n_suggested, self.random_state)
        return {"order": fitted.situation.positions[rows]}, _guesses_of(fitted, rows)

    def _guesses(self, fitted: Fit) -> tuple[Changes, Guesses | None]:
        return {}, _guesses_of(fitted, suggesting.pool_rows(fitted.situation, self.random_state))

    def _groups(self, fitted: Fit) -> tuple[Changes, Guesses | None]:
        situation, known = fitted.situation, self.knowledge
        rows = suggesting.pool_rows(situation, self.random_state)
        rows = rows[situation.open[rows]]
        if known.guesses is None or known.probabilities is None:
            order = situation.row[known.order]
            return {"groups": suggesting.around(situation, order[order >= 0], rows, GROUP_SIZE)}, None
        at = situation.positions[rows]
        guessed = suggesting.Guessed(rows, known.guesses[at], known.probabilities[at])
        return {"groups": suggesting.of_guesses(situation, known.classes, guessed, GROUP_SIZE)}, None

    def _mistakes(self, fitted: Fit) -> tuple[Changes, Guesses | None]:
        return {"mistakes": judging.mistakes(fitted, self.random_state)}, None

    def _needed(self, fitted: Fit) -> tuple[Changes, Guesses | None]:
        return {"needed": judging.needed(fitted, self.random_state)}, None

    _STEPS: Mapping[str, Callable[[Any, Fit], tuple[Changes, Guesses | None]]] = {
        "order": _order,
        "guesses": _guesses,
        "groups": _groups,
        "mistakes": _mistakes,
        "needed": _needed,
    }

    def _near(self, situation: Situation) -> Rows:
        """Rows of the images that may be shown before all are guessed again."""
        shown = [*self.knowledge.order.tolist()]
        for group in self.knowledge.groups:
            shown += group.positions
        rows = situation.row[np.array(shown, np.intp)]
        rows = rows[rows >= 0]
        m = len(situation.positions)
        some = np.random.default_rng(self.random_state).permutation(m)[:NEAR] if m > NEAR else np.arange(m)
        return np.union1d(rows, some)

    @staticmethod
    def _moment(situation: Situation) -> tuple[int, int]:
        return situation.version, len(situation.positions)


def _guesses_of(fitted: Fit, rows: Rows) -> Guesses | None:
    """Guess rows (r,), some thousands at a time; None where nothing is fitted."""
    if fitted.head is None:
        return None
    parts = [part for part in np.array_split(rows, max(1, len(rows) // 4096)) if len(part)]
    tables = [fitted.proba(part) for part in parts]
    return Guesses(
        fitted.situation.positions[rows],
        np.concatenate([table.argmax(1) for table in tables]) if tables else np.empty(0, np.intp),
        np.concatenate([table.max(1) for table in tables]).astype(np.float32) if tables else np.empty(0, np.float32),
    )


def _with(known: Knowledge, fitted: Fit, found: Guesses | None) -> Knowledge:
    """Put guesses among those of all images; where classes have changed, the others have none."""
    if found is None:
        return replace(known, classes=(), guesses=None, probabilities=None)
    if known.classes == fitted.classes and known.guesses is not None and known.probabilities is not None:
        guesses, probabilities = known.guesses.copy(), known.probabilities.copy()
    else:
        n = fitted.situation.n
        guesses, probabilities = np.full(n, -1, np.intp), np.zeros(n, np.float32)
    guesses[found.positions], probabilities[found.positions] = found.guesses, found.probabilities
    return replace(known, classes=fitted.classes, guesses=guesses, probabilities=probabilities)
