"""Problems of logistic regression side by side: their probabilities, gradients and curvature, and a preconditioner."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

OWN = 256
"""Samples of a class that the preconditioner treats one by one, at most."""
DENSE = 512
"""Weights of a problem up to which its Hessian is inverted as it is."""

LEAST, MOST = 1e-20, 1e16
"""Bounds of the penalty of the mean cross-entropy: beyond them, nothing that it changes in probabilities is more than
rounding. Where features were divided by something large, some may be small now, and the first is as much smaller."""
RIDGES = (1e-9, 1e-7, 1e-5, 1e-3)
"""Added to the unit diagonal of a Hessian, one after another, until it has a Cholesky factor."""


class Batch:
    """B problems of one shape: ``sum_i share_i * cross_entropy_i + penalty * |coef|^2 / 2`` each.

    Two classes have a single score, that of class 1 against 0, as in scikit-learn; more have one each. Products with
    the features are in float32 until `use_float64`, which small problems begin with.

    Parameters
    ----------
    features : Tensor of float64, shape (B, n, D)
        The last channel is the constant one, whose weight, the intercept, is not penalised.
    codes : Tensor of int64, shape (B, n)
    weights : Tensor of float64, shape (B, n)
        Zero for rows that only fill up the shape.
    n_classes : int
    units : Tensor of float64, shape (B,), default=None
        What features were divided by, which were too large or too small for float32: weights are as many times those
        that are penalised, and all is in float64. None is 1.
    """

    def __init__(self, features: Tensor, codes: Tensor, weights: Tensor, n_classes: int, units: Tensor | None = None):
        self.exact = features
        self.fast = features.float()
        self.rough = True  # whether float32 does for scores and weights, too, at first
        self.n_scores = 1 if n_classes == 2 else n_classes
        self.total = weights.sum(1)
        self.squared_units = torch.ones_like(self.total) if units is None else units**2
        self.share = (weights / self.total[:, None]).unsqueeze(2)
        classes = torch.arange(n_classes - self.n_scores, n_classes, device=codes.device)
        self.targets = (codes.unsqueeze(2) == classes).float()
        self._codes = codes.unsqueeze(2)
        known = self.fast if units is None else self.exact
        self.scales = torch.einsum("bn,bnd->bd", self.share[:, :, 0].to(known.dtype), known**2).unsqueeze(1)
        self.dense = self.n_scores * features.shape[2] <= DENSE and features.shape[1] <= 2**14
        self._own = None if self.dense or self.n_scores == 1 else _own_rows(codes, self.share, n_classes)
        self._gather_members()
        if self.dense or units is not None:
            self.use_float64()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the weights of all problems: (B, n_scores, D)."""
        return len(self.exact), self.n_scores, self.exact.shape[2]

    @property
    def size(self) -> float:
        """Root mean square of the largest feature, at least 1."""
        return float(self.scales.max().clamp(min=1).sqrt())

    def tensors(self) -> tuple[Tensor, ...]:
        """All that depends on the samples; float64 is in use."""
        members = () if self._own is None else (*self._own, self._members)
        return self.exact, self.total, self.squared_units, self.share, self.targets, self._codes, self.scales, *members

    def use_float64(self) -> None:
        """Compute products with the features in float64 from now on."""
        if self.fast.dtype != torch.float64:
            self.fast, self.rough = self.exact, False
            self.scales = self.scales.double()
            self._gather_members()

    def _gather_members(self) -> None:
        """Features (B, n_scores, m, D) of the samples of each class."""
        if self._own is not None:
            which = torch.arange(len(self.fast), device=self.fast.device)[:, None, None]
            self._members = self.fast[which, self._own.rows]
            self._scaled = torch.empty_like(self._members)

    def penalty(self, C: float) -> Tensor:
        """Penalty (B, 1, D) that makes C times the summed cross-entropy of the mean one."""
        least = LEAST / self.squared_units.clamp(min=1)
        penalty = torch.maximum(1 / (C * self.total * self.squared_units), least).clamp(max=MOST)
        penalty = penalty[:, None, None].repeat(1, 1, self.exact.shape[2])
        penalty[:, :, -1] = 0
        return penalty

    def unbound(self, coef: Tensor, C: float) -> Tensor:
        """Weights (B, n_scores, D) for that C from those of the largest penalty, where its own is larger.

        There, they are too small to change a probability, and inversely proportional to it.
        """
        share = (MOST * C * self.total * self.squared_units).clamp(max=1)[:, None, None]
        return torch.cat([coef[:, :, :-1] * share, coef[:, :, -1:]], 2)

    def probabilities(self, scores: Tensor) -> Tensor:
        """Of the scored classes, shape (B, n, n_scores)."""
        return torch.sigmoid(scores) if self.n_scores == 1 else torch.softmax(scores, 2)

    def losses(self, scores: Tensor) -> Tensor:
        """Mean cross-entropy (B,) of scores (B, n, n_scores)."""
        if self.n_scores == 1:
            losses = F.softplus(scores) - scores * self._codes
        else:
            losses = -torch.log_softmax(scores, 2).gather(2, self._codes)
        return (losses * self.share.to(scores.dtype)).sum((1, 2))

    def scores(self, coef: Tensor) -> Tensor:
        """Scores (B, n, n_scores) of weights in float64, or their change along a direction in `fast`'s dtype."""
        features = self.exact if coef.dtype == torch.float64 else self.fast
        return (coef @ features.mT).mT.contiguous()  # on a CPU, the product in this order is up to three times as fast

    def errors(self, scores: Tensor, probabilities: Tensor) -> Tensor:
        """Probabilities minus targets (B, n, n_scores), each to the precision of its own size.

        That of a sample's class is what the other classes have: one minus its probability would be all rounding where
        the model is sure.
        """
        if self.n_scores == 1:
            return torch.where(self._codes > 0, -torch.sigmoid(-scores), probabilities)
        errors = probabilities.scatter(2, self._codes, 0)
        return errors.scatter_(2, self._codes, -errors.sum(2, keepdim=True))

    def pull_back(self, error: Tensor) -> Tensor:
        """Gradient (B, n_scores, D) of `weighted` errors in probability."""
        return error.transpose(1, 2) @ self.fast

    def weighted(self, error: Tensor) -> Tensor:
        """Errors in probability (B, n, n_scores) times the shares, for products with `fast`."""
        return error.to(self.fast.dtype) * self.share.to(self.fast.dtype)

    def gradient(self, errors: Tensor) -> Tensor:
        """Gradient (B, n_scores, D) of the mean cross-entropy, with products in float64."""
        return (errors * self.share).transpose(1, 2) @ self.exact

    def curvature(self, probabilities: Tensor, change: Tensor) -> Tensor:
        """Second derivative (B, 1, 1) of the mean cross-entropy along a change of the scores."""
        share = self.share.to(change.dtype)
        moved = probabilities.to(change.dtype) * change
        mean = moved.sum(2, keepdim=True)
        return (dot(moved.mul_(share), change) - (mean**2 * share).sum(1, keepdim=True)).double()

    def derivatives(self, probabilities: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """First (B, m) and second (B, m, m) ones of the mean cross-entropy in the coefficients of m scores.

        Shapes are (B, n, n_scores) and (B, m, n, n_scores).
        """
        share, rows = self.share.to(scores.dtype), scores.flatten(2)
        slope = rows @ self.weighted(probabilities - self.targets).flatten(1).unsqueeze(2)
        moved = scores * (probabilities * share).unsqueeze(1)
        means = moved.sum(3)
        hessian = moved.flatten(2) @ rows.transpose(1, 2)
        hessian = hessian - (means / share.transpose(1, 2).clamp(min=torch.finfo(share.dtype).tiny)) @ means.mT
        return slope[:, :, 0].double(), hessian.double()

    def preconditioner(self, probabilities: Tensor, penalty: Tensor) -> Callable[[Tensor], Tensor]:
        """Inverse of the Hessian where problems are small, and otherwise of what is left of it without the coupling.

        The Hessian's block of a class is ``sum_i q_i x_i x_i'`` and the penalty, with ``q_i = share_i p_i (1 - p_i)``.
        Where samples are few, those of the class itself have most of the weight, and theirs is the part that differs
        from class to class: it is kept as it is, and inverted in the span of the few (Woodbury's identity). The others'
        is replaced by its diagonal at equal weights.
        """
        if self.dense:
            invert = self._newton(probabilities.double(), penalty)
            return lambda v: self._centred(invert(v))
        factors = self.factors(probabilities, penalty)
        return lambda v: self.precondition(v, factors)

    def precondition(self, v: Tensor, factors: Sequence[Tensor]) -> Tensor:
        """Of the preconditioner that `factors` stand for, where problems are not small, the product with v."""
        inverse, *inner = factors
        v = inverse * v
        for weights in inner:
            of_rows = v.unsqueeze(2) @ self._members.transpose(2, 3) @ weights  # of rows: columns are slow
            v = v - inverse * (of_rows @ self._members).squeeze(2)
        return self._centred(v)

    def _centred(self, v: Tensor) -> Tensor:
        if self.n_scores > 1:  # a constant that is added to all intercepts changes nothing
            v[:, :, -1] -= v[:, :, -1].mean(1, keepdim=True)
        return v

    def factors(self, probabilities: Tensor, penalty: Tensor) -> tuple[Tensor, ...]:
        """Inverse (B, n_scores, D) of the diagonal, and the part (B, n_scores, m, m) of a class's own samples."""
        spread = ((probabilities * (1 - probabilities)).clamp(min=0) * self.share.to(probabilities.dtype)).mT
        rest = spread.sum(2, keepdim=True)
        floor = 1e-3 * rest.mean(1, keepdim=True) + 1e-12
        if self._own is None:
            return ((1 / (torch.maximum(rest, floor) * self.scales + penalty)).to(self.fast.dtype),)
        own = spread.gather(2, self._own.rows).double() * self._own.present
        rest = torch.maximum(rest - own.sum(2, keepdim=True), floor)
        inverse = (1 / (rest * self.scales + penalty)).to(self.fast.dtype)
        root = own.sqrt()
        torch.mul(self._members, inverse.unsqueeze(2), out=self._scaled)
        inner = (self._scaled @ self._members.transpose(2, 3)).double()
        unit = torch.eye(own.shape[2], dtype=own.dtype, device=own.device)
        inner = root.unsqueeze(3) * inner * root.unsqueeze(2) + unit
        factor, _ = torch.linalg.cholesky_ex(inner)  # of what is definite: there is nothing to wait for the device for
        inner = torch.linalg.solve_triangular(factor, unit.expand_as(inner), upper=False) * root.unsqueeze(2)
        return inverse, (inner.mT @ inner).to(self.fast.dtype)

    def _newton(self, probabilities: Tensor, penalty: Tensor) -> Callable[[Tensor], Tensor]:
        """Inverse of the Hessian."""
        n_problems, n_scores, width = self.shape
        hessian = self.exact.new_empty(n_problems, n_scores, width, n_scores * width)
        for k in range(n_scores):
            weights = -probabilities[:, :, k : k + 1] * probabilities * self.share
            weights[:, :, k] += (probabilities[:, :, k : k + 1] * self.share)[:, :, 0]
            rows = (weights.unsqueeze(3) * self.exact.unsqueeze(2)).flatten(2)
            hessian[:, k] = self.exact.transpose(1, 2) @ rows
        hessian = hessian.view(n_problems, n_scores * width, -1)
        hessian.diagonal(dim1=1, dim2=2).add_(penalty.expand(self.shape).flatten(1))
        factor, unit = _factorised(hessian)

        def invert(v: Tensor) -> Tensor:
            rows = v.double().flatten(1) * unit
            return (torch.cholesky_solve(rows.unsqueeze(2), factor).squeeze(2) * unit).view(v.shape).to(v.dtype)

        return invert


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner products (B, 1, 1)."""
    if a.is_cuda:  # where a product of a row and a column is the work of a single block
        return (a * b).sum(-1).reshape(len(a), -1).sum(1)[:, None, None]  # in one go, few blocks would do all of it
    return a.flatten(1).unsqueeze(1) @ b.flatten(1).unsqueeze(2)


def _factorised(hessian: Tensor) -> tuple[Tensor, Tensor]:
    """Cholesky factors of Hessians (B, m, m) in units (B, m) that make their diagonals one; and these units.

    Weights on features of whatever scale then count alike in what is added to the diagonal: little, and more where
    rounding has left a Hessian that is not positive definite.
    """
    unit = hessian.diagonal(dim1=1, dim2=2).clamp(min=torch.finfo(hessian.dtype).tiny).rsqrt()
    scaled = hessian * unit.unsqueeze(1) * unit.unsqueeze(2)
    diagonal = scaled.diagonal(dim1=1, dim2=2)
    for ridge in RIDGES:
        diagonal += ridge
        factor, failed = torch.linalg.cholesky_ex(scaled)
        if not failed.any():
            return factor, unit
    return torch.eye(scaled.shape[1], dtype=scaled.dtype, device=scaled.device).expand_as(scaled), unit


class _Own(NamedTuple):
    """Rows (B, n_scores, m) that belong to each class, and whether there are as many."""

    rows: Tensor
    present: Tensor


def _own_rows(codes: Tensor, share: Tensor, n_classes: int) -> _Own:
    """Up to m samples of each class, twice the mean number at most."""
    member = share[:, :, 0] > 0
    belongs = (codes.unsqueeze(1) == torch.arange(n_classes, device=codes.device)[:, None]) & member.unsqueeze(1)
    most = int(belongs.sum(2).max())
    m = min(most, max(8, 2 * codes.shape[1] // n_classes), OWN)
    present, rows = belongs.byte().topk(m, 2)
    return _Own(rows, present.bool())
