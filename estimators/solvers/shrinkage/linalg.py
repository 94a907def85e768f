"""Decompositions of many small matrices, where PyTorch's own take them one after another on a GPU."""

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from frofa.compute.devices import one_thread_each

DEPENDENT = 1e-8
"""Length of what is left of a row, of length one, without what others span, below which it depends on them."""
SMALL = 128
"""Width up to which the eigenvalues of matrices on a GPU are found by the threads of the CPU: 50 x 50 in a tenth of the
time, 250 x 250 in the same."""
SHORT = 512
"""Number of rows up to which they are made orthonormal one after another on a GPU, of all matrices at once."""


def eigh(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Decompose symmetric matrices (B, r, r), as `torch.linalg.eigh` does."""
    if not matrices.is_cuda or matrices.shape[1] > SMALL:
        values, vectors = torch.linalg.eigh(matrices)
        return values, vectors
    values, vectors = eigh_by_threads(matrices.cpu())
    return values.to(matrices.device), vectors.to(matrices.device)


def eigh_by_threads(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Decompose symmetric matrices (B, r, r) on a CPU, each thread some of them."""
    with one_thread_each(len(matrices)) as n_workers, ThreadPoolExecutor(n_workers) as pool:
        parts = list(pool.map(torch.linalg.eigh, matrices.tensor_split(n_workers)))
    return torch.cat([values for values, _ in parts]), torch.cat([vectors for _, vectors in parts])


def orthonormal(rows: Tensor, used: Tensor) -> Tensor:
    """Find an orthonormal basis (B, D, n) of what rows (B, n, D), fewer than their width, span.

    Its columns are zero for rows that depend on others and for those that are not `used` (B, n), which come last.
    """
    if rows.is_cuda and rows.shape[1] <= SHORT:
        return gram_schmidt(rows * used.unsqueeze(2))
    basis, triangle = torch.linalg.qr(rows.mT)
    alone = (triangle.diagonal(dim1=1, dim2=2).abs() > DEPENDENT) & used
    # A column for a row that depends on others is arbitrary, and those after it are partly along it.
    order = (~alone).to(torch.int8).argsort(dim=1, stable=True)
    ordered = alone.gather(1, order)
    if not torch.equal(ordered, alone):
        moved = (rows * alone.unsqueeze(2)).gather(1, order.unsqueeze(2).expand_as(rows))
        basis, _ = torch.linalg.qr(moved.mT)
    found: Tensor = basis * ordered.to(basis.dtype).unsqueeze(1)
    return found


def gram_schmidt(rows: Tensor) -> Tensor:
    """Make rows (B, n, D) an orthonormal basis (B, D, n), one after another; each twice, which is exact enough."""
    found = torch.zeros_like(rows)
    for i in range(rows.shape[1]):
        row, before = rows[:, i : i + 1], found[:, :i]
        for _ in range(2):
            row = row - (row @ before.mT) @ before
        length = torch.linalg.vector_norm(row, dim=2, keepdim=True)
        found[:, i : i + 1] = torch.where(length > DEPENDENT, row / length.clamp(min=DEPENDENT), 0)
    return found.mT
