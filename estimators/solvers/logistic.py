"""Many logistic regressions: chains of problems on the same samples, in batches, on CPU threads or a GPU."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from frofa.compute.devices import SMALL, keep_freed_memory, one_thread_each, threads_for
from frofa.estimators.solvers.path import solve_path
from frofa.estimators.solvers.preconditioner import is_small
from frofa.estimators.solvers.problems import Problems
from frofa.estimators.solvers.replay import replay_path
from frofa.estimators.solvers.stages import Stage

Array = npt.NDArray[np.float64]
STRIDE = 10.0
"""Largest ratio of one C to the next that is solved on the way to it: that of the grid in benchmarks/search.py."""
FREE = 1e18
"""Curvature of the loss in units of the penalty beyond which the way to a larger C has no more steps: what is left of
the penalty there is rounding (`test_the_way_to_a_stage_is_bounded`)."""
LIGHT, HEAVY = 1e-11, 1e10
"""Penalties of the mean cross-entropy beyond which float32 misleads: below the first, the loss may be all rounding;
above the second, weights are too small to be squared (`test_any_penalty`)."""
SPAN = 2.0**10
"""Root mean square of the largest channel up to which, and down to the inverse of which, features stay as they are:
squares and products are well within float32 (`test_all_channels_on_another_scale`)."""
GPU_SHARE = 0.5
"""Share of the free memory of a GPU that a batch may take; what it takes is estimated roughly."""
SHORT = 2**32
"""Multiplications of a product with the features that a GPU does faster than its kernels are launched one by one; those
of the five folds of `logistic` of benchmarks/search.py are a fourteenth of it."""


class Fit(NamedTuple):
    """Weights (n_scores, channels), intercepts (n_scores,), iterations, and whether the tolerance was reached."""

    coef: Array
    intercept: Array
    n_iter: int
    converged: bool


@dataclass(frozen=True)
class Chain:
    """Problems on the same samples, which differ in C: one for each stage, C in ascending order.

    Features (n, channels) are float64, as given: neither centred nor scaled. Classes `codes` (n,) are from 0 to
    `n_classes` - 1, and weights (n,) positive.
    """

    features: Array
    codes: npt.NDArray[np.intp]
    weights: Array
    n_classes: int
    stages: tuple[Stage, ...]

    @property
    def size(self) -> int:
        """Number of elements of features and scores."""
        return self.features.size + len(self.features) * self.n_classes


def solve_chains(
    chains: Sequence[Chain], device: torch.device, on_done: Callable[[int], object] = lambda _: None
) -> list[list[Fit]]:
    """Solve all problems of all chains, on one device: a list a chain, one Fit a stage.

    Chains of equal shape and stages go side by side, in batches that the memory of a GPU has room for; on a CPU, only
    small ones do, and threads share the batches. What is found depends on that within the tolerance only. `on_done` is
    called with the number of problems that are solved since the last call.
    """
    results: list[list[Fit]] = [[] for _ in chains]
    batches = _group(chains, device)
    lock = Lock()
    keep_freed_memory()

    def run(numbers: list[int]) -> Iterator[bool]:
        """Solve a batch; yield True after each stage."""
        for fits in _solve_batch([chains[i] for i in numbers], device):
            with lock:
                for i, fit in zip(numbers, fits, strict=True):
                    results[i].append(fit)
                on_done(len(numbers))
            yield True

    if len(batches) == 1 or device.type != "cpu":
        with threads_for(max(chain.size for chain in chains)):
            for numbers in batches:
                deque(run(numbers), maxlen=0)
        return results
    # Threads work on different batches: within one operation they would wait for each other.
    runs = deque(run(numbers) for numbers in batches)
    with one_thread_each(len(batches)) as n_workers, ThreadPoolExecutor(n_workers) as pool:
        for worker in [pool.submit(_work, runs) for _ in range(n_workers)]:
            worker.result()
    return results


def _work(runs: deque[Iterator[bool]]) -> None:
    """Advance runs in turn, by one stage each, so that all are done at about the same time."""
    while runs:
        try:
            run = runs.popleft()
        except IndexError:  # another thread was faster
            return
        if next(run, False):
            runs.append(run)


def _group(chains: Sequence[Chain], device: torch.device) -> list[list[int]]:
    """List the numbers of the chains that make up each batch."""
    groups: dict[tuple[int, int, int, tuple[Stage, ...]], list[int]] = {}
    for i, chain in enumerate(chains):
        key = chain.n_classes, chain.features.shape[1], _width(chain), chain.stages
        groups.setdefault(key, []).append(i)
    batches = []
    for numbers in groups.values():
        room = _room(max((chains[i] for i in numbers), key=lambda chain: chain.size), device)
        batches += [numbers[k : k + room] for k in range(0, len(numbers), room)]
    return batches


def _room(chain: Chain, device: torch.device) -> int:
    """Estimate how many chains of that size a batch takes."""
    if device.type == "cpu":
        return max(1, int(SMALL / chain.size))
    n, width, n_scores = len(chain.features), _width(chain), chain.n_classes
    # Bytes of a chain: of its features in both formats; of weights, directions and the memory of pairs; of scores.
    size = 44 * n * width + 250 * n_scores * width + 200 * n * n_scores
    free = float(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 2.0**32
    return max(1, math.floor(GPU_SHARE * free / size))


def _width(chain: Chain) -> int:
    """Count the channels that are solved for: the samples' span, the constant one, and zeros up to a multiple of 8."""
    width: int = min(chain.features.shape) + 1
    return -(-width // 8) * 8


def _solve_batch(chains: Sequence[Chain], device: torch.device) -> Iterator[list[Fit]]:
    """Yield the fits of all chains, stage by stage."""
    problems, spans = _stack(chains, device)
    # Weighted squares of all features that are penalised: the loss of no problem has a larger Hessian.
    curvature = float((problems.scales[:, :, :-1].sum((1, 2)) * problems.total * problems.squared_units).max())
    path = _steps_to(chains[0].stages, curvature, problems.n_scores)
    largest, least = problems.penalty(path[0].C).max(), problems.penalty(path[-1].C)[:, :, 0].min()
    small = is_small(problems)
    if small or float(largest) > HEAVY or float(least) < LIGHT:
        problems.use_float64()
    recorded = device.type == "cuda" and not small and problems.exact.numel() * problems.n_scores <= SHORT
    solve = replay_path if recorded else solve_path
    # One array for all stages: memory that is new costs more by the piece than the copy does.
    kept = iter(np.empty((len(chains[0].stages), len(chains), problems.n_scores, chains[0].features.shape[1])))
    for stage, solution in zip(path, solve(problems, path), strict=True):
        if stage.tol is not None:
            coefs, intercepts = _restore(spans, problems.unbound(solution.coef, stage.C), next(kept))
            ends = zip(solution.n_iter.tolist(), solution.converged.tolist(), strict=True)
            yield [Fit(coefs[i], intercepts[i], *end) for i, end in enumerate(ends)]


def _stack(chains: Sequence[Chain], device: torch.device) -> "tuple[Problems, list[_Span]]":
    """Put chains into tensors of one shape; rows beyond those of a chain have no weight."""
    n, width = max(len(chain.features) for chain in chains), _width(chains[0])
    x = torch.zeros(len(chains), n, width, dtype=torch.float64, device=device)
    codes = torch.zeros(len(chains), n, dtype=torch.int64, device=device)
    weights = torch.zeros(len(chains), n, dtype=torch.float64, device=device)
    units, spans = torch.ones(len(chains), dtype=torch.float64, device=device), list[_Span]()
    for i, chain in enumerate(chains):
        # Rows (n, width - 1 at most) of the problem as it is solved, and the constant channel at the end.
        rows, span = _centre(torch.as_tensor(np.require(chain.features, None, "W"), device=device))
        units[i] = span.unit
        x[i, : len(rows), : rows.shape[1]] = rows
        x[i, : len(rows), -1] = 1
        codes[i, : len(rows)] = torch.tensor(chain.codes, device=device)
        weights[i, : len(rows)] = torch.tensor(chain.weights, device=device)
        spans.append(span)
    return Problems(x, codes, weights, chains[0].n_classes, units if (units != 1).any() else None), spans


def _steps_to(stages: Sequence[Stage], curvature: float, n_scores: int) -> list[Stage]:
    """Put rough stages before and between those that are asked for, from a C at which the penalty outweighs the rest.

    There, the Hessian of the loss at equal probabilities is no larger than the penalty.
    """
    path: list[Stage] = []
    C = STRIDE * (n_scores + 1) / curvature if curvature > 0 else stages[0].C
    # Beyond this C, what is left of the penalty is rounding: no stage is added on the way there.
    most = C * FREE
    for stage in stages:
        while min(stage.C * 0.999, most) > C * STRIDE:
            C *= STRIDE
            path.append(Stage(C, None, stage.max_iter))
        path.append(stage)
        C = stage.C
    return path


class _Span(NamedTuple):
    """Change that made features a problem: centred, divided by `unit`, and rotated into the span of few samples.

    The mean is (channels,); the basis of the span, (channels, width), is None where it is all channels.
    """

    mean: Tensor
    basis: Tensor | None
    width: int
    unit: float


def _restore(spans: Sequence[_Span], solved: Tensor, coefs: Array) -> tuple[Array, Array]:
    """Fill in the weights (B, n_scores, channels) for features as given, and find the intercepts (B, n_scores)."""
    if solved.shape[1] > 1:
        solved = solved - solved.mean(1, keepdim=True)  # which changes no probability, and has the least square
    # Undo, problem by problem, the division and the rotation of its features.
    parts = [solved[i, :, : span.width] / span.unit for i, span in enumerate(spans)]
    parts = [part if span.basis is None else part @ span.basis.T for part, span in zip(parts, spans, strict=True)]
    restored = torch.stack(parts)
    # What the means add to the scores is taken off the intercepts.
    shift = restored @ torch.stack([span.mean for span in spans]).unsqueeze(2)
    intercepts = solved[:, :, -1] - shift.squeeze(2)
    if intercepts.shape[1] > 1:
        intercepts = intercepts - intercepts.mean(1, keepdim=True)  # which changes no probability
    torch.from_numpy(coefs).copy_(restored)
    return coefs, intercepts.cpu().numpy().copy()


def _centre(features: Tensor) -> tuple[Tensor, _Span]:
    """Centre features, and rotate them into the span of the samples where those are fewer than the channels.

    That is exact: the solution lies in the span, and the penalty knows no rotation.
    """
    mean = features.mean(0)
    centred = features - mean
    unit = _unit_of(centred)
    if unit != 1:
        centred = centred / unit
    if len(features) >= features.shape[1]:
        return centred, _Span(mean, None, features.shape[1], unit)
    basis, triangle = torch.linalg.qr(centred.T)
    return triangle.T, _Span(mean, basis, len(features), unit)


def _unit_of(centred: Tensor) -> float:
    """Find the power of two near the root mean square of the largest channel, where that is far from 1; else 1.

    Squares and products of what is divided by it are what float32 holds, whatever features are measured in.
    """
    largest = float(centred.abs().max())
    if not largest:
        return 1.0
    size = largest * float((centred / largest).square().mean(0).max().sqrt())
    return 1.0 if 1 / SPAN <= size <= SPAN else 2.0 ** round(math.log2(size))
