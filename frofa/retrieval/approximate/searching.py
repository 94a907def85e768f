"""Approximate search that says, query by query, how far it must look.

A few lists are scanned first, and the best rows found there are read and compared exactly. The last of the neighbours
so far is what others must beat. Rows of a list are spread about its centre as all are, so that a list is left out only
if its centre is more than z standard deviations, in the direction of this query, short of that. Codes err by a known
margin, so that rows are read which are within it. That holds for any query: one far from all rows, as words are, looks
into more lists, and where there are no clusters, all lists are scanned. A query with more candidates than can be read
is left to the exact search.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from frofa.compute.memory import row_chunks
from frofa.retrieval.approximate.codes import Scanner
from frofa.retrieval.approximate.lists import Lists, Space
from frofa.retrieval.exact import SPARE, Indices, Nearest, order_pairs
from frofa.retrieval.metrics import Doubles, rounding, score_of, scores
from frofa.retrieval.rows import Rows

BATCH = 1024
"""Queries that are searched together."""
MOST_CANDIDATES = 2**15
"""Candidates of a query up to which they are read; to read more takes as long as all rows do."""
WIDER = 8
"""Factor by which candidates grow for queries that need more."""
READ = 2**25
"""Values of candidates that are read at once."""


@dataclass
class Approximate:
    """Lists, codes, and how wide to search.

    `z` is in standard deviations, `margin` relative to the length of a query; `first` lists are scanned at first, and
    `candidates` are taken of each scan. It was built of `n_built` rows; others were added.
    """

    space: Space
    lists: Lists
    scanner: Scanner
    z: float
    margin: float
    first: int
    candidates: int
    n_built: int

    @property
    def nbytes(self) -> int:
        """Bytes that the index holds in memory."""
        tensors = (self.space.rotation, *self.lists)
        return self.scanner.nbytes + sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def search(
        self, rows: Rows, queries: Doubles, k: int, mask: npt.NDArray[np.bool_] | None = None
    ) -> tuple[Nearest, Indices]:
        """Find the k nearest rows of ready queries (q, D), of those in a mask; say which queries are left over."""
        found = Nearest(np.full((len(queries), k), np.inf), np.full((len(queries), k), -1, np.int64))
        left: list[Any] = []
        for part in row_chunks(len(queries), BATCH, 1):
            one = _Batch(self, rows, queries[part], k, None if mask is None else torch.from_numpy(mask))
            found.distances[part], found.indices[part] = one.found
            left.append(one.left + part.start)
        return found, np.concatenate(left) if left else np.empty(0, np.int64)


class _Scan(NamedTuple):
    """Scores (q, n) by codes, rows (q, n), -1 where there is none, and the score (q,) that those left out are below."""

    values: Tensor
    rows: Tensor
    edge: Tensor


class _Batch:
    """Queries that are searched together: `found`, and positions of those that are `left` to the exact search."""

    def __init__(self, index: Approximate, rows: Rows, ready: Doubles, k: int, mask: Tensor | None):
        self._index, self._rows, self._ready, self._k, self._mask = index, rows, ready, k, mask
        self._queries = index.space.queries(ready)
        coarse, bounds = index.lists.bounds(self._queries, index.z)
        # Lists by what they may have, best first, so that those worth a look are the first of each query.
        self._bounds, self._order = bounds.sort(dim=1, descending=True)
        self._coarse = coarse.gather(1, self._order)
        self._margins = index.margin * self._queries.norm(dim=1)
        self.found = Nearest(np.full((len(ready), k), np.inf), np.full((len(ready), k), -1, np.int64))
        self.left = self._search()

    def _search(self) -> Indices:
        every = torch.arange(len(self._queries))
        n = max(self._index.candidates, 4 * self._k) * self._rarity()
        begun = torch.full((len(every),), min(self._index.first, self._order.shape[1]))
        first = self._scan(every, 0, begun, n)
        best = first.values.topk(min(first.values.shape[1], 2 * self._k + SPARE), dim=1)
        self._compare(every, first.rows.gather(1, best.indices))
        rest = self._scan(every, int(begun[0]), self._worth(every), n)
        todo = self._take(every, [first, rest])
        while len(todo) and n < MOST_CANDIDATES:
            n *= WIDER
            todo = self._take(todo, [self._scan(todo, 0, self._worth(todo), n)])
        return todo.numpy().astype(np.int64)

    def _rarity(self) -> int:
        """Rows for each that may be found, up to a bound."""
        if self._mask is None:
            return 1
        return min(WIDER**2, len(self._mask) // max(1, int(self._mask.sum())) + 1)

    def _least(self, part: Tensor) -> Tensor:
        """Score of the last neighbour so far, -inf if there are fewer."""
        last = self.found.distances[part.numpy(), -1:]
        known = np.isfinite(last)
        scored = score_of(np.where(known, last, 0.0), self._ready[part.numpy()], self._index.space.metric)
        return torch.from_numpy(np.where(known, scored, -np.inf)[:, 0]).float()

    def _worth(self, part: Tensor) -> Tensor:
        """Number of lists that may have a row which is nearer than those so far."""
        counts: Tensor = (self._bounds[part] >= self._least(part)[:, None]).sum(1)
        return counts

    def _scan(self, part: Tensor, start: int, stop: Tensor, n: int) -> _Scan:
        """Scan each query's lists from `start` to `stop` (q,)."""
        last = max(start, int(stop.max()))
        lists, coarse = self._order[part, start:last], self._coarse[part, start:last]
        values, rows = self._index.scanner.scan(self._queries[part], lists, coarse, (stop - start).clamp(min=0), n)
        # Where all rows of the lists were taken, none is left out.
        edge = values[:, -1] if n < self._index.scanner.n else torch.full((len(part),), -torch.inf)
        if self._mask is not None:
            allowed = (rows >= 0) & self._mask[rows]
            values, rows = torch.where(allowed, values, -torch.inf), torch.where(allowed, rows, -1)
        return _Scan(values, rows, edge)

    def _take(self, part: Tensor, scans: list[_Scan]) -> Tensor:
        """Compare candidates of scans that may be near enough; give back those queries of which there are more."""
        values = torch.cat([scan.values for scan in scans], 1)
        rows = torch.cat([scan.rows for scan in scans], 1)
        near = (values >= self._floor(part)[:, None]) & (rows >= 0)
        # Candidates of each query first, by their scores, and no wider than those of the query with most.
        order = torch.where(near, values, -torch.inf).sort(dim=1, descending=True)
        chosen = torch.where(order.values > -torch.inf, rows.gather(1, order.indices), -1)
        self._compare(part, chosen[:, : int(near.sum(1).max())])
        floor = self._floor(part)
        over = torch.stack([(scan.edge >= floor) & (scan.edge > -torch.inf) for scan in scans]).any(0)
        return part[over]

    def _floor(self, part: Tensor) -> Tensor:
        floor: Tensor = self._least(part) - self._margins[part]
        return floor

    def _compare(self, part: Tensor, candidates: Tensor) -> None:
        """Compare candidates (q, c), and what was found before, with the queries exactly, and keep the nearest."""
        both = torch.cat([torch.from_numpy(self.found.indices)[part], candidates], 1).sort(dim=1).values
        both[:, 1:][both[:, 1:] == both[:, :-1]] = -1
        step = max(1, READ // (self._rows.width * both.shape[1]))
        for piece in row_chunks(len(part), step, 1):
            at = part[piece].numpy()
            near = self._nearest_of(at, both[piece])
            ordered = order_pairs(self._rows, self._ready[at], near, self._index.space.metric)
            self.found.distances[at] = ordered.distances[:, : self._k]
            self.found.indices[at] = ordered.indices[:, : self._k]

    def _nearest_of(self, at: Indices, candidates: Tensor) -> Indices:
        """Choose the nearest in float32, and some to spare."""
        n = self._k + SPARE
        if candidates.shape[1] <= n:
            return candidates.numpy()
        # Each row is read once; the product of all with all costs less than to gather pairs.
        used, where = np.unique(candidates.numpy(), return_inverse=True)
        used, where = (used[1:], where - 1) if used[0] < 0 else (used, where)
        if not len(used):
            return candidates[:, :n].numpy()
        values = self._rows.read(used).cpu()
        squares = self._rows.squares(used, values)
        queries = torch.from_numpy(self._ready[at]).float()
        products = scores(queries, values, squares, self._index.space.metric)
        of_pairs = products.gather(1, torch.from_numpy(where.reshape(candidates.shape)).clamp(min=0))
        of_pairs = torch.where(candidates >= 0, of_pairs, -torch.inf)
        # Those, too, that float32 cannot tell from the last.
        last = of_pairs.topk(self._k, dim=1).values[:, -1]
        longest = float(squares.max()) ** 0.5
        margin = torch.from_numpy(rounding(self._ready[at], longest, self._rows.width, self._index.space.metric))
        n = max(n, int((of_pairs >= (last - 2 * margin)[:, None]).sum(1).max()))
        best = of_pairs.topk(min(n, candidates.shape[1]), dim=1)
        return torch.where(best.values > -torch.inf, candidates.gather(1, best.indices), -1).numpy()
