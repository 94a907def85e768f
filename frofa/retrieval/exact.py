"""The nearest rows, exactly: products in float32 find candidates, float64 orders them, and what is close is looked at.

Products of whole chunks are fast, but two equal rows may differ in the last bits of theirs. So a few more rows than
are asked for are computed again in float64, each by itself. Where a row that was left out might still belong to them,
within the error of float32, all rows that might are computed again. What comes out is what float64 gives for all rows,
and of equal rows those that come first.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from frofa.compute.memory import row_chunks
from frofa.retrieval.metrics import Doubles, distances, rounding, score_of, scores
from frofa.retrieval.rows import CHUNK, Positions, Rows

Indices = npt.NDArray[np.int64]
SCORES = 2**26
"""Scores of float32 that are held at once."""
SPARE = 8
"""Candidates beside the neighbours, so that the last of these is told from others; more would cost more."""


class Nearest(NamedTuple):
    """Distances (q, k) in float64, nearest first, and positions (q, k)."""

    distances: Doubles
    indices: Indices


class _Candidates(NamedTuple):
    """Best scores in float32 (q, c), any order, and positions."""

    scores: Tensor
    indices: Tensor


def nearest(
    rows: Rows, queries: Doubles, k: int, metric: str, device: torch.device, allowed: Indices | None = None
) -> Nearest:
    """Find the k nearest rows of ready queries (q, D), of all rows or of those at ascending positions."""
    at: Positions = range(rows.n) if allowed is None else allowed
    step = max(1, SCORES * _more(device) // min(len(at), _chunk_rows(rows, device)))
    with _full_precision():
        parts = [_nearest(rows, queries[part], k, metric, device, at) for part in row_chunks(len(queries), step, 1)]
    if not parts:
        return Nearest(np.empty((0, k)), np.empty((0, k), np.int64))
    return Nearest(*(np.concatenate(both) for both in zip(*parts, strict=True)))


def order_pairs(rows: Rows, queries: Doubles, candidates: Indices, metric: str) -> Nearest:
    """Compute distances of candidates (q, c) in float64, and sort them; -1 is none, at an infinite distance."""
    found = np.full(candidates.shape, np.inf)
    # Each row is read once, in the order of the files, however many queries have it among their candidates.
    step = max(1, CHUNK // max(1, candidates.shape[1] * rows.width))
    for part in row_chunks(len(candidates), step, 1):
        query, place = np.nonzero(candidates[part] >= 0)
        used, where = np.unique(candidates[part][query, place], return_inverse=True)
        if not len(used):
            continue
        values = rows.read(used).cpu()[torch.from_numpy(where.reshape(-1))]
        found[part][query, place] = distances(torch.from_numpy(queries[part][query]), values, metric).numpy()
    order = np.lexsort((candidates, found), axis=1)
    return Nearest(np.take_along_axis(found, order, 1), np.take_along_axis(candidates, order, 1))


def chunks(rows: Rows, at: Positions, device: torch.device) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Read rows a chunk at a time: its part of the positions, rows (m, D), and squares of their lengths (m,)."""
    resident = rows.on(device)
    for part in row_chunks(len(at), _chunk_rows(rows, device), 1):
        if resident is not None:
            places = at[part]
            values = (
                resident[places.start : places.stop]
                if isinstance(places, range)
                else resident[torch.from_numpy(places).to(device)]
            )
        else:
            values = rows.read(at[part]).to(device)
        yield part, values, rows.squares(at[part], values)


def check_rows(rows: Rows) -> None:
    """Read all rows for the squares of their lengths; a ValueError names one that is not finite, or too large."""
    for part in row_chunks(rows.n, max(1, CHUNK // rows.width), 1):
        at = range(rows.n)[part]
        rows.squares(at, rows.read(at))


@contextmanager
def _full_precision() -> Iterator[None]:
    """Compute products in float32 as such: what is known of their error holds for no shorter format."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _chunk_rows(rows: Rows, device: torch.device) -> int:
    return max(1, CHUNK * _more(device) // rows.width)


def _more(device: torch.device) -> int:
    """Factor of what is computed at once on a GPU, which waits for its next orders otherwise."""
    return 8 if device.type == "cuda" else 1


def _nearest(rows: Rows, queries: Doubles, k: int, metric: str, device: torch.device, at: Positions) -> Nearest:
    on_device = torch.from_numpy(queries).to(device, torch.float32)
    n_candidates = min(len(at), k + max(SPARE, k // 4))
    best, longest = None, 0.0
    for part, values, squares in chunks(rows, at, device):
        longest = max(longest, float(squares.max()) ** 0.5)
        found = scores(on_device, values, squares, metric)
        best = _merge(best, _best(found, n_candidates, part.start), n_candidates)
    assert best is not None  # there is one row at least
    places = best.indices.cpu().numpy()
    candidates = np.asarray(at, np.int64)[places] if not isinstance(at, range) else places
    ordered = order_pairs(rows, queries, candidates, metric)
    result = Nearest(ordered.distances[:, :k].copy(), ordered.indices[:, :k].copy())
    if n_candidates < len(at):
        # The last score that must be beaten, and the best that a row left out can have.
        margin = rounding(queries, longest, rows.width, metric)
        last = score_of(result.distances[:, -1:], queries, metric)[:, 0]
        open_ = np.flatnonzero(best.scores.min(1).values.double().cpu().numpy() + margin >= last - margin)
        if len(open_):
            closer = _above(rows, queries[open_], last[open_] - 2 * margin[open_], k, metric, device, at)
            result.distances[open_], result.indices[open_] = closer
    return result


def _best(found: Tensor, n: int, start: int) -> _Candidates:
    values, places = found.topk(min(n, found.shape[1]), dim=1, sorted=False)
    return _Candidates(values, places + start)


def _merge(one: _Candidates | None, other: _Candidates, n: int) -> _Candidates:
    if one is None:
        return other
    values, places = (torch.cat(both, 1) for both in zip(one, other, strict=True))
    if values.shape[1] <= n:
        return _Candidates(values, places)
    values, kept = values.topk(n, dim=1, sorted=False)
    return _Candidates(values, places.gather(1, kept))


def _above(
    rows: Rows, queries: Doubles, least: Doubles, k: int, metric: str, device: torch.device, at: Positions
) -> Nearest:
    """Find the nearest among all rows whose score in float32 is not less than `least` (q,)."""
    on_device = torch.from_numpy(queries).to(device, torch.float32)
    floor = torch.from_numpy(np.nextafter(least.astype(np.float32), -np.inf, dtype=np.float32)).to(device)[:, None]
    kept = [Nearest(np.full((1, k), np.inf), np.full((1, k), -1, np.int64)) for _ in queries]
    for part, values, squares in chunks(rows, at, device):
        above = (scores(on_device, values, squares, metric) >= floor).cpu().numpy()
        for query in np.flatnonzero(above.any(1)).tolist():
            places = np.flatnonzero(above[query]) + part.start
            found = np.asarray(at[part.start : part.stop], np.int64)[places - part.start]
            one = order_pairs(rows, queries[query : query + 1], found[None], metric)
            # What was kept comes first in the files, so that a stable sort keeps equal ones in their order.
            both = Nearest(*(np.concatenate(pair, 1) for pair in zip(kept[query], one, strict=True)))
            order = np.argsort(both.distances[0], kind="stable")[:k]
            kept[query] = Nearest(both.distances[:, order], both.indices[:, order])
    return Nearest(*(np.concatenate(all_) for all_ in zip(*kept, strict=True)))
