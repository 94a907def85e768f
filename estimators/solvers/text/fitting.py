"""Images and words to one linear head: both weighed, names doubted, and a proximal ridge on what they leave."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import softmax

from frofa.estimators.solvers.shrinkage.temperature import NEVER, calibrate
from frofa.estimators.solvers.text.doubting import Doubt, doubt_names
from frofa.estimators.solvers.text.ridge import PATIENCE, Residual, fit_residual
from frofa.estimators.solvers.text.samples import Samples
from frofa.estimators.solvers.text.weighing import Weighed, weigh_words

Array = npt.NDArray[np.float64]
PARTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Parts that the proximal ridge may have in the average with words and images that are weighed."""
MOST = 1e15
"""Inverse temperature that scores of some deviation do not have."""
RESIDUAL = 0.5
"""Probability that it has any, before a sample is seen, if words say something."""


class Images(NamedTuple):
    """A discriminant by images alone: coef (S, K, D), intercept (K,) and logits (n, K) of samples without themselves.

    Logits of samples that cannot be left out are not looked at; both have the logarithms of priors in them. `rows` (n,
    D) are the samples in the first space.
    """

    coef: Array
    intercept: Array
    left_out: Array
    rows: Array


class Joined(NamedTuple):
    """A head by images and words: logits are ``words * scores`` and those of images by coef and intercept.

    `words` (K,) are factors of the scores of classes. `left_out` (n, K) are logits of samples without themselves, NaN
    where they cannot be left out. `weighed` says how much words and images count, `doubts` (K,) how likely it is that
    names say nothing, and `residual` is the part of the proximal ridge.
    """

    words: Array
    coef: Array
    intercept: Array
    left_out: Array
    weighed: Weighed
    doubts: Array
    residual: float


class Linear(NamedTuple):
    """Scores that are linear in scores of words, in those by images, and in the samples, with what they are of samples.

    Factors `words` and `images` are (K,), `coef` is (K, D), the intercept (K,); `left_out` (n, K) are scores of samples
    without themselves.
    """

    words: Array
    images: Array
    coef: Array
    intercept: Array
    left_out: Array

    def mixed(self, other: "Linear", part: float) -> "Linear":
        """Average with another one, which has this part."""
        return Linear(*((1 - part) * one + part * two for one, two in zip(self, other, strict=True)))


class Candidate(NamedTuple):
    """Words and images as they are weighed, and the proximal ridge; with names doubted, or none."""

    doubt: Doubt
    weighed: Weighed
    blended: Linear
    residual: Linear | None


def join(images: Images, words: Array, samples: Samples) -> Joined:
    """Join images and scores (n, K) of words."""
    possible = samples.log_priors > NEVER / 2
    # What priors add is taken out, and added again in the end; classes that cannot be have no scores.
    plain = np.where(possible, images.intercept - np.where(possible, samples.log_priors, 0), 0)
    shown = _centred(np.where(possible & samples.known[:, None], images.left_out - samples.offsets, 0))
    enough = bool(samples.known.sum() >= possible.sum())
    unit = _deviation(words)
    doubts = [Doubt(np.zeros(words.shape[1]), 0.0)]
    if (doubt := doubt_names(words / unit, samples)) is not None:
        doubts.append(doubt)
    found = [_candidate(words / unit, shown, images.rows, samples, each, learn=enough) for each in doubts]
    total, shares = _averaged(found, samples, enough=enough)
    coef = np.where(possible[:, None], images.coef, 0)
    coef = total.images[:, None] * (coef - coef.mean(1, keepdims=True))
    coef[0] += total.coef
    intercept = total.images * (plain - plain.mean()) + total.intercept + samples.log_priors
    left_out = np.where(samples.known[:, None], total.left_out + samples.offsets, np.nan)
    best = found[int(shares.sum(1).argmax())]
    by_doubt = shares.sum(1) @ np.stack([each.doubt.classes for each in found])
    residual = float((shares @ np.array(PARTS)).sum())
    return Joined(total.words / unit, coef, intercept, left_out, best.weighed, by_doubt, residual)


