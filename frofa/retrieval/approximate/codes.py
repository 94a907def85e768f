"""Rows as codes of two or four bits a value, in lists that faiss scans."""

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from frofa.utils.optional import require

Codes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]
BLOCK = 32
"""Rows that faiss scans together."""
LEVELS = 16
"""Values of a code of four bits, of one value of a row or of two together."""
TRAINING = 2**15
"""Rows that code books are made of."""


class Quantiser:
    """Code books (M, 16, d / M) of four bits each, for what rows (d,) leave of the centre of their list."""

    def __init__(self, books: npt.NDArray[np.float32]):
        faiss = require("faiss", "faiss")
        self.books = np.ascontiguousarray(books, np.float32)
        n_books, _, size = books.shape
        self._quantiser = faiss.ProductQuantizer(n_books * size, n_books, 4)
        faiss.copy_array_to_vector(self.books.ravel(), self._quantiser.centroids)

    @classmethod
    def fit(cls, left: Tensor, bits: int) -> "Quantiser":
        """Make code books of two or four bits a value of what a sample of rows (m, d) leaves."""
        faiss = require("faiss", "faiss")
        width = left.shape[1]
        quantiser = faiss.ProductQuantizer(width, width * bits // 4, 4)
        quantiser.cp.min_points_per_centroid = 1  # of fewer than 39 rows a value, faiss warns
        quantiser.train(left[:TRAINING].cpu().numpy())
        return cls(faiss.vector_to_array(quantiser.centroids).reshape(-1, LEVELS, 4 // bits))

    @property
    def code_size(self) -> int:
        """Bytes of a row."""
        return int(self._quantiser.code_size)

    def encode(self, left: Tensor) -> Codes:
        """Codes (m, M / 2) of what rows (m, d) leave."""
        codes: Codes = self._quantiser.compute_codes(left.cpu().numpy())
        return codes

    def decode(self, codes: Codes) -> Tensor:
        """Turn codes (m, M / 2) back into what they stand for, (m, d)."""
        return torch.from_numpy(self._quantiser.decode(np.ascontiguousarray(codes)))


class Scanner:
    """Codes of rows, by list, as faiss keeps them; none at first."""

    def __init__(self, quantiser: Quantiser, centres: Tensor):
        faiss = require("faiss", "faiss")
        n_lists, width = centres.shape
        n_books = len(quantiser.books)
        coarse = faiss.IndexFlatIP(width)
        coarse.add(centres.numpy())
        self._index = faiss.IndexIVFPQFastScan(coarse, width, n_lists, n_books, 4, faiss.METRIC_INNER_PRODUCT, BLOCK)
        self._index.by_residual = self._index.is_trained = True
        faiss.copy_array_to_vector(quantiser.books.ravel(), self._index.pq.centroids)
        self._coarse, self.quantiser = coarse, quantiser
        self.n, self.code_size = 0, quantiser.code_size

    def add(self, rows: Numbers, codes: Codes, own: npt.NDArray[Any]) -> None:
        """Add codes (m, M / 2) of rows (m,), with all rows of lists (m,) that have none so far."""
        faiss = require("faiss", "faiss")
        order = np.argsort(own, kind="stable")
        edges = np.flatnonzero(np.diff(own[order].astype(np.int64), prepend=-1, append=-1))
        for start, stop in pairwise(edges.tolist()):
            ids, packed = rows[order[start:stop]].astype(np.int64), _packed(self.quantiser, codes[order[start:stop]])
            number = int(own[order[start]])
            self._index.invlists.add_entries(number, len(ids), faiss.swig_ptr(ids), faiss.swig_ptr(packed))
        self.n += len(rows)
        self._index.ntotal = self.n

    @property
    def nbytes(self) -> int:
        """Bytes of codes, in whole blocks, and of the numbers of rows."""
        lists = self._index.invlists
        sizes = np.array([lists.list_size(number) for number in range(lists.nlist)])
        return int((-(-sizes // BLOCK) * BLOCK * self.code_size + sizes * 8).sum())

    def scan(self, queries: Tensor, lists: Tensor, coarse: Tensor, counts: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """Find the best n of each query (q, d) in its first `counts` (q,) lists (q, P), whose centres score `coarse`.

        Returns scores (q, n) as the codes have them, and rows (q, n); -inf and -1 where there are fewer.
        """
        n = min(n, self.n)
        found = torch.full((len(queries), n), -torch.inf)
        rows = torch.full((len(queries), n), -1)
        inside = torch.arange(lists.shape[1]) < counts[:, None]
        lists = torch.where(inside, lists, -1)
        # Queries of about the same number of lists together: faiss takes as many of all.
        sizes = torch.ceil(torch.log2(counts.clamp(min=1))).long()
        for size in sizes[counts > 0].unique().tolist():
            of_size = ((sizes == size) & (counts > 0)).nonzero()[:, 0]
            most = min(2**size, lists.shape[1])
            self._index.nprobe = most
            values, ids = self._index.search_preassigned(
                queries[of_size].numpy(), n, lists[of_size, :most].numpy(), coarse[of_size, :most].numpy()
            )
            ids = torch.from_numpy(ids)
            rows[of_size] = ids
            found[of_size] = torch.where(ids >= 0, torch.from_numpy(values), -torch.inf)
        return found, rows

    def contents(self) -> tuple[Codes, Numbers]:
        """Copy the codes (n, M / 2) and numbers of lists (n,), in the order of the rows."""
        faiss = require("faiss", "faiss")
        n_lists = self._index.invlists.nlist
        plain = faiss.ArrayInvertedLists(n_lists, self.code_size)
        self._index.orig_invlists = plain
        try:
            self._index.reconstruct_orig_invlists()
        finally:
            self._index.orig_invlists = None
        codes, own = np.empty((self.n, self.code_size), np.uint8), np.empty(self.n, np.int64)
        for number in range(n_lists):
            if size := plain.list_size(number):
                ids = faiss.rev_swig_ptr(plain.get_ids(number), size)
                packed = faiss.rev_swig_ptr(plain.get_codes(number), size * self.code_size)
                codes[ids], own[ids] = packed.reshape(size, -1), number
        return codes, own


def _packed(quantiser: Quantiser, codes: Codes) -> Codes:
    """Put codes (m, M / 2) in the order in which faiss scans them, in whole blocks."""
    faiss = require("faiss", "faiss")
    n_books, _, size = quantiser.books.shape
    plain = faiss.IndexPQ(n_books * size, n_books, 4, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(quantiser.books.ravel(), plain.pq.centroids)
    faiss.copy_array_to_vector(codes.ravel(), plain.codes)
    plain.ntotal, plain.is_trained = len(codes), True
    scanned = faiss.IndexPQFastScan(plain, BLOCK)  # its codes go with it
    packed: Codes = faiss.rev_swig_ptr(scanned.codes.get(), scanned.codes.nbytes()).copy()
    return packed
