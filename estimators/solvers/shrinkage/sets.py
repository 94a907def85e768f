"""Support sets of the same features, by the hundred: grouped by shape, filled up, and fitted side by side."""

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from frofa.compute.devices import one_thread_each, threads_for
from frofa.compute.memory import row_chunks
from frofa.estimators.solvers.shrinkage.fitting import Problems, Solution, fit
from frofa.estimators.solvers.shrinkage.selection import choose_shares

Array = npt.NDArray[np.float64]
Blocks = Sequence[Sequence[npt.NDArray[np.floating]]]
"""Blocks of features: sequences of views, each (n_rows, C)."""
GPU_SHARE, CPU_MEMORY = 0.3, 2**27
"""Share of a GPU's free memory, and bytes of a CPU's, that sets fitted side by side may take by estimate."""
STEP = 1.25
"""Largest ratio of the sizes of sets that are filled up to one shape."""


class SupportSet(NamedTuple):
    """Samples of one fit: rows (n,) of the features, their classes (n,), and weights (n,), some of them positive.

    Logarithms of class priors are (K,); None are those of the weights.
    """

    rows: npt.NDArray[np.intp]
    codes: npt.NDArray[np.intp]
    weights: Array
    n_classes: int
    log_priors: Array | None


class Fitted(NamedTuple):
    """Averaged discriminant of a set, as in `frofa.estimators.solvers.shrinkage.fitting.Solution`.

    Shifts and scales of the stages are (S, D), shares of blocks (n_blocks,), weights of the discriminant (S, K, D), its
    intercepts (K,); inverse temperatures, losses and weights of members are (S, L, G), and logits of left-out samples
    (n, K).
    """

    shifts: Array
    scales: Array
    shares: Array
    coef: Array
    intercept: Array
    temperatures: Array
    losses: Array
    weights: Array
    left_out: Array


def fit_sets(
    blocks: Blocks,
    sets: Sequence[SupportSet],
    device: torch.device,
    on_done: Callable[[int], object] = lambda _: None,
    background: Blocks = (),
    shares: Array | None = None,
    copies: Array | None = None,
) -> list[Fitted]:
    """Fit all sets, which are rows of the blocks; those of a background have images without labels, for all sets.

    Blocks have these shares (n_blocks,), of sum 1; those of each set are chosen by leave-one-out where they are None.
    Augmented copies (n, n_views * n_copies, D) of the samples of a single set have the blocks side by side.
    """
    on_device = _to_device(blocks, device)
    shared = [[view.double().unsqueeze(0) for view in block] for block in _to_device(background, device)]
    width, n_rows = sum(block[0].shape[1] for block in blocks), len(background[0][0]) if background else 0
    used = [used_samples(each) for each in sets]
    results: dict[int, Fitted] = {}
    lock = Lock()

    def run(numbers: list[int]) -> None:
        part = [used[i] for i in numbers]
        problems = _stack(on_device, part, shares, device)._replace(background=shared)
        if copies is not None:
            problems = problems._replace(copies=_split(copies[sets[0].weights > 0], blocks, device))
        solution = fit(problems if shares is not None else problems._replace(shares=choose_shares(problems)))
        for i, fitted in zip(numbers, unstack(solution, part, [sets[i] for i in numbers]), strict=True):
            results[i] = fitted
        with lock:
            on_done(len(numbers))

    chunks = _chunks(used, width, len(blocks[0]), n_rows, device)
    if len(chunks) == 1 or device.type != "cpu":
        with threads_for(max(len(used[i].rows) for i in chunks[-1]) * width):
            for numbers in chunks:
                run(numbers)
    else:
        # Threads fit different sets: within one operation they would wait for each other.
        with one_thread_each(len(chunks)) as n_workers, ThreadPoolExecutor(n_workers) as pool:
            deque(pool.map(run, chunks), maxlen=0)
    return [results[i] for i in range(len(sets))]


