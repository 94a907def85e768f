"""Building an approximate index: lists, codes, and how wide to search, by queries of which the answer is known."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from frofa.retrieval.approximate.codes import Codes, Quantiser, Scanner
from frofa.retrieval.approximate.lists import Lists, Space, assign, number_of_lists
from frofa.retrieval.approximate.searching import Approximate
from frofa.retrieval.exact import Indices, Nearest, chunks, nearest
from frofa.retrieval.metrics import Doubles, ready_queries, score_of
from frofa.retrieval.rows import Rows

SAMPLE, SAMPLE_OF_LIST = 2**14, 64
"""Rows that lists are made of, at least, and for each list."""
TRIALS = 768
"""Queries of each kind, of which half choose how wide to search, and half say how good that is."""
RANKS = (1, 10)
"""Numbers of neighbours that are tried."""
SURE, SPARE_WIDTH = 0.998, 1.1
"""Part of the neighbours of the trials that the width is chosen to find, and the factor that it is widened by: of some
hundred trials, the widest is not the widest of all."""
ENOUGH = 0.993
"""Recall of the other half of the trials below which the search is made `WIDER`, at most `ROUNDS` times."""
WIDER, ROUNDS = 1.12, 12
FIRST, FIRST_PART = 8, 1 / 128
"""Lists that are scanned at first: so many at least, or this part of all."""
MANY = 2000
"""Candidates of a query above which codes have four bits a value, not two."""
TURNS = 4
"""Turns in which codes are made, so that a quarter of them is in memory twice."""
LEAST_CANDIDATES, MOST_CANDIDATES = 64, 8192


class Trials(NamedTuple):
    """Ready queries (q, D), their true neighbours, one more than is tried, and which row each query is, -1 if none."""

    queries: Doubles
    found: Nearest
    own: Indices


def build(rows: Rows, metric: str, device: torch.device) -> tuple[Approximate, dict[str, dict[int, float]]]:
    """Build an index of rows, and measure its recall of each kind of query, by the number of neighbours."""
    rng = np.random.default_rng(0)
    sample, length = _sample(rows, rng, device)
    space = Space.of(rows.width, metric, length)
    n_lists = number_of_lists(rows.n)
    inside = space.rows(*sample)
    lists = Lists.fit(inside, n_lists)
    trials = {kind: _trials(rows, queries, own, metric, device) for kind, queries, own in _queries(rows, metric, rng)}
    quantiser, margin, count = _quantiser(rows, inside, lists, space, trials)
    scanner = _scanner(rows, space, lists, quantiser, device)
    first = min(n_lists, max(FIRST, int(n_lists * FIRST_PART)))
    candidates = int(np.clip(2 * count, LEAST_CANDIDATES, MOST_CANDIDATES))
    index = Approximate(space, lists, scanner, 0.0, margin, first, candidates, rows.n)
    index.z = SPARE_WIDTH * max(_needed_z(rows, index, _half(one, 0)) for one in trials.values())
    return index, _widened(rows, index, trials)


def encode(rows: Tensor, lists: Lists, quantiser: Quantiser) -> tuple[Codes, npt.NDArray[np.uint16]]:
    """Codes (m, M / 2) of rows (m, d), and numbers (m,) of their lists."""
    centres = lists.centres.to(rows.device)
    own = assign(rows, centres)
    return quantiser.encode(rows - centres[own]), own.cpu().numpy().astype(np.uint16)


def _sample(rows: Rows, rng: np.random.Generator, device: torch.device) -> tuple[tuple[Tensor, Tensor], float]:
    n = min(rows.n, max(SAMPLE, SAMPLE_OF_LIST * number_of_lists(rows.n)))
    at = np.sort(rng.choice(rows.n, n, replace=False))
    values = rows.read(at).to(device)
    squares = rows.squares(at, values)
    return (values, squares), float(squares.mean()) ** 0.5 or 1.0


def _queries(rows: Rows, metric: str, rng: np.random.Generator) -> Iterator[tuple[str, Doubles, Indices]]:
    """Rows themselves, rows with as much noise as signal, and directions that have nothing to do with any."""
    at = np.sort(rng.choice(rows.n, min(rows.n, TRIALS), replace=False))
    values = rows.read(at).double().cpu().numpy()
    noise = rng.standard_normal(values.shape) / rows.width**0.5
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    none = np.full(len(at), -1)
    yield "rows", ready_queries(values, metric), at
    yield "noised", ready_queries(values + lengths * noise, metric), none
    yield "directions", ready_queries(lengths.mean() * noise, metric), none


def _trials(rows: Rows, queries: Doubles, own: Indices, metric: str, device: torch.device) -> Trials:
    k = max(RANKS) + 1
    found = nearest(rows, queries, k + 1, metric, device)
    # A row is not its own neighbour; of other queries, the last is left out.
    itself = found.indices == own[:, None]
    itself[~itself.any(1), -1] = True
    kept = Nearest(found.distances[~itself].reshape(-1, k), found.indices[~itself].reshape(-1, k))
    return Trials(queries, kept, own)


def _half(trials: Trials, which: int) -> Trials:
    found = Nearest(trials.found.distances[which::2], trials.found.indices[which::2])
    return Trials(trials.queries[which::2], found, trials.own[which::2])


def _quantiser(
    rows: Rows, sample: Tensor, lists: Lists, space: Space, trials: Mapping[str, Trials]
) -> tuple[Quantiser, float, float]:
    """Choose code books by how many candidates queries would have, the margin of their error, and that number."""
    centres = lists.centres.to(sample.device)
    left = sample - centres[assign(sample, centres)]
    for bits in (2, 4):
        quantiser = Quantiser.fit(left, bits)
        margin = SPARE_WIDTH * max(
            _needed_margin(rows, lists, space, quantiser, _half(one, 0)) for one in trials.values()
        )
        count = _candidates(rows, sample, space, margin, trials)
        if count <= MANY:
            break
    return quantiser, margin, count


def _candidates(rows: Rows, sample: Tensor, space: Space, margin: float, trials: Mapping[str, Trials]) -> float:
    """Estimate how many candidates a query has, as a median, the largest of all kinds."""
    counts = []
    for one in trials.values():
        queries = space.queries(one.queries)
        floor = _scores(space, one)[:, -1:] - margin * queries.norm(dim=1, keepdim=True)
        inside = (queries.to(sample.device) @ sample.T >= floor.to(sample.device)).float().mean(1)
        counts.append(float(inside.median()) * rows.n)
    return max(counts)


def _neighbours(rows: Rows, space: Space, trials: Trials) -> tuple[Tensor, Tensor]:
    """Queries (q, d), and their true neighbours (q, k, d), in the space of inner products."""
    used, where = np.unique(trials.found.indices, return_inverse=True)
    values = rows.read(used).cpu()
    inside = space.rows(values, rows.squares(used, values))
    return space.queries(trials.queries), inside[torch.from_numpy(where.reshape(trials.found.indices.shape))]


def _scores(space: Space, trials: Trials) -> Tensor:
    """Scores (q, k) of true neighbours."""
    return torch.from_numpy(score_of(trials.found.distances, trials.queries, space.metric)).float()


def _short(space: Space, trials: Trials, values: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Differences (q, k), for each number of neighbours, between the next neighbour after these and values of theirs.

    If one of them alone is missed, the next is the last of those that are found.
    """
    scored = _scores(space, trials)
    for k in RANKS:
        yield k, scored[:, k : k + 1] - values[:, :k]


