"""Uncertainty of a classifier about samples, from their probabilities."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import log_softmax
from torch import Tensor

from frofa.estimators import FewShotClassifier, ShrinkageProbeClassifier
from frofa.estimators.solvers.shrinkage.spaces import Stage, spaces_of
from frofa.labelling.suggestions.pool import Pool

Array = npt.NDArray[np.float64]


def least_confidence(probabilities: npt.NDArray[Any]) -> Array:
    """Probability (n,) of all classes (n, K) but the likeliest."""
    uncertainty: Array = 1 - probabilities.max(1)
    return uncertainty


def margin(probabilities: npt.NDArray[Any]) -> Array:
    """Closeness of the two likeliest classes of (n, K): 1, (n,), where they are equally likely."""
    two = np.partition(probabilities, -2, axis=1)[:, -2:]
    uncertainty: Array = 1 - (two[:, 1] - two[:, 0])
    return uncertainty


def entropy(probabilities: npt.NDArray[Any]) -> Array:
    """Entropy (n,) of probabilities (n, K), relative to that of equal ones."""
    logs = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    uncertainty: Array = -(probabilities * logs).sum(1) / np.log(probabilities.shape[1])
    return uncertainty


UNCERTAINTIES: Mapping[str, Callable[[npt.NDArray[Any]], Array]] = {
    "uncertainty": least_confidence,
    "margin": margin,
    "entropy": entropy,
}
"""Measures by the name of a strategy."""


def uncertainty_of(fitted: Any, name: str, pool: Pool) -> Array:
    """Uncertainty of a classifier on each row of a pool, (n,), by the measure of a name, computed in parts.

    On a GPU, the default classifiers are computed there, in float32; a million images take a CPU many times as long.
    """
    if not hasattr(fitted, "predict_proba"):
        raise TypeError(
            f"expected a classifier with predict_proba; strategy='coverage' needs none. Got {type(fitted).__name__}."
        )
    measure = UNCERTAINTIES[name]
    probe = _probe_of(fitted)
    if probe is None or pool.device.type == "cpu" or not _has_blocks(pool, probe):
        return pool.each(lambda rows: measure(fitted.predict_proba(rows)))
    return measure(probabilities_on_device(fitted, probe, pool))


def _probe_of(fitted: Any) -> ShrinkageProbeClassifier | None:
    """Find the probe that all probabilities of a classifier come from, if there is one that knows images alone."""
    if getattr(fitted, "prior", None) is not None:
        return None
    if type(fitted) is ShrinkageProbeClassifier:
        return fitted
    if type(fitted) is FewShotClassifier and not fitted.weights_[1:].any():
        probe: ShrinkageProbeClassifier = next(iter(fitted.members_.values())).estimator
        return probe
    return None


def _has_blocks(pool: Pool, probe: ShrinkageProbeClassifier) -> bool:
    """Tell whether a pool has the blocks that a probe was fitted to; `predict_proba` says what is wrong otherwise."""
    return {name: pool.widths.get(name) for name in probe.blocks_} == probe.blocks_


def probabilities_on_device(fitted: Any, probe: ShrinkageProbeClassifier, pool: Pool) -> npt.NDArray[Any]:
    """Compute ``fitted.predict_proba`` of a pool, (n, K), where its vectors are."""

    def put(array: npt.NDArray[Any]) -> Tensor:
        return torch.as_tensor(np.asarray(array, np.float32), device=pool.device)

    stages = [
        Stage(put(shift)[None], put(scale)[None]) for shift, scale in zip(probe.shifts_, probe.scales_, strict=True)
    ]
    shares = put(np.array([probe.block_weights_[name] for name in probe.blocks_]))[None]
    coef, intercept = put(probe.coef_), put(probe.intercept_)
    parts = []
    for part in pool.parts():
        spaces = spaces_of(pool.blocks(np.arange(part.start, part.stop), tuple(probe.blocks_)), shares, stages)
        parts.append(sum((rows[0] @ each.T for rows, each in zip(spaces, coef, strict=True)), intercept))
    scores = torch.cat(parts).double().cpu().numpy()
    if fitted is not probe:  # a blend of the probe alone
        scores = log_softmax(fitted.scale_ * log_softmax(scores, axis=1), axis=1)
    probabilities: npt.NDArray[Any] = fitted._probabilities_of(scores)
    return probabilities
