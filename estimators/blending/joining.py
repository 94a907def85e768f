"""Token heads that join a probe: trained on folds, weighed on what they have not seen, and kept if they pay."""

from collections.abc import Generator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax
from sklearn.utils import Bunch

from frofa.estimators.blending.folds import held_out_scores
from frofa.estimators.blending.members import PROBE, member
from frofa.estimators.blending.weights import Blend, choose_weights
from frofa.estimators.core.classifier import FeatureClassifier
from frofa.estimators.core.confident.folds import assign_weighted
from frofa.estimators.core.support import Support
from frofa.estimators.solvers.left_out import Calibrated, LeftOut

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]
LEAST_HELD_OUT = 10
"""Left-out samples below which nothing is to be learnt from them."""


class Joined(NamedTuple):
    """Members by name, the probe first; log-probabilities (n, n_classes) of left-out samples; the blend's scale.

    `offsets` (n_classes,) are added to the calibrated scores of heads.
    """

    members: dict[str, Bunch]
    log_probs: Array
    scale: float
    offsets: Array


class Wanted(NamedTuple):
    """Heads, by name, and the positions of the samples that each of them is to be fitted to."""

    heads: Mapping[str, FeatureClassifier]
    parts: list[Indices]


Fits = dict[str, list[FeatureClassifier | Exception]]
"""Results of the fits that were wanted: by name, one for each part."""
T = TypeVar("T")
Steps = Generator[Wanted, Fits, T]
"""Work that yields what it wants fitted, and is sent it."""


class Data(NamedTuple):
    """Training samples: tokens (n, N, C) of any kind, checked labels and weights, and the classes with their prior."""

    tokens: Any
    support: Support
    classes: Array
    log_prior: Array | None


def joining(
    data: Data,
    heads: Mapping[str, FeatureClassifier],
    probe_log_probs: Array,
    n_folds: int,
    random_state: np.random.RandomState,
) -> Steps[Joined]:
    """Weigh heads that were trained on folds beside the probe, and fit those that are kept on all samples.

    What is to be fitted is yielded, and sent when it is: so that heads of many blends can be trained together.
    `probe_log_probs` (n, n_classes) are leave-one-out, NaN where a class has no other sample.
    """
    codes, weights = data.support.codes, data.support.weights
    # Samples without weight are in no fold, and change none.
    used = np.flatnonzero(weights)
    folds = assign_weighted(codes, weights, n_folds, random_state)
    known = (folds >= 0) & np.isfinite(probe_log_probs).all(1)
    left_out = LeftOut.of(codes[used], weights[used], data.log_prior, len(data.classes))
    seen = LeftOut(codes[known], _counts(weights, codes, left_out)[known], left_out.offsets)
    if known.sum() < LEAST_HELD_OUT or len(np.unique(codes[known])) < 2:
        reason = f"too few samples: {known.sum()} share their class with another."
        members = {PROBE: member(weight=1), **{name: member(reason=reason) for name in heads}}
        return Joined(members, probe_log_probs, 1.0, left_out.offsets)
    parts = [used[folds[used] != fold] for fold in range(n_folds)]
    fitted = yield Wanted(heads, parts)
    scores = {name: held_out_scores(data.tokens, fitted[name], folds, data.classes) for name in heads}
    calibrated = {PROBE: Calibrated(1.0, probe_log_probs[known])} | {
        name: seen.calibrated(found[known]) for name, found in scores.items() if not isinstance(found, Exception)
    }
    stacked = np.stack([one.log_probs for one in calibrated.values()])  # (M, n, n_classes)
    blend = choose_weights(stacked, seen.codes, seen.importance)
    members = {name: member(reason=f"training failed: {found}") for name, found in scores.items()}
    members = {PROBE: member(), **members} | _described(calibrated, blend, seen)
    log_probs = np.full(probe_log_probs.shape, np.nan)
    log_probs[known] = log_softmax(blend.scale * np.tensordot(blend.weights, stacked, 1), axis=1)
    # Those that are kept are fitted on all samples.
    refitted = yield Wanted({name: heads[name] for name in heads if members[name].weight > 0}, [used])
    for name, [one] in refitted.items():
        if isinstance(one, Exception):
            raise one
        members[name].estimator = one
    return Joined(members, log_probs, blend.scale, left_out.offsets)


def _counts(weights: Array, codes: Indices, left_out: LeftOut) -> Array:
    """Weigh each sample (n,) by its own weight and the prior of its class."""
    counts: Array = weights * np.exp(left_out.offsets[codes])
    return counts


def _described(calibrated: Mapping[str, Calibrated], blend: Blend, seen: LeftOut) -> dict[str, Bunch]:
    return {
        name: member(
            weight=blend.weights[i],
            scale=one.scale,
            accuracy=seen.accuracy(one.log_probs),
            log_loss=seen.log_loss(one.log_probs),
            reason="" if blend.weights[i] else _reason(i, blend),
        )
        for i, (name, one) in enumerate(calibrated.items())
    }


def _reason(i: int, blend: Blend) -> str:
    if blend.weights[1:].sum() == 1:
        return "the token heads are better without it"
    if blend.gains[i] > blend.prices[i]:
        return "beside what counts, its weight would be less than 1 %"
    gain, price = blend.gains[i], blend.prices[i]
    return f"it adds no more than chance may: {gain:.3f} to the log-likelihood, where {price:.3f} is asked"