def _needed_margin(rows: Rows, lists: Lists, space: Space, quantiser: Quantiser, trials: Trials) -> float:
    """Margin, relative to the length of a query, by which codes may make a neighbour worse than others are."""
    queries, near = _neighbours(rows, space, trials)
    flat = near.reshape(-1, near.shape[2])
    codes, own = encode(flat, lists, quantiser)
    coded = lists.centres[torch.from_numpy(own.astype(np.int64))] + quantiser.decode(codes)
    products = (coded.reshape(near.shape) * queries[:, None]).sum(2)
    lengths = queries.norm(dim=1)[:, None].clamp(1e-30)
    needed = [float(torch.quantile((short / lengths).flatten(), SURE)) for _, short in _short(space, trials, products)]
    # faiss rounds products of a query with code books to 8 bits of the widest.
    spans = float((quantiser.books.max(1) - quantiser.books.min(1)).max())
    rounding = spans / 255 * len(quantiser.books) ** 0.5 / queries.shape[1] ** 0.5
    return max(0.0, *needed) + 3 * float(rounding)


def _needed_z(rows: Rows, index: Approximate, trials: Trials) -> float:
    """Standard deviations by which the centres of neighbours' lists may be short of what others are."""
    queries, near = _neighbours(rows, index.space, trials)
    own = assign(near.reshape(-1, near.shape[2]), index.lists.centres).reshape(near.shape[:2])
    coarse, one = index.lists.bounds(queries, 1.0)
    deviations = (one - coarse).gather(1, own).clamp(min=1e-30)
    centres = coarse.gather(1, own)
    shorts = _short(index.space, trials, centres)
    return max(0.5, *(float(torch.quantile((short / deviations[:, :k]).flatten(), SURE)) for k, short in shorts))


