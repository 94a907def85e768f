"""Heads whose fits without a sample, and with one more, are had without fitting."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import log_softmax
from sklearn.utils.class_weight import compute_sample_weight
from torch import Tensor

from frofa.blocks import FeatureBlocks
from frofa.estimators.batched.shrinkage_jobs import views_of
from frofa.estimators.core.support import Support
from frofa.estimators.few_shot import FewShotClassifier
from frofa.estimators.prototype import PrototypeClassifier
from frofa.estimators.ridge import RidgeProbeClassifier
from frofa.estimators.shrinkage_probe import ShrinkageProbeClassifier
from frofa.estimators.solvers.conformal.full import Discriminant, NearestMean, Refits, Ridge
from frofa.estimators.solvers.conformal.left_out import AveragedLeftOut, LeftOutModels, MeansLeftOut, RidgeLeftOut
from frofa.estimators.solvers.shrinkage.fitting import Problems
from frofa.estimators.solvers.shrinkage.priors import log_priors
from frofa.estimators.solvers.shrinkage.selection import shares_of
from frofa.estimators.solvers.shrinkage.spaces import side_by_side

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]
FAR = -1e30
"""Score of a class that a model does not know."""


class LeftOut(NamedTuple):
    """Fits without each sample: probabilities (n, K) of these, NaN for none, and of m new samples (m, n, K)."""

    own: Array
    of_new: Callable[[Any], Array]


class Added(NamedTuple):
    """Fits with a new sample of each label: what it is of m of them, features (m, D), and logarithms of priors (K,)."""

    refits: Refits
    rows: Callable[[Any], Array]
    log_priors: Array | None


def closed_form_of(head: Any) -> Any:
    """Return the fitted head that has closed forms, which may be in another; None if there is none."""
    if getattr(head, "prior", None) is not None:  # how much words count would have to be found anew
        return None
    if type(head) is FewShotClassifier and head.effort == "fast":
        return head.members_["probe"].estimator
    kinds = RidgeProbeClassifier, PrototypeClassifier, ShrinkageProbeClassifier
    return head if type(head) in kinds and getattr(head, "augment", None) is None else None


def kept_of(head: Any, X: Any, codes: Indices, weights: Array | None) -> dict[str, Any]:
    """Keep what the closed forms of a fitted head need of its samples (n,): arrays, which files may hold."""
    features = checked(head, X)
    weights = np.ones(len(codes)) if weights is None else weights
    if isinstance(features, FeatureBlocks):
        return {"features": {name: features.block(name) for name in features.names}, "codes": codes, "weights": weights}
    return {"features": features, "codes": codes, "weights": weights}


def checked(head: Any, X: Any) -> Any:
    """Check new samples, and give what the head works on."""
    return head._prepare(head._tokens(head._check_features(X, reset=False)))


def left_out(whole: Any, kept: Mapping[str, Any]) -> LeftOut:
    """Leave out each of the samples that were kept, of a fitted classifier with closed forms in it."""
    head = closed_form_of(whole)
    codes, weights = kept["codes"], kept["weights"]
    if isinstance(head, ShrinkageProbeClassifier):
        return _probe_left_out(whole, head, kept)
    features = kept["features"]
    models: LeftOutModels
    if isinstance(head, RidgeProbeClassifier):
        weights = weights * class_weights(head, codes)
        targets = head._targets(Support(features, codes, weights))
        path = head._decompose(Support(features, codes, weights))
        models = RidgeLeftOut.of(path, head.alpha_, targets)
        return LeftOut(_proba(head, models.own), lambda new: _proba(head, models.scores(new)))
    samples = head._normalised(features, head.mean_)
    models = MeansLeftOut.of(samples, codes, weights, head.prototypes_)
    return LeftOut(_proba(head, models.own), lambda new: _proba(head, models.scores(head._normalised(new, head.mean_))))


def _probe_left_out(whole: Any, head: ShrinkageProbeClassifier, kept: Mapping[str, Any]) -> LeftOut:
    blocks, background = kept["features"], head._check_background()
    weights = kept["weights"] * class_weights(head, kept["codes"])
    priors = log_priors(head.class_prior, head.class_weight, head.classes_)
    problems = Problems(
        [_tensors(blocks[name].swapaxes(0, 1)) for name in head.blocks_],
        torch.tensor([[head.block_weights_[name] for name in head.blocks_]], dtype=torch.float64),
        torch.from_numpy(kept["codes"])[None],
        torch.from_numpy(weights)[None],
        len(head.classes_),
        None if priors is None else torch.from_numpy(priors)[None],
        () if background is None else [_tensors(views) for views in views_of(background)],
    )
    models = AveragedLeftOut.of(problems)
    return LeftOut(
        _proba(whole, models.own),
        lambda new: _proba(whole, models.scores_of([_tensors(views) for views in views_of(new.select(head.blocks_))])),
    )


def added(whole: Any, kept: Mapping[str, Any]) -> Added:
    """Add a new sample of any label to those that were kept, in fits in which all count in the same way.

    Of the shrinkage probe it is one discriminant, of the penalty that is usual, on features that no other sample has
    changed: its normalisation and its weights are not, as those of the probe, learnt from some of the samples.
    """
    head = closed_form_of(whole)
    codes, n_classes = kept["codes"], len(head.classes_)
    if isinstance(head, ShrinkageProbeClassifier):
        shares = None if isinstance(head.block_weights, str) else shares_of(head.block_weights, tuple(head.blocks_))
        shares = np.full(len(head.blocks_), 1 / len(head.blocks_)) if shares is None else shares

        def rows(new: FeatureBlocks) -> Array:
            views = [_tensors(each) for each in views_of(new.select(head.blocks_))]
            found: Array = side_by_side(views, torch.from_numpy(shares)[None])[0].numpy()
            return found

        samples = FeatureBlocks({name: list(kept["features"][name].swapaxes(0, 1)) for name in head.blocks_})
        priors = log_priors(head.class_prior, head.class_weight, head.classes_)
        return Added(Discriminant.of(rows(samples), codes), rows, priors)
    features = kept["features"]
    if isinstance(head, RidgeProbeClassifier):
        if head.class_weight is not None:
            raise ValueError(
                f"method='full' needs samples that count the same. Got class_weight={head.class_weight!r}."
            )
        refits: Refits = Ridge(features, codes, n_classes, head._check_alphas())
    else:
        refits = NearestMean(features, codes, n_classes, head.center, head.normalize)
    given = head.class_prior
    return Added(
        refits, lambda new: new, np.zeros(n_classes) if given is None else log_priors(given, None, head.classes_)
    )


def class_weights(head: Any, codes: Indices) -> Array:
    """Weigh samples (n,) by their classes, as the head does."""
    from_label = head.classes_[codes]
    weight: Array = compute_sample_weight(head.class_weight, from_label)
    return weight


def _proba(head: Any, scores: Array) -> Array:
    """Give probabilities of scores (..., K), of which those of an unknown class are NaN."""
    lost = np.isnan(scores)
    known = np.where(lost & ~lost.all(-1, keepdims=True), FAR, scores)
    if isinstance(head, FewShotClassifier):  # whose scores are log-probabilities of its members
        known = log_softmax(head.scale_ * log_softmax(known, axis=-1), axis=-1)
    found: Array = head._probabilities_of(known.reshape(-1, known.shape[-1])).reshape(scores.shape)
    return found


def _tensors(views: Any) -> list[Tensor]:
    """Make views (n, C) one problem of a batch of one, in float64."""
    return [torch.as_tensor(np.require(view, np.float64, ("C", "W")))[None] for view in views]
