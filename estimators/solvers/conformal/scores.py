"""Scores of how little labels conform to what a classifier makes of a sample."""

from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Kind: TypeAlias = Literal["lac", "aps", "raps"]


class Score(NamedTuple):
    """A score by name: ``lac``, ``aps``, or ``raps`` with its penalty on each label beyond the first so many."""

    kind: Kind
    penalty: float
    n_free: int

    def of_labels(self, probabilities: Array, draws: Array | None = None) -> Array:
        """Score all labels, (..., K), by their probabilities, (..., K); larger conforms less.

        With draws (..., 1) from 0 to 1, that part of a label's own probability is taken off where those of likelier
        labels are added up.
        """
        if self.kind == "lac":
            return 1 - probabilities
        order = np.argsort(-probabilities, axis=-1, kind="stable")
        ordered = np.take_along_axis(probabilities, order, -1)
        added = ordered.cumsum(-1)
        if draws is not None:
            added = added - draws * ordered
        if self.kind == "raps":
            ranks = np.arange(1, probabilities.shape[-1] + 1)
            added = added + self.penalty * np.maximum(ranks - self.n_free, 0)
        scores = np.empty_like(added)
        np.put_along_axis(scores, order, added, -1)
        return scores

    def of_own(self, probabilities: Array, codes: npt.NDArray[np.intp], draws: Array | None = None) -> Array:
        """Score the labels that samples have, (..., n), by probabilities (..., n, K) and classes (..., n)."""
        scores = self.of_labels(probabilities, draws)
        own: Array = np.take_along_axis(scores, np.broadcast_to(codes, scores.shape[:-1])[..., None], -1)[..., 0]
        return own
