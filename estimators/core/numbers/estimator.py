"""The base of what predicts several outputs from the same features: blocks, and averaged ridge regressions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import _check_sample_weight, check_is_fitted
from torch import Tensor

from frofa.blocks import FeatureBlocks
from frofa.compute.arrays import as_features, check_weights
from frofa.compute.devices import resolve_device, threads_for
from frofa.compute.memory import row_chunks
from frofa.estimators.core.blocks import check_blocks, check_sizes, cut
from frofa.estimators.core.support import Array
from frofa.estimators.solvers.outputs.averaging import Outputs, member_names
from frofa.estimators.solvers.outputs.fitting import Problem, Units, fit_outputs, fit_path, tensors_of
from frofa.estimators.solvers.outputs.path import Path
from frofa.estimators.solvers.outputs.spaces import SPACES, Spaces
from frofa.estimators.solvers.shrinkage.selection import shares_of
from frofa.estimators.solvers.shrinkage.spaces import Stage
from frofa.utils.callbacks import CallbackSupportMixin

CPU = torch.device("cpu")
ELEMENTS = 2**24
"""Normalised features that predictions hold at a time: 128 MiB."""


class Fit(NamedTuple):
    """Regressions fitted to targets in units of their deviation, and predictions (n, T) of left-out samples.

    The latter are in the targets' own units, and NaN for samples without weight.
    """

    path: Path
    outputs: Outputs
    units: Units
    left_out: Array


class OutputsEstimator(CallbackSupportMixin, BaseEstimator):
    """Base of the estimators that average ridge regressions, output by output, on the same normalised features.

    A subclass has the parameters `block_sizes`, `block_weights` and `device`.
    """

    block_sizes: Sequence[int] | None
    block_weights: str | npt.ArrayLike | Mapping[str, float]
    device: str
    n_features_in_: int
    blocks_: dict[str, int]
    coef_: Array
    intercept_: Any

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "block_sizes": ["array-like", None],
        "block_weights": [str, dict, "array-like"],
        "device": [str],
    }

    def _check_features(self, X: Any, *, reset: bool) -> FeatureBlocks:
        """Check features of any kind, and return them as blocks of vectors; they are cut as `block_sizes` says."""
        X = as_features(X)
        if not reset:
            return check_blocks(self, X, widths=self.blocks_, reset=False).select(self.blocks_)
        blocks = check_blocks(self, X, widths=None, reset=True)
        if not isinstance(X, FeatureBlocks) and self.block_sizes is not None:
            blocks = cut(np.asarray(blocks), check_sizes(self.block_sizes, self.n_features_in_, type(self).__name__))
        self.blocks_ = blocks.widths
        return blocks

    def _check_weights(self, X: Any, targets: Array, sample_weight: Any) -> Array:
        """Check weights of samples (n,), of which X and targets (n, T) have one each."""
        check_consistent_length(X, targets)
        weights: Array = _check_sample_weight(sample_weight, targets, dtype=np.float64, ensure_non_negative=True)
        check_weights(weights)
        if (weights > 0).sum() < 2:
            found = "1 sample" if len(weights) == 1 else f"1 sample of {len(weights)}"
            raise ValueError(f"{type(self).__name__} needs 2 samples of positive weight or more. Got {found}.")
        return weights

    def _fit_outputs(self, blocks: FeatureBlocks, targets: Array, weights: Array) -> "Fit":
        """Fit targets (n, T), and set all that predictions need."""
        used = weights > 0
        part, y, w = blocks[used] if not used.all() else blocks, targets[used], weights[used]
        shares, units = self._shares(), Units.of(y, w)
        views = [[np.asarray(view) for view in part.views(name)] for name in part.names]
        with threads_for(len(w) * part.shape[1]):
            spaces, path = fit_path(Problem(views, shares, w, resolve_device(self.device)))
            outputs = fit_outputs(path, (y - units.mean) / units.scale)
        self.block_weights_ = dict(zip(self.blocks_, shares.tolist(), strict=True))
        self.shifts_, self.scales_ = (
            as_array(torch.cat(part)) for part in zip(*spaces.stages, spaces.plain, strict=True)
        )
        self.members_ = member_names()
        self.weights_ = as_array(outputs.members.weights).reshape(len(self.members_), -1)
        # Weights (S, T, D) for the features of each space, in the units of the targets.
        coef = (outputs.slopes @ path.basis.mT) * torch.as_tensor(units.scale, device=path.basis.device)[:, None]
        mean = path.basis @ path.centre.unsqueeze(2)
        self.coef_, self.intercept_ = as_array(coef), units.mean - as_array((coef @ mean).sum((0, 2)))
        left_out = np.full(targets.shape, np.nan)
        left_out[used] = units.mean + units.scale * as_array(outputs.left_out)
        return Fit(path, outputs, units, left_out)

    def _shares(self) -> Array:
        shares = shares_of(self.block_weights, tuple(self.blocks_))
        if shares is None:
            raise ValueError(
                f"The 'block_weights' parameter of {type(self).__name__} must be 'equal' or a weight of each block, in "
                "an array or by name. Got 'auto', which classifiers have alone."
            )
        return shares

    def _parts(self, X: Any) -> Iterator[Tensor]:
        """Normalise samples, features of the kinds that `fit` takes: (S, m, D), some of them at a time."""
        check_is_fitted(self)
        blocks = self._check_features(X, reset=False)
        shifts, scales = torch.from_numpy(self.shifts_), torch.from_numpy(self.scales_)
        *stages, plain = (Stage(*each) for each in zip(shifts.split(1), scales.split(1), strict=True))
        spaces = Spaces(stages, plain)
        shares = torch.tensor([[self.block_weights_[name] for name in blocks.names]], dtype=torch.float64)
        for part in row_chunks(len(blocks), ELEMENTS, len(SPACES) * blocks.shape[1]):
            views = [[np.asarray(view[part]) for view in blocks.views(name)] for name in blocks.names]
            yield spaces.apply(tensors_of(views, CPU), shares)

    def _predict(self, X: Any) -> Array:
        """Predict outputs (n, T)."""
        return np.concatenate([self._predict_rows(rows) for rows in self._parts(X)])

    def _predict_rows(self, rows: Tensor) -> Array:
        """Predict outputs (n, T) of normalised samples."""
        coefs = self.coef_.reshape(len(SPACES), -1, rows.shape[2])
        parts = [each.numpy() @ coef.T for each, coef in zip(rows, coefs, strict=True)]
        predicted: Array = np.sum(parts, axis=0) + self.intercept_
        return predicted


def as_array(tensor: Tensor) -> Array:
    """Copy a tensor of any device to an array."""
    found: Array = tensor.detach().cpu().numpy().copy()
    return found
