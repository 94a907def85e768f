"""Preconditioners of logistic regression: the inverse Hessian of small problems, and what comes near it elsewhere."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from frofa.estimators.solvers.problems import Problems

OWN = 256
"""Most samples of a class that the preconditioner treats one by one. With one instead of all 8, `logistic` of
benchmarks/search.py takes 1.3 times as long, and nearly twice the steps."""
DENSE = 512
"""Most weights of a problem whose Hessian is inverted as it is; that takes their cube, and few steps."""
DENSE_SAMPLES = 2**14
"""Most samples of a problem whose Hessian is inverted: all of them go into each."""
RIDGES = (1e-9, 1e-7, 1e-5, 1e-3)
"""Additions to the unit diagonal of a Hessian, one after another, until it has a Cholesky factor, which collinear
channels can take more than the first for (`test_collinear_constant_and_single_channels_and_duplicates`)."""


class Preconditioner(ABC):
    """Approximation of the inverse Hessian, applied to vectors (B, n_scores, D) in the precision of `problems.fast`.

    It serves `refresh` steps before it is to be updated, or all of a descent where that is None.
    """

    refresh: ClassVar[int | None] = None
    inverse_diagonal: Tensor

    def __init__(self, problems: Problems):
        self.problems = problems

    @abstractmethod
    def update(self, probabilities: Tensor, penalty: Tensor) -> None:
        """Approximate the Hessian where the problems are now, in the precision that is theirs now."""

    def __call__(self, v: Tensor) -> Tensor:
        """Return the product with v."""
        return self._centred(self._apply(v))

    def scale(self, v: Tensor) -> Tensor:
        """Return the product of the inverse diagonal and v, which leads downhill where rounding has spoilt the rest."""
        return self._centred((self.inverse_diagonal * v).to(v.dtype))

    def _centred(self, v: Tensor) -> Tensor:
        if self.problems.n_scores > 1:  # a constant that is added to all intercepts changes nothing
            v[:, :, -1] -= v[:, :, -1].mean(1, keepdim=True)
        return v

    @abstractmethod
    def _apply(self, v: Tensor) -> Tensor:
        """Return the product with v, whose intercepts may have any mean."""


def is_small(problems: Problems) -> bool:
    """Tell whether the Hessian of each problem is inverted as it is."""
    _, n_scores, width = problems.shape
    return n_scores * width <= DENSE and problems.exact.shape[1] <= DENSE_SAMPLES


def preconditioner_of(problems: Problems) -> Preconditioner:
    """Make the preconditioner that suits the size of the problems."""
    return InverseHessian(problems) if is_small(problems) else ClassBlocks(problems)


class InverseHessian(Preconditioner):
    """Inverse of the whole Hessian, by its Cholesky factor in float64."""

    refresh = 2

    def update(self, probabilities: Tensor, penalty: Tensor) -> None:
        """Factorise the Hessian."""
        problems, probabilities = self.problems, probabilities.double()
        n_problems, n_scores, width = problems.shape
        hessian = problems.exact.new_empty(n_problems, n_scores, width, n_scores * width)
        for k in range(n_scores):
            # Row k of blocks: sum_i share_i p_ik (1[k = l] - p_il) x_i x_i' for all classes l.
            weights = -probabilities[:, :, k : k + 1] * probabilities * problems.share
            weights[:, :, k] += (probabilities[:, :, k : k + 1] * problems.share)[:, :, 0]
            rows = (weights.unsqueeze(3) * problems.exact.unsqueeze(2)).flatten(2)
            hessian[:, k] = problems.exact.transpose(1, 2) @ rows
        hessian = hessian.view(n_problems, n_scores * width, -1)
        hessian.diagonal(dim1=1, dim2=2).add_(penalty.expand(problems.shape).flatten(1))
        self._factor, self._unit = _factorised(hessian)
        self.inverse_diagonal = (self._unit**2).view(problems.shape)

    def _apply(self, v: Tensor) -> Tensor:
        rows = v.double().flatten(1) * self._unit
        return (torch.cholesky_solve(rows.unsqueeze(2), self._factor).squeeze(2) * self._unit).view(v.shape).to(v.dtype)


class ClassBlocks(Preconditioner):
    """Inverse of what is left of the Hessian without the coupling of classes.

    The Hessian's block of a class is ``sum_i q_i x_i x_i'`` and the penalty, with ``q_i = share_i p_i (1 - p_i)``.
    Where samples are few, those of the class itself have most of the weight, and theirs is the part that differs from
    class to class: it is kept as it is, and inverted in the span of the few (Woodbury's identity). The others' is
    replaced by its diagonal at equal weights.
    """

    def __init__(self, problems: Problems):
        super().__init__(problems)
        self.inverse_diagonal = self._inner = torch.empty(0)
        # Of each class, rows (B, n_scores, m) of its samples, whether there are as many, and their features.
        self._rows = self._present = self._members = torch.empty(0)
        if problems.n_scores > 1:
            self._rows, self._present = _own_rows(problems)
            self._gather()

    def tensors(self) -> tuple[Tensor, ...]:
        """List all that depends on the samples, where products are in float64."""
        return *self.problems.tensors(), self._rows, self._present, self._members

    def factors(self) -> tuple[Tensor, Tensor]:
        """List all that depends on the state: `update` writes it where it was, as long as the precision is the same."""
        return self.inverse_diagonal, self._inner

    def _gather(self) -> None:
        """Gather the features (B, n_scores, m, D) of the samples of each class."""
        which = torch.arange(len(self._rows), device=self._rows.device)[:, None, None]
        self._members = self.problems.fast[which, self._rows]

    def update(self, probabilities: Tensor, penalty: Tensor) -> None:
        """Compute the inverse diagonal, and the part (B, n_scores, m, m) of a class's own samples."""
        problems, dtype = self.problems, self.problems.fast.dtype
        # Weights q of all samples, (B, n_scores, n), and their sum, which is never all rounding.
        spread = ((probabilities * (1 - probabilities)).clamp(min=0) * problems.share.to(probabilities.dtype)).mT
        rest = spread.sum(2, keepdim=True)
        floor = 1e-3 * rest.mean(1, keepdim=True) + 1e-12
        if not len(self._rows):
            inverse = 1 / (torch.maximum(rest, floor) * problems.scales + penalty)
            self.inverse_diagonal = _written(self.inverse_diagonal, inverse.to(dtype))
            return
        if self._members.dtype != dtype:
            self._gather()
        # Diagonal of the other classes' samples.
        own = spread.gather(2, self._rows).double() * self._present
        rest = torch.maximum(rest - own.sum(2, keepdim=True), floor)
        inverse = (1 / (rest * problems.scales + penalty)).to(dtype)
        # Woodbury, with X the class's rows and r the roots of their weights: r (I + r X D^-1 X' r)^-1 r.
        root = own.sqrt()
        inner = ((self._members * inverse.unsqueeze(2)) @ self._members.transpose(2, 3)).double()
        unit = torch.eye(own.shape[2], dtype=own.dtype, device=own.device)
        inner = root.unsqueeze(3) * inner * root.unsqueeze(2) + unit
        factor, _ = torch.linalg.cholesky_ex(inner)  # of what is definite: there is nothing to wait for the device for
        inner = torch.linalg.solve_triangular(factor, unit.expand_as(inner), upper=False) * root.unsqueeze(2)
        self.inverse_diagonal = _written(self.inverse_diagonal, inverse)
        self._inner = _written(self._inner, (inner.mT @ inner).to(dtype))

    def _apply(self, v: Tensor) -> Tensor:
        v = self.inverse_diagonal * v
        if len(self._rows):
            of_rows = v.unsqueeze(2) @ self._members.transpose(2, 3) @ self._inner  # of rows: columns are slow
            v = v - self.inverse_diagonal * (of_rows @ self._members).squeeze(2)
        return v


def _written(kept: Tensor, new: Tensor) -> Tensor:
    """Write values to where the last ones were, if they fit there."""
    return kept.copy_(new) if (kept.shape, kept.dtype) == (new.shape, new.dtype) else new


def _factorised(hessian: Tensor) -> tuple[Tensor, Tensor]:
    """Return Cholesky factors of Hessians (B, m, m) in units (B, m) that make their diagonals one; and these units.

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


def _own_rows(problems: Problems) -> tuple[Tensor, Tensor]:
    """Find up to m samples of each class, twice the mean number at most, and tell which of them there are."""
    codes, n_classes = problems.codes[:, :, 0], problems.n_classes
    member = problems.share[:, :, 0] > 0
    belongs = (codes.unsqueeze(1) == torch.arange(n_classes, device=codes.device)[:, None]) & member.unsqueeze(1)
    # At most m rows a class, so that one large class does not set the shape for all.
    most = int(belongs.sum(2).max())
    m = min(most, max(8, 2 * codes.shape[1] // n_classes), OWN)
    present, rows = belongs.byte().topk(m, 2)
    return rows, present.bool()
