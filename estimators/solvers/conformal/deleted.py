"""Discriminants fitted to all samples but one, where a new sample has each of the labels in turn.

With a new sample x of hypothetical label k, the mean of k moves and the scatter within classes wins ``g e e'``, e being
x minus that mean; without a sample of residual d, it loses ``h d d'``. Both are updates of rank one of the metric ``P =
penalty * (S + penalty * I)^-1`` of the other samples, by Sherman and Morrison: products by it of samples, class means
and x are all that is needed, and scores of every sample without itself, for every label that x may have, follow.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


class Products(NamedTuple):
    """Products by the metric of n samples, of N = n + 1 samples, the new one last, K class means, and the new one.

    Squares of samples (N,); samples and new one (N,); samples and means (N, K); means and means (K, K); means and new
    one (K,). All are relative to the mean of the n samples, or to any other fixed point.
    """

    squares: Array
    with_new: Array
    with_means: Array
    means: Array
    means_with_new: Array

    def with_hypotheses(self, counts: Array, inverse: float) -> "Products":
        """Update the metric and the means for each label that the new sample may have: leading axes (K, ...).

        Counts (K,) are those of classes without the new sample, and `inverse` is one over the penalty.
        """
        new, square = self.means_with_new, self.with_new[-1]
        # Products with e, the new sample minus the mean of its class: (K, N), (K, K), and by itself (K,).
        along, means_along, new_along = self.with_new - self.with_means.T, new - self.means, square - new
        won = counts / (counts + 1) * inverse
        won = won / (1 + won * (new_along - new + self.means.diagonal()))
        lost = won[:, None] * along
        with_means = self.with_means - lost[:, :, None] * means_along[:, None]
        with_new, squares = self.with_new - lost * new_along[:, None], self.squares - lost * along
        lost = won[:, None] * means_along
        means, means_with_new = self.means - lost[:, :, None] * means_along[:, None], new - lost * new_along[:, None]
        # The mean of class k moves to the new sample by this part of the way, if its label is k.
        part, k = 1 / (counts + 1), np.arange(len(counts))
        rest, square_now = 1 - part, with_new[:, -1]
        with_means[k, :, k] = rest[:, None] * with_means[k, :, k] + part[:, None] * with_new
        means[k, k] = rest[:, None] * means[k, k] + part[:, None] * means_with_new
        means_with_new[k, k] = rest * means_with_new[k, k] + part * square_now
        means[k, :, k] = rest[:, None] * means[k, :, k] + part[:, None] * means_with_new
        return Products(squares, with_new, with_means, means, means_with_new)

    def centred(self, part: float) -> "Products":
        """Subtract this part of the new sample from all samples and means: what their common mean moves by."""
        # Axes (K, N), (K, N, K), (K, K) and so on: those of `with_hypotheses`.
        square = part**2 * self.with_new[:, -1]
        samples, means = part * self.with_new, part * self.means_with_new
        return Products(
            self.squares - 2 * samples + square[:, None],
            self.with_new - part * self.with_new[:, -1:],
            self.with_means - samples[:, :, None] - means[:, None] + square[:, None, None],
            self.means - means[:, :, None] - means[:, None] + square[:, None, None],
            self.means_with_new - part * self.with_new[:, -1:],
        )


def deleted_scores(
    products: Products, codes: Indices, counts: Array, inverse: float, bias: float, *, noise: bool
) -> Array:
    """Score all samples without themselves, for each label of the new one, which is last: (K, N, K).

    Products are those of `Products.with_hypotheses`; classes of samples are (K, N), and counts of classes (K, K), with
    the new one, for each label of its. Scores are ``x' P mu - bias / 2 * mu' P mu``, with the metric and the means
    without sample x. Those of the own class have no meaning where a sample is its only one.

    With `noise`, squares of means are less what they exceed the true ones by: the mean square of a sample's distance to
    the mean of its class without it, divided by the number of samples of each class. Otherwise the class that has lost
    a sample, which is always the right one, is at a disadvantage.
    """
    k = np.arange(len(codes))[:, None]
    own_counts = counts[k, codes]
    left = np.maximum(own_counts - 1, 1)
    inner, outer = products.with_means, np.einsum("kcc->kc", products.means)
    own_inner, own_outer = np.take_along_axis(inner, codes[:, :, None], 2)[:, :, 0], outer[k, codes]
    # Products with the residual d: with the sample (K, N), with itself (K, N), with the means (K, N, K).
    with_sample = products.squares - own_inner
    square = with_sample - own_inner + own_outer
    along = inner - products.means[k, codes]
    lost = own_counts / left * inverse
    won = lost / np.maximum(1 - lost * square, 1e-12)
    # The mean of the own class is m - d / left without the sample.
    own_along = np.take_along_axis(along, codes[:, :, None], 2)[:, :, 0]
    shifted = own_along - square / left
    own = own_inner - with_sample / left + won * with_sample * shifted
    own = own - bias / 2 * (own_outer - (own_along + shifted) / left + won * shifted**2)
    scores: Array = inner + (won * with_sample)[:, :, None] * along
    scores -= bias / 2 * (outer[:, None] + won[:, :, None] * along**2)
    np.put_along_axis(scores, codes[:, :, None], own[:, :, None], 2)
    if noise:
        alone = own_counts < 2
        distance = (1 + 1 / left) * square / np.maximum(1 - lost * square, 1e-12)
        mean = np.where(alone, 0, distance).sum(1) / (~alone).sum(1)
        # Counts (K, N, K) without each sample.
        each = np.broadcast_to(counts[:, None], scores.shape).copy()
        np.put_along_axis(each, codes[:, :, None], left[:, :, None], 2)
        scores += bias / 2 * mean[:, None, None] / each
    return scores
