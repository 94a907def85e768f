"""Heads on tokens by the hundred: plans are grouped by shape, cut to what memory holds, and trained together."""

import gc
import threading
import traceback
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from frofa.compute.cuda_graphs import CAPTURES
from frofa.compute.devices import keep_freed_memory
from frofa.compute.memory import is_out_of_memory
from frofa.estimators.models.map_gradients import MapModel
from frofa.estimators.models.map_head import init_map_head
from frofa.estimators.tokens.batches import layout_of
from frofa.estimators.tokens.lazy import Tokens
from frofa.estimators.tokens.padding import PaddedTokens
from frofa.estimators.training.loop import Labelled, Model, train
from frofa.estimators.training.streams import HeadPlan, Part, Streams

CPU_MEMORY = 2**30
"""Bytes that the heads trained at a time on a CPU may take."""
CPU_HEADS = 12
"""Heads of a stream that a CPU trains together: they share its batches."""
GPU_SHARE = 0.4
"""Of the free memory of a device: what heads may take."""


class Trained(NamedTuple):
    """A trained head: its weights, and the step at which they were reached."""

    weights: dict[str, npt.NDArray[np.float32]]
    n_iter: int


Outcome = Trained | Exception


def fit_plans(
    tokens: Tokens,
    plans: Sequence[HeadPlan],
    *,
    memory: int | None = None,
    on_step: Callable[[int], object] = lambda _: None,
    on_done: Callable[[int], object] = lambda _: None,
) -> list[Outcome]:
    """Train the heads of all plans.

    Parameters
    ----------
    tokens : Tensor, LazyTokens or PaddedTokens of shape (n, P + N, C)
        Floating point, on the device to train on; no head holds a copy.
    plans : sequence of HeadPlan
        A head's result does not depend on the others.
    memory : int, default=None
        Bytes that heads may take at a time; None is 1 GiB on a CPU, 40 % of the free memory of another device.
    on_step : callable
        Called after each step with the number of heads that took it.
    on_done : callable
        Called with the number of heads that are done.

    Returns
    -------
    list of Trained or Exception
        In the order of the plans; what a head's training raises is in its place.
    """
    work = _Work(tokens, plans, on_step)
    n_workers = 1
    if tokens.device.type == "cpu":
        keep_freed_memory()
        n_workers = torch.get_num_threads()
    chunks = deque(_chunks(tokens, plans, memory or free_memory(tokens.device), n_workers))
    n_workers = min(n_workers, len(chunks))
    if n_workers > 1:
        _run_in_threads(work, chunks, n_workers, on_done)
    while chunks:
        done, left = work.attempt(chunks.popleft())
        chunks.extendleft(reversed(left))
        on_done(done)
    return work.results


