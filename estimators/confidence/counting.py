"""Numbers of samples that conform less than new ones, label by label, by each method."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.utils import _safe_indexing

from frofa.compute.memory import row_chunks
from frofa.estimators.confidence.closed_form import Added, LeftOut
from frofa.estimators.confidence.learners import proba_in_order
from frofa.estimators.solvers.conformal.full import hypotheses, probabilities
from frofa.estimators.solvers.conformal.ranks import Counts, count_among, count_paired, count_within
from frofa.estimators.solvers.conformal.scores import Score

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]
ELEMENTS = 2**21
"""Probabilities that are held at a time: 16 MiB."""


class Ranking(NamedTuple):
    """Samples (n,) of classes `codes` to rank new ones among, with draws (n,) and (m,) for both, or none."""

    score: Score
    codes: Indices
    n_classes: int
    per_class: bool
    draws: Array | None
    new_draws: Array | None

    def own(self, left_out: Array) -> Array:
        """Score the labels of the samples by probabilities (n, K) without them; nothing conforms less than none."""
        draws = None if self.draws is None else self.draws[:, None]
        scores = self.score.of_own(left_out, self.codes, draws)
        return np.where(np.isnan(left_out).any(1), np.inf, scores)

    def _drawn(self, rows: slice, n_axes: int) -> Array | None:
        """Give the draws of new samples, with so many axes after them."""
        return None if self.new_draws is None else self.new_draws[rows].reshape(-1, *[1] * n_axes)

    def among(self, left_out: Array, proba: Array) -> Counts:
        """Count among samples that one model has not seen, for new ones by the same model, (m, K)."""
        new = self.score.of_labels(proba, self._drawn(slice(None), 1))
        return count_among(self.own(left_out), self.codes, new, per_class=self.per_class)

    def among_folds(self, left_out: Array, folds: Indices, heads: Sequence[Any], X: Any, classes: Array) -> Counts:
        """Count among samples fold by fold (n,), by the model that has not seen it; -1 is none of the folds."""
        own, counts = self.own(left_out), None
        for fold in range(-1 if (folds < 0).any() else 0, len(heads)):
            rows = folds == fold
            proba = proba_in_order(heads[max(fold, 0)], X, classes)
            new = self.score.of_labels(proba, self._drawn(slice(None), 1))
            found = count_among(own[rows], self.codes[rows], new, per_class=self.per_class)
            counts = found if counts is None else counts.plus(found)
        assert counts is not None
        return counts

    def among_left_out(self, left_out: Array, models: LeftOut, X: Any) -> Counts:
        """Count among samples by the models without each of them."""
        own, parts = self.own(left_out), []
        for rows in row_chunks(len(X), ELEMENTS, len(own) * self.n_classes):
            proba = models.of_new(_safe_indexing(X, np.arange(len(X))[rows]))
            new = self.score.of_labels(proba, self._drawn(rows, 2))
            parts.append(count_paired(own, self.codes, new, per_class=self.per_class))
        return _stacked(parts)

    def within(self, added: Added, new: Array) -> Counts:
        """Count among all samples by fits with a new one (m, D) of each label."""
        size = (len(self.codes) + 1) * self.n_classes**2
        chunks = row_chunks(len(new), ELEMENTS, size)
        priors = added.log_priors
        return _stacked([self.within_of(probabilities(added.refits, new[rows], priors), rows) for rows in chunks])

    def within_of(self, proba: Array, rows: slice) -> Counts:
        """Count among all samples by their probabilities (m, K, n + 1, K) for each label of some new ones, the last."""
        counts = np.bincount(self.codes, minlength=self.n_classes).astype(float)
        draws = None
        if self.draws is not None and self.new_draws is not None:
            drawn = self.new_draws[rows]
            draws = np.column_stack([np.broadcast_to(self.draws, (len(drawn), len(self.draws))), drawn])
            draws = draws[:, None, :, None]
        own = self.score.of_own(proba, hypotheses(self.codes, counts)[0], draws)
        return count_within(own, self.codes, per_class=self.per_class)


def _stacked(parts: Sequence[Counts]) -> Counts:
    larger, equal, total = zip(*parts, strict=True)
    return Counts(np.concatenate(larger), np.concatenate(equal), total[0])
