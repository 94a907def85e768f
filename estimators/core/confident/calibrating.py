"""Scaling of a head's scores by samples that it was fitted without, and by class priors."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from frofa.estimators.core.confident.folds import assign_weighted
from frofa.estimators.core.support import Array, Indices, Support
from frofa.estimators.solvers.calibration import Scaling, fit_scaling
from frofa.estimators.solvers.left_out import LeftOut
from frofa.estimators.solvers.shrinkage.priors import log_priors

N_FOLDS = 5
"""Folds by which heads without leave-one-out are calibrated, at most."""
Mask = npt.NDArray[np.bool_]


def can_be_left_out(support: Support, n_classes: int) -> Mask:
    """Tell which samples (n,) have weight, and another sample of their class that has some."""
    used = support.weights > 0
    counts = np.bincount(support.codes, used, n_classes)
    known: Mask = used & (counts[support.codes] > 1)
    return known


def calibration_folds(codes: Indices, weights: Array) -> Indices:
    """Deal samples to folds (n,), by which heads without leave-one-out are calibrated; -1 for those of none."""
    counts = np.bincount(codes, weights > 0)
    # With fewer samples of a class than folds, fits would lack one of some classes, and favour the others.
    n_folds = min(N_FOLDS, int(counts[counts > 1].min(initial=N_FOLDS)))
    return assign_weighted(codes, weights, n_folds, np.random.RandomState(0))


def scaling_of(
    support: Support,
    left_out: Array | None,
    seen: LeftOut,
    method: bool | str,
    temperature: float,
    *,
    fixed: bool = False,
    lost: float = 0.0,
) -> Scaling:
    """Choose a scaling by scores (n, n_classes) of samples by fits without them, NaN where there are none.

    `seen` says what samples count, and what is added for class priors. Where no sample can be left out, scores of the
    classes that are not a sample's own tell how far they spread; where there are none of these either, or no `method`,
    the temperature is that which is given, as it is where it is `fixed`. `lost` is what a fit without a sample lacks,
    in samples of a class: by so much, in parts of the shots, scores are too small.
    """
    shift = seen.offsets if seen.offsets.any() else None
    if not method or left_out is None:
        return Scaling(temperature, None, shift)
    finite = (support.weights > 0) & np.isfinite(left_out).all(1)
    known = finite & can_be_left_out(support, left_out.shape[1])
    if known.any():
        shots = known.sum() / len(np.unique(support.codes[known]))
        return fit_scaling(left_out[known], seen.rows(known), method, temperature if fixed else None, 1 + lost / shots)
    if finite.any() and not fixed:
        temperature = 1 / seen.rows(finite).blind_scale(left_out[finite])
    return Scaling(temperature, None, shift)


class Calibrating(ABC):
    """Base of the heads: what turns their scores into labels, decisions and probabilities.

    Logits are scores by a temperature, and by scales and offsets of classes where there are any.
    """

    classes_: Array
    _scores_are_logits: ClassVar[bool] = False
    """Whether scores have their temperature in them."""
    _lost: ClassVar[float] = 0.0
    """Samples of a class that a fit without a sample seems to lack
    (``benchmarks/calibration_constants.py``)."""

    def _given(self, name: str, otherwise: Any = None) -> Any:
        """Return a parameter, or another value in heads that do not have it."""
        return getattr(self, name, otherwise)

    @abstractmethod
    def _out_of_fold(self, support: Support) -> Array:
        """Score samples (n, n_classes) by heads that were fitted to others; NaN for the only one of a class."""

    def _calibrate(self, support: Support, left_out: Array | None) -> None:
        """Set what turns scores into logits, and the probabilities of left-out samples."""
        method, n_classes = self._given("calibrate", False), len(self.classes_)
        log_prior, learnt = self._changed_prior(support)
        seen = LeftOut.of(support.codes, support.weights, log_prior, n_classes, learnt)
        if method and left_out is None:
            left_out = self._out_of_fold(support)
        fixed, lost = self._scores_are_logits, self._lost
        rated = None if left_out is None else self._as_of_all(support, left_out)
        scaling = scaling_of(support, rated, seen, method, self._fixed_temperature(), fixed=fixed, lost=lost)
        self.temperature_, self.class_scales_, self.class_offsets_ = scaling
        if self._left_out_in == "loo_proba_" and left_out is not None:
            known = can_be_left_out(support, n_classes)[:, None]
            self.loo_proba_ = softmax(np.where(known, self._logits_of(left_out), np.nan), axis=1)

    def _as_of_all(self, support: Support, left_out: Array) -> Array:  # noqa: ARG002
        """Scores (n, n_classes) of left-out samples as they are expected of other samples."""
        return left_out

    @property
    def _left_out_in(self) -> str | None:
        """Name of the attribute that has probabilities (n, n_classes) of samples by fits without them, if any."""
        return None

    def _changed_prior(self, support: Support) -> tuple[Array | None, Array | None]:  # noqa: ARG002
        """Logarithms (n_classes,) of the priors to be, and of those in scores; None are those of weighted samples."""
        prior = self._given("class_prior")
        return None if prior is None else log_priors(prior, self._given("class_weight"), self.classes_), None

    def _fixed_temperature(self) -> float:
        """Temperature where none is fitted."""
        return 1.0

    def _decisions_of(self, scores: Array) -> Array:
        if self._scaling().is_plain:
            return self._plain_decisions_of(scores)
        logits = self._logits_of(scores)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def _plain_decisions_of(self, scores: Array) -> Array:
        """Decisions where logits are scores, but for a temperature."""
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def _labels_of(self, scores: Array) -> Array:
        # A temperature changes no order, and no tie.
        labels: Array = self.classes_[(scores if self._scaling().is_plain else self._logits_of(scores)).argmax(1)]
        return labels

    def _probabilities_of(self, scores: Array) -> Array:
        probabilities: Array = softmax(self._logits_of(scores), axis=1)
        return probabilities

    def _logits_of(self, scores: Array) -> Array:
        """Turn scores (n, n_classes) into logits, with class priors."""
        return self._scaling().logits(scores)

    def _scaling(self) -> Scaling:
        """Scaling that was fitted; heads of earlier versions have a temperature alone, or none."""
        fitted = getattr(self, "temperature_", None)
        temperature = self._fixed_temperature() if fitted is None else fitted
        return Scaling(temperature, getattr(self, "class_scales_", None), getattr(self, "class_offsets_", None))