def _chunks(sets: Sequence[SupportSet], width: int, n_views: int, n_rows: int, device: torch.device) -> list[list[int]]:
    """Cut groups of sets to what memory holds and, on a CPU, so that there are some for each thread."""
    n_threads = torch.get_num_threads() if device.type == "cpu" else 1
    chunks = []
    for group in _groups(sets, width):
        size = _bytes_of(sets[group[-1]], width, n_views) + 32 * n_rows * width
        limit = min(_memory(device), -(-len(group) // n_threads) * size)
        chunks += [group[part] for part in row_chunks(len(group), limit, size)]
    return chunks


def _to_device(blocks: Blocks, device: torch.device) -> list[list[Tensor]]:
    return [[torch.as_tensor(np.require(view, None, "W"), device=device) for view in block] for block in blocks]


def _split(copies: Array, blocks: Blocks, device: torch.device) -> list[list[Tensor]]:
    """Cut copies (n, m, D) into blocks of m tensors (1, n, C)."""
    parts = torch.as_tensor(copies, device=device).split([block[0].shape[1] for block in blocks], 2)
    return [list(part.unsqueeze(0).unbind(2)) for part in parts]


def used_samples(each: SupportSet) -> SupportSet:
    """Choose the samples of positive weight."""
    used = each.weights > 0
    return each._replace(rows=each.rows[used], codes=each.codes[used], weights=each.weights[used])


def _in_place(left_out: Array, each: SupportSet) -> Array:
    """Put logits of the samples of positive weight where the samples are; others have none."""
    if len(left_out) == len(each.rows):
        return left_out
    logits = np.full((len(each.rows), each.n_classes), np.nan)
    logits[each.weights > 0] = left_out
    return logits


def _groups(sets: Sequence[SupportSet], width: int) -> list[list[int]]:
    """Group sets of as many classes and similar size, in ascending size; those of fewer samples than channels apart."""
    groups: dict[Hashable, list[list[int]]] = {}
    for i in sorted(range(len(sets)), key=lambda i: len(sets[i].rows)):
        each = sets[i]
        n = len(each.rows)
        found = groups.setdefault((each.n_classes, each.log_priors is None, n < width), [])
        if not found or n > STEP * len(sets[found[-1][0]].rows):
            found.append([])
        found[-1].append(i)
    return [part for found in groups.values() for part in found]


def _bytes_of(each: SupportSet, width: int, n_views: int) -> int:
    """Estimate the bytes that a set takes."""
    n = len(each.rows)
    rank = min(n, width)
    return 8 * (n * width * (12 + n_views) + 6 * rank * (rank + width) + n * each.n_classes * 150)


def _memory(device: torch.device) -> int:
    return int(GPU_SHARE * torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else CPU_MEMORY


def _stack(
    blocks: Sequence[Sequence[Tensor]], sets: Sequence[SupportSet], shares: Array | None, device: torch.device
) -> Problems:
    """Stack sets (B, n, ...) of one shape: rows that fill it up have no weight."""
    n = max(len(each.rows) for each in sets)
    rows, codes = (np.zeros((len(sets), n), np.int64) for _ in range(2))
    weights = np.zeros((len(sets), n))
    for i, each in enumerate(sets):
        m = len(each.rows)
        rows[i, :m], codes[i, :m], weights[i, :m] = each.rows, each.codes, each.weights
    chosen, equal = torch.from_numpy(rows).to(device), np.full(len(blocks), 1 / len(blocks))
    priors = [each.log_priors for each in sets if each.log_priors is not None]
    return Problems(
        [[view[chosen].double() for view in block] for block in blocks],
        torch.from_numpy(equal if shares is None else shares).to(device).expand(len(sets), -1),
        torch.from_numpy(codes).to(device),
        torch.from_numpy(weights).to(device),
        sets[0].n_classes,
        torch.from_numpy(np.stack(priors)).to(device) if priors else None,
    )


def unstack(solution: Solution, used: Sequence[SupportSet], sets: Sequence[SupportSet]) -> list[Fitted]:
    """Take a solution apart: one for each of the sets, of which those used have the samples of positive weight."""
    parts = (
        torch.stack([stage.shift for stage in solution.stages], 1),
        torch.stack([stage.scale for stage in solution.stages], 1),
        solution.shares,
        torch.stack(solution.coefs, 1),
        *solution[3:],
    )
    arrays = [part.cpu().numpy() for part in parts]
    found = (Fitted(*(array[i].copy() for array in arrays)) for i in range(len(sets)))
    return [
        one._replace(left_out=_in_place(one.left_out[: len(part.rows)], each))
        for one, part, each in zip(found, used, sets, strict=True)
    ]