def _candidate(words: Array, shown: Array, rows: Array, samples: Samples, doubt: Doubt, *, learn: bool) -> Candidate:
    """Weigh scores (n, K) of words with those by images, and fit the proximal ridge, if there is something to learn.

    Where a name is doubted, images count as they do where there are no words.
    """
    said, lifts = doubt.apply(words), np.ones(words.shape[1])
    weighed = weigh_words(said, shown, samples)
    if doubt.classes.any():
        weighed = weigh_words(said, _lifts(doubt, weighed) * shown, samples)
        lifts = _lifts(doubt, weighed)
    factors, of_images = weighed.words * (1 - doubt.classes), weighed.images * lifts
    level = weighed.words * doubt.level * doubt.classes
    none = np.zeros((len(lifts), rows.shape[1]))
    blended = Linear(factors, of_images, none, level, weighed.words * said + of_images * shown)
    if not (learn and weighed.words):
        return Candidate(doubt, weighed, blended, None)
    fitted: Residual = fit_residual(rows, said, samples)
    intercept = fitted.intercept + fitted.words * doubt.level * doubt.classes
    residual = Linear(fitted.words * (1 - doubt.classes), 0 * lifts, fitted.coef, intercept, fitted.left_out)
    return Candidate(doubt, weighed, blended, residual)


def _lifts(doubt: Doubt, weighed: Weighed) -> Array:
    """Factors (K,) by which images count more for classes whose names are doubted."""
    found: Array = 1 + doubt.classes * (max(1 / weighed.images, 1.0) - 1)
    return found


def _averaged(candidates: list[Candidate], samples: Samples, *, enough: bool) -> tuple[Linear, Array]:
    """Average candidates and parts of their proximal ridge by the likelihood of left-out samples.

    Beside the average are the shares (n_candidates, n_parts). With too few samples to learn from it is the last one.
    """
    shares = np.zeros((len(candidates), len(PARTS)))
    if not enough:
        shares[-1, 0] = 1
        last = candidates[-1].blended
        return _times(last, _scale(last.left_out, samples)), shares
    members, priors = [], []
    for candidate in candidates:
        members.append(candidate.blended)
        priors.append(_prior(0, candidate))
        if candidate.residual is not None:
            members += [candidate.blended.mixed(candidate.residual, part) for part in PARTS[1:]]
            priors += [_prior(part, candidate) for part in PARTS[1:]]
    known = np.flatnonzero(samples.known)[samples.rows(samples.known).some()]
    seen = samples.rows(known).targets()
    scores = np.stack([member.left_out[known] for member in members])
    factors, losses = (each[0].numpy() for each in calibrate(torch.from_numpy(scores)[None], seen))
    factors = np.where(factors < MOST, factors, 1.0)  # scores that are all the same say nothing
    weights = softmax(np.log(priors) - float(seen.n_effective) / PATIENCE * losses)
    total = _times(members[0], weights[0] * factors[0])
    for member, factor in zip(members[1:], (weights * factors)[1:], strict=True):
        total = Linear(*(one + factor * two for one, two in zip(total, member, strict=True)))
    flat = iter(weights)
    for row, candidate in zip(shares, candidates, strict=True):
        n_parts = len(PARTS) if candidate.residual is not None else 1
        row[:n_parts] = [next(flat) for _ in range(n_parts)]
    return total, shares


def _prior(part: float, candidate: Candidate) -> float:
    """Probability of a part of the proximal ridge, before a sample is seen."""
    any_part = RESIDUAL * candidate.weighed.helps if candidate.residual is not None else 0.0
    return any_part / (len(PARTS) - 1) if part else 1 - any_part


def _times(linear: Linear, factor: float) -> Linear:
    return Linear(*(part * factor for part in linear))


def _centred(scores: Array) -> Array:
    """Take off what scores (n, K) of a sample have in common, which no probability depends on."""
    found: Array = scores - scores.mean(1, keepdims=True)
    return found


def _deviation(words: Array) -> float:
    """Mean deviation of the scores of samples over the classes."""
    found = float(words.std(1).mean())
    return found if found > 1e-12 else 1.0


def _scale(scores: Array, samples: Samples) -> float:
    """Calibrate scores (n, K): of samples that can be left out, or by words, which have seen none of them."""
    seen = samples.rows(samples.known) if samples.known.any() else samples
    scores = scores[samples.known] if samples.known.any() else scores
    found = float(calibrate(torch.from_numpy(np.ascontiguousarray(scores))[None, None], seen.targets())[0])
    return found if found < MOST else 1.0