def _run_in_threads(work: "_Work", chunks: deque[list[int]], n_workers: int, on_done: Callable[[int], object]) -> None:
    """Let each thread train other heads: threads that share an operation wait for each other at every one."""
    with _one_thread_each(), ThreadPoolExecutor(n_workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        running: set[Future[tuple[int, list[list[int]]]]] = set()
        try:
            while chunks or running:
                while chunks and len(running) < n_workers:
                    running.add(pool.submit(work.attempt, chunks.popleft()))
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    done, left = future.result()
                    chunks.extendleft(reversed(left))
                    on_done(done)
        except BaseException:
            work.stop.set()
            raise


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Restore PyTorch's number of threads, which those that are started inherit."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _StoppedError(Exception):
    """Another thread was interrupted."""


class _Work:
    """The results so far, and how to get more."""

    def __init__(self, tokens: Tokens, plans: Sequence[HeadPlan], on_step: Callable[[int], object]):
        self.tokens, self.plans, self.on_step = tokens, plans, on_step
        self.results: list[Outcome] = [RuntimeError("not trained")] * len(plans)
        self.limit = max(1, len(plans))
        self.lock, self.stop = threading.Lock(), threading.Event()

    def _tick(self, n_heads: int) -> None:
        if self.stop.is_set():
            raise _StoppedError
        with self.lock:
            self.on_step(n_heads)

    def attempt(self, chunk: list[int]) -> tuple[int, list[list[int]]]:
        """Train some heads; return how many are done, and those that are to be tried in smaller parts."""
        if len(chunk) > self.limit:
            return 0, _split(chunk, self.limit)
        try:
            trained = _train_together(self.tokens, [self.plans[i] for i in chunk], self._tick)
        except Exception as error:
            if self.stop.is_set():
                raise
            if error.__traceback__ is not None:
                traceback.clear_frames(error.__traceback__)  # they hold the tensors that there was no memory for
            failure = error
        else:
            for i, one in zip(chunk, trained, strict=True):
                self.results[i] = one
            return len(chunk), []
        if len(chunk) == 1:
            self.results[chunk[0]] = failure
            return 1, []
        half = -(-len(chunk) // 2)
        if is_out_of_memory(failure):
            self.limit = min(self.limit, half)
            gc.collect()  # a recorded step and what it belongs to refer to each other
            if self.tokens.device.type == "cuda":
                CAPTURES.empty_cache()
        return 0, _split(chunk, half)


def free_memory(device: torch.device) -> int:
    """Bytes that heads may take."""
    return int(GPU_SHARE * torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else CPU_MEMORY


def _chunks(tokens: Tokens, plans: Sequence[HeadPlan], memory: int, n_workers: int) -> list[list[int]]:
    """Heads that are trained together: of the same shapes, those of a stream in a row; the longest come first."""
    groups: dict[Hashable, dict[Hashable, list[int]]] = {}
    for i, plan in enumerate(plans):
        groups.setdefault(_shape(tokens, plan), {}).setdefault(plan.stream, []).append(i)
    chunks: list[list[int]] = []
    for streams in groups.values():
        plan = plans[next(iter(streams.values()))[0]]
        fitting = max(1, memory // n_workers // _bytes(_image(tokens), plan))
        if tokens.device.type == "cpu":
            size = min(fitting, CPU_HEADS, -(-len(plans) // n_workers))
            chunks += [part for heads in streams.values() for part in _split(heads, size)]
        else:  # streams with the same number of heads next to each other, then those of the same source
            ordered = sorted(streams.values(), key=len)
            chunks += _split([i for heads in ordered for i in heads], fitting)
    return sorted(chunks, key=lambda chunk: -sum(plans[i].schedule.n_steps for i in chunk))


def _split(heads: list[int], size: int) -> list[list[int]]:
    return [heads[i : i + size] for i in range(0, len(heads), size)]


def _shape(tokens: Tokens, plan: HeadPlan) -> Hashable:
    """What heads that are trained together have in common."""
    hidden = int(tokens.shape[2] * plan.mlp_ratio)
    recordable = plan.augment is None or plan.augment.recordable or tokens.device.type == "cpu"
    grid = None if plan.grid is None else tuple(plan.grid)
    shapes = plan.n_batch, plan.n_classes, plan.num_heads, hidden, plan.n_prefix, grid
    return *shapes, plan.soft_moe, plan.validation is None, recordable, layout_of(tokens, plan.train.rows)


def _bytes(image: Tensor, plan: HeadPlan) -> int:
    if plan.soft_moe is not None:
        return plan.soft_moe.head_bytes(image, plan.n_batch)
    return head_bytes(image, plan.n_batch, plan.mlp_ratio)


def _image(tokens: Tokens) -> Tensor:
    """An image, or one like the largest."""
    return torch.empty(tokens.shape[1:], device="meta") if isinstance(tokens, PaddedTokens) else tokens[0]


def head_bytes(image: Tensor, n_batch: int, mlp_ratio: float = 4.0) -> int:
    """Memory that training one MAP head takes, roughly, in bytes, on images like one of shape (N, C)."""
    n_tokens, channels = image.shape
    hidden = int(channels * mlp_ratio)
    parameters = 4 * channels**2 + 2 * channels * hidden + 20 * channels
    return 4 * (5 * parameters + n_batch * (3 * n_tokens * channels + 12 * channels + 3 * hidden))


def _train_together(tokens: Tokens, plans: list[HeadPlan], on_step: Callable[[int], object]) -> list[Outcome]:
    trained, n_iter = train(
        _initial(tokens, plans),
        _model(plans[0]),
        Streams(tokens, plans),
        [plan.schedule for plan in plans],
        validation=_validation(tokens, plans),
        patience=[plan.patience for plan in plans],
        on_step=on_step,
    )
    on_host = {name: value.cpu().numpy() for name, value in trained.items()}
    return [
        _outcome({name: value[i].copy() for name, value in on_host.items()}, steps, plan)
        for i, (steps, plan) in enumerate(zip(n_iter, plans, strict=True))
    ]


def _model(plan: HeadPlan) -> Model:
    return plan.soft_moe or MapModel(plan.num_heads)


def _outcome(weights: dict[str, npt.NDArray[np.float32]], n_iter: int, plan: HeadPlan) -> Outcome:
    if all(np.isfinite(value).all() for value in weights.values()):
        return Trained(weights, n_iter)
    return ValueError(f"training diverged (weights are not finite): lower lr. Got lr={plan.schedule.lr}.")


def _initial(tokens: Tokens, plans: list[HeadPlan]) -> dict[str, Tensor]:
    """Initial parameters of all heads; those that start alike are drawn once."""
    starts = [_start(plan) for plan in plans]
    drawn: dict[Hashable, dict[str, Tensor]] = {}
    for start, plan in zip(starts, plans, strict=True):
        if start not in drawn:
            fresh = _draw(tokens.shape[2], plan, Generator().manual_seed(plan.seeds[0]))
            drawn[start] = {**fresh, **(plan.initial or {})}
    which = torch.tensor([list(drawn).index(start) for start in starts], device=tokens.device)
    names = drawn[starts[0]]
    return {name: torch.stack([one[name] for one in drawn.values()]).to(tokens.device)[which] for name in names}


def _start(plan: HeadPlan) -> Hashable:
    """Equal for heads of equal initial parameters."""
    return plan.seeds[0] if plan.initial is None else ("given", plan.initial["latent"].data_ptr())


def _draw(channels: int, plan: HeadPlan, generator: Generator) -> dict[str, Tensor]:
    """Fresh parameters of one head."""
    if plan.soft_moe is not None:
        return plan.soft_moe.initial(channels, plan.n_classes, generator)
    return init_map_head(channels, plan.n_classes, plan.mlp_ratio, generator)


def _validation(tokens: Tokens, plans: list[HeadPlan]) -> list[Labelled | None] | None:
    """What each head is validated on, equal samples once."""
    if plans[0].validation is None:
        return None
    parts = {part.key(): part for plan in plans if (part := plan.validation) is not None}
    labelled = {key: _labelled(tokens, part) for key, part in parts.items()}
    return [None if plan.validation is None else labelled[plan.validation.key()] for plan in plans]


def _labelled(tokens: Tokens, part: Part) -> Labelled:
    rows, codes, weights = (torch.as_tensor(x, device=tokens.device) for x in (part.rows, part.codes, part.weights))
    if isinstance(tokens, PaddedTokens):
        batch = tokens.batch(rows, tokens.layout(part.rows))
        return Labelled(batch.patches, codes, weights, mask=batch.mask)
    return Labelled(cast(Tensor, tokens), codes, weights, rows)
