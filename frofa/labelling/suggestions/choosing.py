"""Questions about a pool, and choices by utilities of single rows, or at random."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from frofa.labelling.suggestions.pool import Pool
from frofa.labelling.suggestions.repeats import repeated

Indices = npt.NDArray[np.intp]
Array = npt.NDArray[np.float64]


class Choice(NamedTuple):
    """Rows (b,) of the pool, in the order of choice, and utilities (b, n) at each step, if asked for.

    Utilities are NaN of what could not be chosen, or was not looked at.
    """

    rows: Indices
    utilities: Array | None


@dataclass
class Question:
    """Request for `batch_size` of the rows of a pool that `allowed` (n,) admits, with all that is known.

    `labelled` has the samples with labels, None where there are none.
    """

    pool: Pool
    labelled: Pool | None
    allowed: npt.NDArray[np.bool_]
    batch_size: int
    random_state: np.random.RandomState
    max_exact: int
    return_utilities: bool

    def known(self, rows: Indices) -> npt.NDArray[np.bool_]:
        """Tell which rows (m,) are labelled already."""
        if self.labelled is None:
            return np.zeros(len(rows), bool)
        return repeated(self.pool, rows, self.labelled, np.arange(len(self.labelled)))


def by_utility(question: Question, utilities: Array) -> Choice:
    """Choose the rows of the largest utilities (n,), one of each that are repeated."""
    allowed = np.flatnonzero(question.allowed)
    order = allowed[np.argsort(-utilities[allowed], kind="stable")]
    pool, chosen = question.pool, np.empty(0, np.intp)
    step = 4 * question.batch_size
    for start in range(0, len(order), step):
        rows = order[start : start + step]
        for row in rows[~question.known(rows)]:
            if len(chosen) < question.batch_size and not repeated(pool, np.array([row]), pool, chosen)[0]:
                chosen = np.append(chosen, row)
        if len(chosen) == question.batch_size:
            break
    return Choice(chosen, _table(question, chosen, utilities) if question.return_utilities else None)


def _table(question: Question, chosen: Indices, utilities: Array) -> Array:
    """Repeat utilities (n,) for each step, (b, n); NaN from where they are chosen on, or not allowed."""
    table = np.tile(np.where(question.allowed, utilities, np.nan), (len(chosen), 1))
    for step, row in enumerate(chosen):
        table[step + 1 :, row] = np.nan
    return table


def at_random(question: Question) -> Choice:
    """Choose rows at random, one of each that are repeated."""
    return by_utility(question, question.random_state.uniform(size=len(question.pool)))
