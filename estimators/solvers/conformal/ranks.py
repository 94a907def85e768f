"""Ranks of a new sample's score among those of others, and the confidence that they allow for."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
TOLERANCE = 1e-10
"""Difference of scores up to which they are equal: rounding is not to exclude a label."""
LEVEL_TOLERANCE = 1e-9
"""Difference of p-values, which are shares of whole numbers, up to which they are equal."""


def labels_needed(level: float) -> int:
    """Count the samples that a confidence level needs: the least n with ``ceil((n + 1) * level) <= n``."""
    return max(1, math.ceil(level / (1 - level) - LEVEL_TOLERANCE))


def expected_coverage(level: float, n: int) -> float:
    """Expected coverage of sets that include ties, by n samples whose scores differ: between the level and 1 / (n + 1)
    above.
    """  # noqa: D205
    return min(1.0, math.ceil((n + 1) * level - LEVEL_TOLERANCE) / (n + 1))


class Counts(NamedTuple):
    """Numbers of samples whose scores are larger than, and equal to, those of m new ones, label by label.

    The first two are (m, K); `total` (K,) are the numbers of samples that labels were compared with. Counts with
    disjoint parts of the samples add up.
    """

    larger: Array
    equal: Array
    total: Array

    def plus(self, other: "Counts") -> "Counts":
        """Add counts with other samples."""
        return Counts(*(ours + theirs for ours, theirs in zip(self, other, strict=True)))

    def p_values(self, draws: Array | None = None) -> Array:
        """Give p-values (m, K) of the labels: the share of samples, the new one included, that conform no better.

        With draws (m, 1) from 0 to 1, equal samples count in part, the new one included, which makes p-values of
        exchangeable samples uniform.
        """
        tied = self.equal + 1
        return (self.larger + (tied if draws is None else draws * tied)) / (self.total + 1)


def accepted(p_values: Array, levels: Array) -> npt.NDArray[np.bool_]:
    """Tell which labels (m, K) are in the sets of each level: (m, K, n_levels)."""
    found: npt.NDArray[np.bool_] = p_values[:, :, None] > 1 - levels + LEVEL_TOLERANCE
    return found


def count_among(scores: Array, codes: Indices, new: Array, *, per_class: bool) -> Counts:
    """Count among the scores (n,) of samples of classes (n,), of all of them or of each label's own, for new (m, K)."""
    n_classes = new.shape[1]
    if not per_class:
        larger, equal = _sorted_counts(scores, new)
        return Counts(larger, equal, np.full(n_classes, float(len(scores))))
    columns = [_sorted_counts(scores[codes == code], new[:, code]) for code in range(n_classes)]
    larger, equal = (np.stack(part, 1) for part in zip(*columns, strict=True))
    return Counts(larger, equal, np.bincount(codes, minlength=n_classes).astype(float))


def _sorted_counts(scores: Array, new: Array) -> tuple[Array, Array]:
    ordered = np.sort(scores)
    not_smaller = len(ordered) - np.searchsorted(ordered, new - TOLERANCE, "left")
    larger = len(ordered) - np.searchsorted(ordered, new + TOLERANCE, "right")
    return larger.astype(float), (not_smaller - larger).astype(float)


def count_paired(scores: Array, codes: Indices, new: Array, *, per_class: bool) -> Counts:
    """Count among the scores (n,) of samples, where each has its own score (m, n, K) of the new ones.

    Of jackknife+: the model that was fitted without a sample scores both.
    """
    n_classes = new.shape[2]
    apart = scores[:, None] - new
    # Samples (n, K) that labels are compared with.
    member = codes[:, None] == np.arange(n_classes) if per_class else np.ones((len(scores), n_classes), bool)
    larger = ((apart > TOLERANCE) & member).sum(1)
    equal = ((np.abs(apart) <= TOLERANCE) & member).sum(1)
    return Counts(larger.astype(float), equal.astype(float), member.sum(0).astype(float))


def count_within(scores: Array, codes: Indices, *, per_class: bool) -> Counts:
    """Count, for each hypothetical label of m new samples, among all scores that it leads to: (m, K, n + 1), own last.

    Of full conformal prediction: codes (n,) are those of the other samples.
    """
    n_classes = scores.shape[1]
    apart = scores[:, :, :-1] - scores[:, :, -1:]
    member = np.arange(n_classes)[:, None] == codes if per_class else np.ones((n_classes, len(codes)), bool)
    larger = ((apart > TOLERANCE) & member).sum(2)
    equal = ((np.abs(apart) <= TOLERANCE) & member).sum(2)
    return Counts(larger.astype(float), equal.astype(float), member.sum(1).astype(float))