def _scanner(rows: Rows, space: Space, lists: Lists, quantiser: Quantiser, device: torch.device) -> Scanner:
    """Put all rows into their lists, some lists at a time: of the others, no codes are in memory twice."""
    own, centres = np.empty(rows.n, np.int32), lists.centres.to(device)
    for part, values, squares in chunks(rows, range(rows.n), device):
        own[part] = assign(space.rows(values, squares), centres).cpu().numpy()
    scanner = Scanner(quantiser, lists.centres)
    for group in np.array_split(np.arange(len(centres)), TURNS):
        at = np.flatnonzero((own >= group[0]) & (own <= group[-1]))
        codes = np.empty((len(at), quantiser.code_size), np.uint8)
        for part, values, squares in chunks(rows, at, device):
            of_lists = torch.from_numpy(own[at[part]].astype(np.int64)).to(device)
            codes[part] = quantiser.encode(space.rows(values, squares) - centres[of_lists])
        scanner.add(at, codes, own[at])
    return scanner


def _widened(rows: Rows, index: Approximate, trials: Mapping[str, Trials]) -> dict[str, dict[int, float]]:
    """Search wider until what is found is enough; give back the recall by kind and number of neighbours."""
    for round_ in range(ROUNDS + 1):
        recall = {kind: _recall(rows, index, _half(one, 1)) for kind, one in trials.items()}
        if round_ == ROUNDS or min(value for of_kind in recall.values() for value in of_kind.values()) >= ENOUGH:
            break
        index.z, index.margin = WIDER * index.z, WIDER * index.margin
    return recall


def _recall(rows: Rows, index: Approximate, trials: Trials) -> dict[int, float]:
    """Part of the true neighbours, or of others as near, among the first that are found."""
    recall = {}
    for k in RANKS:
        found, left = index.search(rows, trials.queries, k + 1)
        itself = found.indices == trials.own[:, None]
        itself[~itself.any(1), -1] = True
        distances = found.distances[~itself].reshape(-1, k)
        near = distances <= trials.found.distances[:, k - 1 : k] + 1e-9
        near[left] = True  # these are searched exactly
        recall[k] = float(np.mean(near))
    return recall


def extended(index: Approximate, rows: Rows, device: torch.device) -> Approximate:
    """Add the rows that come after those of an index, whose lists, codes and widths stay."""
    lists, space, quantiser = index.lists, index.space, index.scanner.quantiser
    codes, own = index.scanner.contents()
    parts: list[tuple[Codes, npt.NDArray[Any]]] = [(codes, own)]
    for _, values, squares in chunks(rows, range(index.scanner.n, rows.n), device):
        parts.append(encode(space.rows(values, squares), lists, quantiser))
    codes, own = (np.concatenate(part) for part in zip(*parts, strict=True))
    scanner = Scanner(quantiser, lists.centres)
    scanner.add(np.arange(rows.n), codes, own)
    return replace(index, scanner=scanner)
