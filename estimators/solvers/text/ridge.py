"""Proximal ridge: what words leave unexplained is learnt from images, with exact leave-one-out.

Targets are one-hot labels Y less s times the scores F of words, centred row by row. With H the hat matrix of ridge
regression with an intercept, samples that are left out are off by ``e = diag(1 - h)^-1 (I - H) (Y - s F)``, which is
linear in s: the best s for a penalty is ``<e_Y, e_F> / <e_F, e_F>``, and none is negative.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from frofa.estimators.solvers.outputs.path import Path, make_path, span_of
from frofa.estimators.solvers.shrinkage.temperature import calibrate
from frofa.estimators.solvers.text.samples import Samples

Array = npt.NDArray[np.float64]
PATIENCE = 4.0
"""Samples that count as one when penalties are weighed by their likelihood: differences of losses are noisy."""


class Residual(NamedTuple):
    """Averaged proximal ridge regressions: scores are ``words * F + rows @ coef.T + intercept``.

    `coef` is (K, D), the intercept (K,), `words` a factor of the scores of words; `left_out` (n, K) are scores of
    samples without themselves.
    """

    words: float
    coef: Array
    intercept: Array
    left_out: Array


class Targets(NamedTuple):
    """One-hot labels and centred scores of words, (n, K) both, with means (K,) that count samples by their weights."""

    labels: Tensor
    words: Tensor
    label_means: Tensor
    word_means: Tensor


def fit_residual(rows: Array, words: Array, samples: Samples) -> Residual:
    """Fit to rows (n, D) and scores (n, K) of words; penalties are averaged by the likelihood of left-out samples."""
    space = torch.from_numpy(np.ascontiguousarray(rows))[None]
    weights = torch.from_numpy(samples.balanced / samples.balanced.mean())
    path = make_path(space, weights, None, span_of(space, weights))
    targets = _targets(words, samples, weights)
    scales, found = [], []
    part = np.flatnonzero(samples.known)[samples.some()]
    for number in range(path.inverse.shape[1]):
        of_labels, of_words = left_out_errors(path, targets, number)
        scales.append(best_scale(of_labels, of_words, samples))
        found.append((targets.labels - of_labels + scales[-1] * of_words)[part])
    seen = samples.rows(part).targets()
    factors, losses = (each[0].numpy() for each in calibrate(torch.stack(found)[None], seen))
    shares = np.exp(-float(seen.n_effective) / PATIENCE * (losses - losses.min()))
    shares = np.where(shares < 1e-5 * shares.sum(), 0, shares)
    return _average(path, targets, np.array(scales), factors * shares / shares.sum())


def left_out_errors(path: Path, targets: Targets, number: int) -> tuple[Tensor, Tensor]:
    """Errors (n, K) of left-out samples for one-hot labels and for scores of words, by the penalty of this number."""
    left = path.left[0, number].unsqueeze(1)
    labels, words = (path.samples[0] @ coef for coef in _coefs(path, targets, number))
    return (
        (targets.labels - targets.label_means - labels) / left,
        (targets.words - targets.word_means - words) / left,
    )


def best_scale(of_labels: Tensor, of_words: Tensor, samples: Samples) -> float:
    """Find the factor of the scores of words by the squared errors (n, K) of left-out samples."""
    counted = torch.from_numpy(np.where(samples.known, samples.importance, 0.0)).unsqueeze(1)
    square = float((counted * of_words**2).sum())
    return max(0.0, float((counted * of_labels * of_words).sum()) / square) if square > 1e-300 else 0.0


def _targets(words: Array, samples: Samples, weights: Tensor) -> Targets:
    n_classes = words.shape[1]
    labels = torch.nn.functional.one_hot(torch.from_numpy(samples.codes), n_classes).double()
    centred = torch.from_numpy(words - words.mean(1, keepdims=True))
    share = weights / weights.sum()
    return Targets(labels, centred, share @ labels, share @ centred)


def _coefs(path: Path, targets: Targets, number: int) -> tuple[Tensor, Tensor]:
    """Weights (r, K), in coordinates, of the regressions of labels and of scores of words."""
    resolvent = path.resolvent[0, number].unsqueeze(1)
    return (
        resolvent * path.right_sides(targets.labels - targets.label_means)[0],
        resolvent * path.right_sides(targets.words - targets.word_means)[0],
    )


def _average(path: Path, targets: Targets, scales: Array, factors: Array) -> Residual:
    """Add up the regressions for all penalties, each times its factor."""
    coef = torch.zeros_like(_coefs(path, targets, 0)[0])
    left_out = torch.zeros_like(targets.labels)
    for number in np.flatnonzero(factors).tolist():
        scale, factor = float(scales[number]), float(factors[number])
        of_labels, of_words = left_out_errors(path, targets, number)
        left_out += factor * (targets.labels - of_labels + scale * of_words)
        labels, words = _coefs(path, targets, number)
        coef += factor * (labels - scale * words)
    words_factor = float(factors @ scales)
    intercept = factors.sum() * targets.label_means - words_factor * targets.word_means - path.centre[0] @ coef
    return Residual(words_factor, (path.basis[0] @ coef).T.numpy(), intercept.numpy(), left_out.numpy())
