"""Probabilities of all samples without themselves, for each label that a new one may have."""

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import softmax

from frofa.estimators.solvers.conformal.deleted import Products, deleted_scores
from frofa.estimators.solvers.ridge import decompose
from frofa.estimators.solvers.shrinkage.averaging import BIAS_SHOTS
from frofa.estimators.solvers.shrinkage.temperature import NEVER, Targets, calibrate

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
PENALTY = 2.5
"""Penalty of the discriminant, in squared distances of a sample from the mean of all, whatever their labels. On
training images of four sets by five backbones, sets of 90 % are as small by it as by the average of all penalties."""


class Refits(Protocol):
    """Fits to n samples and a new one, whichever label it has, in which all of them count in the same way."""

    @property
    def codes(self) -> Indices:
        """The classes of the n samples."""

    @property
    def n_classes(self) -> int:
        """The number K of classes."""

    def scores(self, new: Array) -> Array:
        """Score all samples without themselves, the new one (D,) last, for each label of its: (K, n + 1, K)."""


class Discriminant(NamedTuple):
    """Linear discriminants of a penalty that is fixed without labels.

    Samples (n, D) are relative to their mean, with classes (n,); `basis` (D, r) are the directions of the scatter
    within classes, of squares `scatter` (r,), along which samples are `along` (n, r). Means of classes (K, D) are
    `means_along` (K, r); squares of samples (n,), their products with the means (n, K) and those of the means (K, K)
    are by the plain metric.
    """

    mean: Array
    samples: Array
    codes: Indices
    counts: Array
    means: Array
    basis: Array
    scatter: Array
    along: Array
    means_along: Array
    squares: Array
    with_means: Array
    gram: Array

    @property
    def n_classes(self) -> int:
        """The number K of classes, of each of which there is a sample."""
        return len(self.counts)

    @classmethod
    def of(cls, features: Array, codes: Indices) -> "Discriminant":
        """Decompose the scatter of samples (n, D) within their classes (n,)."""
        mean = features.mean(0)
        samples = features - mean
        counts, means = class_means(samples, codes)
        _, singular, directions = np.linalg.svd(samples - means[codes], full_matrices=False)
        basis = np.ascontiguousarray(directions.T)
        along = samples @ basis, means @ basis
        squares = (samples**2).sum(1)
        return cls(
            mean, samples, codes, counts, means, basis, singular**2, *along, squares, samples @ means.T, means @ means.T
        )

    def scores(self, new: Array) -> Array:
        """Score as `Refits` does: all samples are centred on their mean, the new one included."""
        n, x = len(self.samples), new - self.mean
        total = self.squares.sum() + n / (n + 1) * (x**2).sum()
        inverse = n / (PENALTY * total) if total > 0 else 1.0
        n_shots = (n + 1) / self.n_classes
        products = self._products(x, self.scatter * inverse / (1 + self.scatter * inverse))
        products = products.with_hypotheses(self.counts, inverse).centred(1 / (n + 1))
        codes, counts = hypotheses(self.codes, self.counts)
        return deleted_scores(products, codes, counts, inverse, n_shots / (n_shots + BIAS_SHOTS), noise=True)

    def _products(self, x: Array, taken: Array) -> Products:
        """Multiply by the metric: what it takes (r,) off the squares of each direction is all that it does."""
        x_along, with_x = x @ self.basis, self.means @ x
        along = np.vstack([self.along, x_along])
        weighted, means_weighted = along * taken, self.means_along * taken
        return Products(
            np.append(self.squares, x @ x) - (along * weighted).sum(1),
            np.append(self.samples @ x, x @ x) - weighted @ x_along,
            np.vstack([self.with_means, with_x]) - weighted @ self.means_along.T,
            self.gram - means_weighted @ self.means_along.T,
            with_x - means_weighted @ x_along,
        )


class NearestMean(NamedTuple):
    """Nearest class means of samples (n, D), centred on the mean of all and scaled to length one, if asked for."""

    features: Array
    codes: Indices
    n_classes: int
    center: bool
    normalize: bool

    def scores(self, new: Array) -> Array:
        """Score as `Refits` does."""
        samples = np.vstack([self.features, new])
        if self.center:
            samples = samples - samples.mean(0)
        if self.normalize:
            length = np.linalg.norm(samples, axis=1, keepdims=True)
            samples = samples / np.where(length > 0, length, 1)
        counts, means = class_means(samples[:-1], self.codes)
        x = samples[-1]
        products = Products((samples**2).sum(1), samples @ x, samples @ means.T, means @ means.T, means @ x)
        codes, all_counts = hypotheses(self.codes, counts)
        return deleted_scores(products.with_hypotheses(counts, 0.0), codes, all_counts, 0.0, 1.0, noise=False)


