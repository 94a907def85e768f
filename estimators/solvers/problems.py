"""Problems of logistic regression side by side: probabilities, losses, gradients and curvature of all at once."""

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST, MOST = 1e-20, 1e16
"""Bounds of the penalty of the mean cross-entropy: beyond them, nothing that it changes in probabilities is more than
rounding, as `test_any_penalty` finds. Where features were divided by something large, some may be small now, and the
first is as much smaller."""


class Problems:
    """B problems of one shape: ``sum_i share_i * cross_entropy_i + penalty * |coef|^2 / 2`` each.

    Two classes have a single score, that of class 1 against 0, as in scikit-learn; more have one each. Products with
    the features are in float32 until `use_float64`: `exact` are the features in float64, `fast` in the precision of
    products. A descent may have its scores and weights in float32 as well, at first, if `starts_in_float32`.

    The last channel of the features (B, n, D) is the constant one, whose weight, the intercept, is not penalised. Codes
    (B, n) are classes from 0 to `n_classes` - 1; weights (B, n), in float64, are zero for rows that only fill up the
    shape. Features that were too large or too small for float32 were divided by `units` (B,): weights are as many times
    those that are penalised, and all is in float64. None is 1.
    """

    def __init__(self, features: Tensor, codes: Tensor, weights: Tensor, n_classes: int, units: Tensor | None = None):
        self.exact = features
        self.fast = features.float()
        self.starts_in_float32 = True
        self.n_classes = n_classes
        self.n_scores = 1 if n_classes == 2 else n_classes
        self.total = weights.sum(1)
        self.squared_units = torch.ones_like(self.total) if units is None else units**2
        self.share = (weights / self.total[:, None]).unsqueeze(2)
        # Shape (B, n, n_scores): 1 at the class of the sample.
        classes = torch.arange(n_classes - self.n_scores, n_classes, device=codes.device)
        self.codes = codes.unsqueeze(2)
        self.targets = (self.codes == classes).float()
        # Mean square of each channel, shape (B, 1, D).
        known = self.fast if units is None else self.exact
        self.scales = torch.einsum("bn,bnd->bd", self.share[:, :, 0].to(known.dtype), known**2).unsqueeze(1)
        if units is not None:
            self.use_float64()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (B, n_scores, D) of the weights of all problems."""
        return len(self.exact), self.n_scores, self.exact.shape[2]

    @property
    def size(self) -> float:
        """Root mean square of the largest feature, at least 1."""
        return float(self.scales.max().clamp(min=1).sqrt())

    def tensors(self) -> tuple[Tensor, ...]:
        """List all that depends on the samples, where products are in float64."""
        return self.exact, self.total, self.squared_units, self.share, self.targets, self.codes, self.scales

    def use_float64(self) -> None:
        """Compute products with the features in float64 from now on."""
        if self.fast.dtype != torch.float64:
            self.fast, self.starts_in_float32 = self.exact, False
            self.scales = self.scales.double()

    def penalty(self, C: float) -> Tensor:
        """Return the penalty (B, 1, D) that makes C times the summed cross-entropy of the mean one."""
        least = LEAST / self.squared_units.clamp(min=1)
        penalty = torch.maximum(1 / (C * self.total * self.squared_units), least).clamp(max=MOST)
        penalty = penalty[:, None, None].repeat(1, 1, self.exact.shape[2])
        # The last channel is the constant one: intercepts go free.
        penalty[:, :, -1] = 0
        return penalty

    def unbound(self, coef: Tensor, C: float) -> Tensor:
        """Return the weights (B, n_scores, D) for that C from those of the largest penalty, where its own is larger.

        There, they are too small to change a probability, and inversely proportional to it.
        """
        share = (MOST * C * self.total * self.squared_units).clamp(max=1)[:, None, None]
        return torch.cat([coef[:, :, :-1] * share, coef[:, :, -1:]], 2)

    def probabilities(self, scores: Tensor) -> Tensor:
        """Return the probabilities (B, n, n_scores) of the scored classes."""
        return torch.sigmoid(scores) if self.n_scores == 1 else torch.softmax(scores, 2)

    def losses(self, scores: Tensor) -> Tensor:
        """Return the mean cross-entropy (B,) of scores (B, n, n_scores)."""
        if self.n_scores == 1:
            losses = F.softplus(scores) - scores * self.codes
        else:
            losses = -torch.log_softmax(scores, 2).gather(2, self.codes)
        return (losses * self.share.to(scores.dtype)).sum((1, 2))

    def objective(self, scores: Tensor, coef: Tensor, penalty: Tensor) -> Tensor:
        """Return what each problem minimises, shape (B,), in float64."""
        return self.losses(scores).double() + 0.5 * penalised(penalty, coef)[:, 0, 0]

    def scores(self, coef: Tensor) -> Tensor:
        """Return scores (B, n, n_scores) of weights in float64, or their change along a direction in `fast`'s dtype."""
        features = self.exact if coef.dtype == torch.float64 else self.fast
        if coef.is_cuda:
            return features @ coef.mT
        return (coef @ features.mT).mT.contiguous()  # the product in this order is up to three times as fast

    def errors(self, scores: Tensor, probabilities: Tensor) -> Tensor:
        """Return probabilities minus targets (B, n, n_scores), each to the precision of its own size.

        That of a sample's class is what the other classes have: one minus its probability would be all rounding where
        the model is sure.
        """
        if self.n_scores == 1:
            return torch.where(self.codes > 0, -torch.sigmoid(-scores), probabilities)
        # Zero at the sample's class, then minus the sum of the others there.
        errors = probabilities.scatter(2, self.codes, 0)
        return errors.scatter_(2, self.codes, -errors.sum(2, keepdim=True))

    def weighted(self, errors: Tensor) -> Tensor:
        """Return errors in probability (B, n, n_scores) times the shares, for products with `fast`."""
        return errors.to(self.fast.dtype) * self.share.to(self.fast.dtype)

    def pull_back(self, weighted: Tensor) -> Tensor:
        """Return the gradient (B, n_scores, D) of the mean cross-entropy from `weighted` errors."""
        return weighted.transpose(1, 2) @ self.fast

    def gradient(self, errors: Tensor) -> Tensor:
        """Return the gradient (B, n_scores, D) of the mean cross-entropy, with products in float64."""
        return (errors * self.share).transpose(1, 2) @ self.exact

    def curvature(self, probabilities: Tensor, change: Tensor) -> Tensor:
        """Return the second derivative (B, 1, 1) of the mean cross-entropy along a change of the scores."""
        share = self.share.to(change.dtype)
        # Of each sample, the variance of the change over the classes: E[change^2] - E[change]^2.
        moved = probabilities.to(change.dtype) * change
        mean = moved.sum(2, keepdim=True)
        return (dot(moved.mul_(share), change) - (mean**2 * share).sum(1, keepdim=True)).double()


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return inner products (B, 1, 1)."""
    if a.is_cuda:  # where a product of a row and a column is the work of a single block
        return (a * b).sum(-1).reshape(len(a), -1).sum(1)[:, None, None]  # in one go, few blocks would do all of it
    return a.flatten(1).unsqueeze(1) @ b.flatten(1).unsqueeze(2)


def penalised(penalty: Tensor, coef: Tensor) -> Tensor:
    """Return the square (B, 1, 1) of the weights (B, n_scores, D) without the intercepts, times the penalty.

    The square of all less that of the intercepts would be rounding where a large penalty makes the others small.
    """
    if coef.is_cuda:  # where it takes fewer kernels to multiply all: the intercepts' penalty is zero
        return dot(penalty * coef, coef)
    rows = coef[:, :, :-1].contiguous()
    return penalty[:, :, :1] * dot(rows, rows)
