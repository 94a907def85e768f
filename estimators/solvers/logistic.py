"""Many logistic regressions: batches of paths, on CPU threads or a GPU."""

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
"""Ratio of one C to the next that is solved on the way to it, at most."""
FREE = 1e18
"""Curvature of the loss in units of the penalty beyond which the way to a larger C has no more steps: what is left of
the penalty there is rounding."""
LIGHT, HEAVY = 1e-11, 1e10
"""Penalties of the mean cross-entropy beyond which float32 misleads: below the first, the loss may be all rounding;
above the second, weights are too small to be squared."""
SPAN = 2.0**10
"""Root mean square of the largest channel up to which, and down to the inverse of which, features stay as they are."""
GPU_SHARE = 0.5
"""Of the free memory of a GPU, for a batch."""
SHORT = 2**32
"""Multiplications of a product with the features that a GPU does faster than its kernels are launched one by one."""


class Fit(NamedTuple):
    """Weights (n_scores, C), intercepts (n_scores,), iterations, and whether the tolerance was reached."""

    coef: Array
    intercept: Array
    n_iter: int
    converged: bool


@dataclass(frozen=True)
class Chain:
    """Problems on the same samples, which differ in C.

    Attributes
    ----------
    features : ndarray of float64, shape (n, C)
    codes : ndarray of int, shape (n,)
    weights : ndarray of float64, shape (n,)
        Positive.
    n_classes : int
    stages : tuple of Stage
        C in ascending order.
    """

    features: Array
    codes: npt.NDArray[np.intp]
    weights: Array
    n_classes: int
    stages: tuple[Stage, ...]

    @property
    def size(self) -> int:
        """Elements of the largest factor of a product."""
        return self.features.size + len(self.features) * self.n_classes


def solve_chains(
    chains: Sequence[Chain], device: torch.device, on_done: Callable[[int], object] = lambda _: None
) -> list[list[Fit]]:
    """Solve all problems of all chains.

    Chains of equal shape and stages go side by side, in batches that the memory of a GPU has room for; on a CPU, only
    small ones do, and threads share the batches. What is found depends on that within the tolerance only.

    Parameters
    ----------
    chains : sequence of Chain
    device : torch.device
    on_done : callable
        Called with the number of problems that are solved since the last call.

    Returns
    -------
    list of list of Fit
        A list a chain, one Fit a stage.
    """
    results: list[list[Fit]] = [[] for _ in chains]
    batches = _plan(chains, device)
    lock = Lock()
    keep_freed_memory()

    def run(places: list[int]) -> Iterator[None]:
        for fits in _solve_batch([chains[i] for i in places], device):
            with lock:
                for i, fit in zip(places, fits, strict=True):
                    results[i].append(fit)
                on_done(len(places))
            yield

    if len(batches) == 1 or device.type != "cpu":
        with threads_for(max(chain.size for chain in chains)):
            for places in batches:
                deque(run(places), maxlen=0)
        return results
    tasks = deque(run(places) for places in batches)
    with one_thread_each(len(batches)) as n_workers, ThreadPoolExecutor(n_workers) as pool:
        for worker in [pool.submit(_work, tasks) for _ in range(n_workers)]:
            worker.result()
    return results


def _work(tasks: deque[Iterator[None]]) -> None:
    """Advance tasks in turn, by one stage each, so that all are done at about the same time."""
    while tasks:
        try:
            task = tasks.popleft()
        except IndexError:  # another thread was faster
            return
        try:
            next(task)
        except StopIteration:
            continue
        tasks.append(task)


def _plan(chains: Sequence[Chain], device: torch.device) -> list[list[int]]:
    """Places of the chains that make up each batch."""
    groups: dict[tuple[int, int, int, tuple[Stage, ...]], list[int]] = {}
    for i, chain in enumerate(chains):
        key = chain.n_classes, chain.features.shape[1], _width(chain), chain.stages
        groups.setdefault(key, []).append(i)
    batches = []
    for places in groups.values():
        room = _room(max((chains[i] for i in places), key=lambda chain: chain.size), device)
        batches += [places[k : k + room] for k in range(0, len(places), room)]
    return batches