class Ridge(NamedTuple):
    """Ridge regression of features (n, C) to targets of -1 and +1: penalties are chosen by leave-one-out every time."""

    features: Array
    codes: Indices
    n_classes: int
    alphas: Array

    def scores(self, new: Array) -> Array:
        """Score as `Refits` does: the mean, the deviations and the penalty are those of all samples with the new one.

        Predictions of left-out samples are linear in the targets: those of a new sample without a target, and of the
        new one's target alone, give those of every label of its.
        """
        n, n_classes = len(self.codes), self.n_classes
        targets = np.zeros((n + 1, n_classes + 1))
        targets[:n, :n_classes] = 2.0 * np.eye(n_classes)[self.codes] - 1
        targets[n, n_classes] = 1
        path = decompose(np.vstack([self.features, new]), targets, np.ones(n + 1))
        of_new = 2.0 * np.eye(n_classes) - 1
        # Targets (K, n + 1, K), and of the best penalty so far the errors (K,) and the predictions (K, n + 1, K).
        wanted = _added(targets, of_new)
        errors, best = np.full(n_classes, np.inf), wanted
        for alpha in self.alphas:
            found = _added(path.leave_one_out(targets, float(alpha)), of_new)
            error = ((found - wanted) ** 2).mean((1, 2))
            best = np.where((error < errors)[:, None, None], found, best)
            errors = np.minimum(error, errors)
        return best


def _added(parts: Array, of_new: Array) -> Array:
    """Add what is of the new sample's target (n + 1, last column) for each label (K, K) to the rest: (K, n + 1, K)."""
    added: Array = parts[:, :-1] + parts[:, -1:] * of_new[:, None]
    return added


def class_means(samples: Array, codes: Indices) -> tuple[Array, Array]:
    """Count the samples (n, D) of each class, and average them: (K,) and (K, D)."""
    member = np.eye(int(codes.max()) + 1)[codes]
    counts = member.sum(0)
    return counts, member.T @ samples / np.maximum(counts, 1)[:, None]


def hypotheses(codes: Indices, counts: Array) -> tuple[Indices, Array]:
    """Give classes (K, n + 1) of all samples and counts (K, K) of classes, for each label of a new sample, the last."""
    n_classes = len(counts)
    labels = np.arange(n_classes)
    return np.column_stack([np.broadcast_to(codes, (n_classes, len(codes))), labels]), counts + np.eye(n_classes)


def probabilities(refits: Refits, new: Array, log_priors: Array | None) -> Array:
    """Give probabilities of all samples without themselves, for each label of m new ones (m, D): (m, K, n + 1, K).

    The new one is the last. They are calibrated by a temperature that maximises the likelihood of these same
    probabilities. Logarithms of priors are (K,); None are those of the samples, one left out. A sample that is the only
    one of its class has a probability of zero.
    """
    # Every label of every new sample is a problem of its own: scores (m * K, n + 1, K).
    scores = np.concatenate([refits.scores(one) for one in new])
    counts = np.bincount(refits.codes, minlength=refits.n_classes).astype(float)
    codes, all_counts = hypotheses(refits.codes, counts)
    own = np.arange(refits.n_classes) == codes[:, :, None]
    alone = np.take_along_axis(all_counts, codes, 1) < 2
    if log_priors is None:
        offsets = np.log(np.maximum(all_counts[:, None] - own, 1))
    else:
        offsets = np.broadcast_to(np.maximum(log_priors, NEVER), own.shape)
    codes, alone, own, offsets = (
        np.concatenate([each] * len(new)) for each in (codes, alone, own & alone[:, :, None], offsets)
    )
    weights = (~alone).astype(float)
    parts = (torch.from_numpy(each) for each in (offsets, codes, weights, weights.sum(1)))
    scales, _ = calibrate(torch.from_numpy(scores).unsqueeze(1), Targets(*parts))
    logits = scores * scales.numpy()[:, :, None] + offsets
    logits[own] = -np.inf
    found: Array = softmax(logits, axis=2)
    return found.reshape(len(new), refits.n_classes, *found.shape[1:])
