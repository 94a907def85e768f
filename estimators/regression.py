"""Averaged ridge regression: numbers from features, with nothing to tune."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from frofa.estimators.core.numbers.estimator import Fit, OutputsEstimator, as_array
from frofa.estimators.core.numbers.targets import check_levels, check_targets
from frofa.estimators.core.support import Array
from frofa.estimators.solvers.outputs.averaging import Members
from frofa.estimators.solvers.outputs.path import Path
from frofa.estimators.solvers.outputs.prediction import Jackknife, intervals, variances
from frofa.estimators.solvers.outputs.spaces import SPACES
from frofa.utils.callbacks import tells_callbacks


class ShrinkageRegressor(RegressorMixin, OutputsEstimator):
    """Ridge regression from hardly a penalty to the mean, averaged by leave-one-out likelihood.

    There is nothing to tune: every penalty is tried on the training samples, each left out in turn, in closed form, and
    counts by what it makes of them, for each output by itself. One decomposition serves all penalties and all outputs.
    Blocks of features are given equal parts, whatever their scales, and directions in which views of one image differ
    are held back.

    Parameters
    ----------
    block_sizes : sequence of int, default=None
        Widths of the blocks that plain features (n, C) are cut into, in order, which add up to C; None is one block.
        `frofa.FeatureBlocks` bring their own.
    block_weights : "equal", array-like of shape (n_blocks,) or dict, default="equal"
        Share of each block in the variance of what they are side by side: equal, or as given, in the order of the
        blocks or by name.
    keep_support : bool, default=True
        Keep the samples in ``support_``, as `predict_interval` needs them: three times n times the smaller of n and the
        channels, in float64. A saved regressor has them, too.
    device : str, default="auto"
        Device that fits: a torch device, or ``"auto"``, which is the GPU where there is one. What is fitted is on the
        CPU, and predictions are computed there.

    Attributes
    ----------
    coef_ : ndarray of shape (3, C), or (3, n_outputs, C)
        Weights of the average for the features of each space.
    intercept_ : float or ndarray of shape (n_outputs,)
    shifts_, scales_ : ndarray of shape (3, C)
        What features are shifted and divided by on the way to each space.
    members_ : tuple of str
        Regressions that were averaged: their space and penalty, in mean squared distances of samples to their mean.
    weights_ : ndarray of shape (n_members,), or (n_members, n_outputs)
        Weights of the members in the average, of sum 1.
    loo_predictions_ : ndarray of shape (n_samples,), or (n_samples, n_outputs)
        Prediction of each training sample without it; NaN where it has no weight.
    loo_r2_, loo_rmse_ : float or ndarray of shape (n_outputs,)
        Weighted coefficient of determination, and root mean squared error, of these; constant targets have a
        coefficient of 1, as they are predicted exactly.
    sigma_ : float or ndarray of shape (n_outputs,)
        Deviation of targets from what can be known of them: that of predictions, in `predict`, is larger, by what
        the samples do not tell.
    path_, outputs_ : dict of str to ndarray
        The decomposition, and what it makes of each output, for deviations and intervals.
    support_ : dict of str to ndarray
        Samples in the coordinates of the decomposition, with their targets and weights, with `keep_support`.
    blocks_ : dict of str to int
        Name and width of each block.
    block_weights_ : dict of str to float
        Share of each block, of sum 1.
    n_features_in_ : int
        Sum of the widths.

    Notes
    -----
    With features centred at their mean, scatter ``S`` (of samples, and half of that of views within images), targets y
    and leverages ``h_i = w_i (1 / sum(w) + x_i' (S + penalty * I)^-1 x_i)``, a sample is off by ``(y_i - f(x_i)) / (1 -
    h_i)`` without itself. That is exact, and equal to fitting again, for every penalty and output. Normalisation and
    penalties are those of all samples. Members count by a prior and ``error^(-n / 2)``, for their mean squared error
    without samples; for a left-out sample, that of the others counts. There are two spaces in which features have
    length one, as those of `ShrinkageProbeClassifier`, and one in which they keep their own: what is a number in an
    image is often in that.

    Weights of samples are relative: multiplied by a number they are the same. Targets multiplied by a number, and
    shifted, give predictions that are. Missing targets are an error, in one of several outputs, too: all outputs share
    their samples. Fit one regressor for each output where some are missing.

    References
    ----------
    Allen, "The relationship between variable selection and data augmentation and a method for prediction", 1974 (for
    PRESS); Yao et al., "Using stacking to average Bayesian predictive distributions", 2018; Barber et al., "Predictive
    inference with the jackknife+", Annals of Statistics, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa.estimators import ShrinkageRegressor
    >>> features = np.random.default_rng(0).normal(size=(40, 8))
    >>> ages = 30 + 5 * features[:, 0]
    >>> regressor = ShrinkageRegressor().fit(features, ages)
    >>> round(regressor.loo_r2_, 2), regressor.predict(features[:2]).shape
    (1.0, (2,))
    >>> ages, interval = regressor.predict_interval(features[:3], confidence_level=0.8)
    >>> interval.shape
    (3, 2, 1)
    """

    support_: dict[str, Array]

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **OutputsEstimator._parameter_constraints,
        "keep_support": ["boolean"],
    }

    def __init__(
        self,
        *,
        block_sizes: Sequence[int] | None = None,
        block_weights: str | npt.ArrayLike | Mapping[str, float] = "equal",
        keep_support: bool = True,
        device: str = "auto",
    ):
        self.block_sizes = block_sizes
        self.block_weights = block_weights
        self.keep_support = keep_support
        self.device = device

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    @tells_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "ShrinkageRegressor":
        """Fit the regressor.

        Parameters
        ----------
        X : FeatureBlocks, array-like of shape (n, C) or (n, N, C), or RaggedTokens
            Blocks of features and their views; features; or tokens, which are averaged over the tokens.
        y : array-like of shape (n,) or (n, n_outputs)
            Targets, of two samples or more.
        sample_weight : array-like of shape (n,), default=None
            Non-negative; only their proportions matter.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a target is missing, infinite or no number.
        """
        self._validate_params()
        blocks = self._check_features(X, reset=True)
        targets = check_targets(y, type(self).__name__)
        columns = targets.reshape(len(targets), -1)
        weights = self._check_weights(blocks, columns, sample_weight)
        fit = self._fit_outputs(blocks, columns, weights)
        self._keep(fit, columns[weights > 0])
        self._rate(columns, fit, weights)
        self.loo_predictions_ = fit.left_out
        known = fit.outputs.members
        noise = as_array((known.weights * known.noise).sum((0, 1)) * known.inflation)
        self.sigma_ = fit.units.scale * np.sqrt(noise)
        if targets.ndim == 1:
            self._drop_outputs()
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict targets.

        Parameters
        ----------
        X : FeatureBlocks, array-like of shape (n, C) or (n, N, C), or RaggedTokens
        return_std : bool, default=False
            Return the deviations of the predictive distributions, too, as scikit-learn's Bayesian regressors do.

        Returns
        -------
        ndarray of shape (n,) or (n, n_outputs), or a tuple of two
            Predictions, and the deviations of targets about them, noise included. Errors of left-out samples are as
            large as their deviations, in the root of their weighted mean square.
        """
        if not return_std:
            return self._shaped(self._predict(X))
        parts = [(self._predict_rows(rows), variances(*self._fitted(), rows).numpy()) for rows in self._parts(X)]
        predicted, squares = (np.concatenate(part) for part in zip(*parts, strict=True))
        return self._shaped(predicted), self._shaped(self.outputs_["scale"] * np.sqrt(squares))

    def predict_interval(
        self, X: Any, confidence_level: float | Sequence[float] = 0.9, *, allow_infinite_bounds: bool = False
    ) -> tuple[Array, Array]:
        """Predict targets and intervals, by jackknife+ on exact leave-one-out; names and shapes are MAPIE's.

        Where test and training samples are exchangeable, an interval of jackknife+ has the target with a probability of
        at least ``2 * confidence_level - 1``, which is proven, and usually of about `confidence_level`, which is not
        (Barber et al., 2021). The proof is of fits that have not seen the sample at all: here, normalisation has, and
        so have the errors of other samples, by which members count. The docs have the coverage that was measured.

        Parameters
        ----------
        X : FeatureBlocks, array-like of shape (n, C) or (n, N, C), or RaggedTokens
        confidence_level : float or sequence of float, default=0.9
            Share of targets that intervals are to have, between 0 and 1; several give several intervals.
        allow_infinite_bounds : bool, default=False
            Return infinite bounds where there are too few samples for a level, instead of an error.

        Returns
        -------
        ndarray of shape (n,) or (n, n_outputs)
            Predictions, as those of `predict`.
        ndarray of shape (n, 2, n_levels) or (n, n_outputs, 2, n_levels)
            Lower and upper bound of each output and level. They need not be symmetrical about the prediction.

        Raises
        ------
        ValueError
            If there are too few samples for a level (``1 / (1 - level) - 1`` of equal weights are needed: 9 for 0.9, 19
            for 0.95), or the regressor was fitted without ``keep_support``.
        """
        check_is_fitted(self)
        if not hasattr(self, "support_"):
            raise ValueError(
                f"{type(self).__name__} was fitted with keep_support=False, and has no samples for intervals."
            )
        path, known = self._fitted()
        levels = check_levels(confidence_level, self.support_["weights"], allow_infinite_bounds)
        mean, scale = self.outputs_["mean"], self.outputs_["scale"]
        targets = torch.from_numpy((self.support_["targets"] - mean) / scale)
        knives = [Jackknife.of(path, known, targets, number) for number in range(len(mean))]
        predicted, bounds = [], []
        for rows in self._parts(X):
            predicted.append(self._predict_rows(rows))
            x = path.coordinates(rows)
            found = [intervals(knife, x, levels) for knife in knives]
            # Intervals (m, T, 2, n_levels) in the units of the targets.
            bounds.append(torch.stack(found, 1).numpy() * scale[:, None, None] + mean[:, None, None])
        return self._shaped(np.concatenate(predicted)), self._shaped(np.concatenate(bounds))

    def _keep(self, fit: Fit, targets: Array) -> None:
        """Keep what deviations need and, with `keep_support`, the samples that intervals need."""
        path, known = fit.path, fit.outputs.members
        self.path_ = {name: as_array(getattr(path, name)) for name in ("basis", "centre", "eigenvalues", "inverse")}
        self.path_["total"] = as_array(path.weights.sum())
        kept = {name: as_array(getattr(known, name)) for name in ("rhs", "noise", "inflation")}
        self.outputs_ = {**kept, "mean": fit.units.mean, "scale": fit.units.scale}
        if hasattr(self, "support_"):
            del self.support_
        if self.keep_support:
            self.support_ = {"samples": as_array(path.samples), "targets": targets, "weights": as_array(path.weights)}

    def _rate(self, targets: Array, fit: Fit, weights: Array) -> None:
        """Rate predictions of left-out samples, in units in which targets have a variance of one."""
        used = weights > 0
        errors = (targets - fit.left_out)[used] / fit.units.scale
        squares = np.average(errors**2, axis=0, weights=weights[used])
        self.loo_r2_, self.loo_rmse_ = 1 - squares, fit.units.scale * np.sqrt(squares)

    def _drop_outputs(self) -> None:
        """Drop the axis of outputs from what users see, where targets are (n,)."""
        for name in ("intercept_", "loo_r2_", "loo_rmse_", "sigma_"):
            setattr(self, name, float(getattr(self, name)[0]))
        self.coef_, self.weights_ = self.coef_[:, 0], self.weights_[:, 0]
        self.loo_predictions_ = self.loo_predictions_[:, 0]

    def _shaped(self, values: Array) -> Array:
        return values[:, 0] if self.coef_.ndim == 2 else values

    def _fitted(self) -> tuple[Path, Members]:
        """Give the decomposition and the members as tensors; samples are none where they were not kept."""
        path = {name: torch.from_numpy(array) for name, array in self.path_.items()}
        total = path.pop("total")
        support = getattr(self, "support_", None)
        samples = path["basis"].new_zeros(len(SPACES), 0, path["basis"].shape[2])
        weights = total.reshape(1)
        if support is not None:
            samples, weights = torch.from_numpy(support["samples"]), torch.from_numpy(support["weights"])
        rhs, noise, inflation = (torch.from_numpy(self.outputs_[name]) for name in ("rhs", "noise", "inflation"))
        known = Members(rhs, torch.from_numpy(self.weights_.reshape(noise.shape)), noise, inflation)
        return Path(**path, samples=samples, weights=weights), known