def _room(chain: Chain, device: torch.device) -> int:
    """How many chains of that size a batch takes."""
    if device.type == "cpu":
        return max(1, int(SMALL / chain.size))
    n, width, n_scores = len(chain.features), _width(chain), chain.n_classes
    size = 44 * n * width + 250 * n_scores * width + 200 * n * n_scores
    free = float(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 2.0**32
    return max(1, math.floor(GPU_SHARE * free / size))


def _width(chain: Chain) -> int:
    """Channels that are solved for: of the span of the samples, the constant one, and zeros up to a multiple of 8."""
    width: int = min(chain.features.shape) + 1
    return -(-width // 8) * 8


def _solve_batch(chains: Sequence[Chain], device: torch.device) -> Iterator[list[Fit]]:
    """Yield the fits of all chains, stage by stage."""
    n, width = max(len(chain.features) for chain in chains), _width(chains[0])
    x = torch.zeros(len(chains), n, width, dtype=torch.float64, device=device)
    codes = torch.zeros(len(chains), n, dtype=torch.int64, device=device)
    weights = torch.zeros(len(chains), n, dtype=torch.float64, device=device)
    units, spans = torch.ones(len(chains), dtype=torch.float64, device=device), []
    for i, chain in enumerate(chains):
        rows, span = _centre(torch.as_tensor(np.require(chain.features, None, "W"), device=device))
        units[i] = span.unit
        x[i, : len(rows), : rows.shape[1]] = rows
        x[i, : len(rows), -1] = 1
        codes[i, : len(rows)] = torch.tensor(chain.codes, device=device)
        weights[i, : len(rows)] = torch.tensor(chain.weights, device=device)
        spans.append(span)
    problems = Problems(x, codes, weights, chains[0].n_classes, units if (units != 1).any() else None)
    curvature = float((problems.scales[:, :, :-1].sum((1, 2)) * problems.total * problems.squared_units).max())
    path = _steps_to(chains[0].stages, curvature, problems.n_scores)
    largest, least = problems.penalty(path[0].C).max(), problems.penalty(path[-1].C)[:, :, 0].min()
    if is_small(problems) or float(largest) > HEAVY or float(least) < LIGHT:
        problems.use_float64()
    recorded = device.type == "cuda" and not is_small(problems) and x.numel() * problems.n_scores <= SHORT
    solve = replay_path if recorded else solve_path
    # One array for all stages: memory that is new costs more by the piece than the copy does.
    kept = iter(np.empty((len(chains[0].stages), len(chains), problems.n_scores, chains[0].features.shape[1])))
    for stage, solution in zip(path, solve(problems, path), strict=True):
        if stage.tol is not None:
            coefs, intercepts = _restore(spans, problems.unbound(solution.coef, stage.C), next(kept))
            ends = zip(solution.n_iter.tolist(), solution.converged.tolist(), strict=True)
            yield [Fit(coefs[i], intercepts[i], *end) for i, end in enumerate(ends)]


def _steps_to(stages: Sequence[Stage], curvature: float, n_scores: int) -> list[Stage]:
    """Put rough stages before and between those that are asked for, from a C at which the penalty outweighs the rest.

    There, the Hessian of the loss at equal probabilities is no larger than the penalty.
    """
    path: list[Stage] = []
    C = STRIDE * (n_scores + 1) / curvature if curvature > 0 else stages[0].C
    most = C * FREE
    for stage in stages:
        while min(stage.C * 0.999, most) > C * STRIDE:
            C *= STRIDE
            path.append(Stage(C, None, stage.max_iter))
        path.append(stage)
        C = stage.C
    return path


class _Span(NamedTuple):
    """Where the problem lies: centred features, in the span of the samples where they are fewer than the channels.

    They are divided by `unit`.
    """

    mean: Tensor
    basis: Tensor | None
    width: int
    unit: float


def _restore(spans: Sequence[_Span], solved: Tensor, coefs: Array) -> tuple[Array, Array]:
    """Fill in the weights (B, n_scores, C) for features as given; also returned are the intercepts (B, n_scores)."""
    if solved.shape[1] > 1:
        solved = solved - solved.mean(1, keepdim=True)  # which changes no probability, and has the least square
    parts = [solved[i, :, : span.width] / span.unit for i, span in enumerate(spans)]
    parts = [part if span.basis is None else part @ span.basis.T for part, span in zip(parts, spans, strict=True)]
    restored = torch.stack(parts)
    shift = restored @ torch.stack([span.mean for span in spans]).unsqueeze(2)
    intercepts = solved[:, :, -1] - shift.squeeze(2)
    if intercepts.shape[1] > 1:
        intercepts = intercepts - intercepts.mean(1, keepdim=True)  # which changes no probability
    torch.from_numpy(coefs).copy_(restored)
    return coefs, intercepts.cpu().numpy().copy()


def _centre(features: Tensor) -> tuple[Tensor, _Span]:
    """Centre, and rotate into the span, which is exact: the solution lies there, and the penalty knows no rotation."""
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
    """The power of two near the root mean square of the largest channel, where that is far from 1; and 1 elsewhere.

    Squares and products of what is divided by it are what float32 holds, whatever features are measured in.
    """
    largest = float(centred.abs().max())
    if not largest:
        return 1.0
    size = largest * float((centred / largest).square().mean(0).max().sqrt())
    return 1.0 if 1 / SPAN <= size <= SPAN else 2.0 ** round(math.log2(size))
